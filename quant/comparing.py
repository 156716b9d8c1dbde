"""`compare()`: accuracy and latency of two ONNX models side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from profiler.errors import UsageError
from profiler.progress import Progress, silent
from profiler.sources.limits import DEFAULT
from quant.data import Options, open_data
from quant.evaluating import evaluate
from quant.inference import feeds
from quant.latency.affinity import pinned
from quant.latency.per_layer import SECONDS, compare_layers
from quant.latency.whole import Timing, time_models
from quant.machine import describe
from quant.result import ModelComparison
from quant.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from profiler.sources import Limits

TIMED_INPUTS = 16


def compare(  # noqa: PLR0913  # the contract's signature
    a: str | Path | bytes,
    b: str | Path | bytes,
    data: Any = None,  # noqa: ANN401  # whatever open_data takes
    *,
    metrics: Sequence[str] | None = None,
    options: Options | None = None,
    device: str = "cpu",
    threads: int = 1,
    seed: int = 0,
    seconds: float = 20.0,
    layers: bool = False,
    timing: Timing = Timing(),  # noqa: B008  # frozen
    trust: bool = False,
    limits: Limits | None = None,
    progress: Progress = silent,
) -> ModelComparison:
    """Compare two ONNX models; every verdict speaks of `b` against `a`.

    Args:
        a: a file or its bytes.
        b: another.
        data: samples for accuracy and timing, whatever `quant.open_data` takes; None times on random inputs only.
        metrics: NAME[:PARAMETER=VALUE]... of `quant.metrics.METRICS`; the task's default set where None.
        options: how data are read and pictures prepared, from `quant.data.data_options`; the same for all data.
        device: where to run both.
        threads: that one operator may use.
        seed: of random inputs and resampling.
        seconds: most time for the timing.
        layers: whether to time every layer as well, on the CPU.
        timing: what is measured beside the latency: cold start, memory, batch sizes; and on which cores.
        trust: take files of tensors that have several names.
        limits: how much a file may ask for.
        progress: called with the stage and the part of it that is done.

    Raises:
        DataError: the data cannot be read or does not fit the models.
        ModelError: a model does not load or run.
        RefusedError: a model would read what does not belong to it, run code of its own, or asks for too much.
        UsageError: an unknown metric, or one that needs labels or samples where there are none.
    """
    if data is None and metrics:
        raise UsageError(
            f"{', '.join(metrics)}: a metric needs samples, and there is no data; with --data DATA there is"
        )
    opening: dict[str, Any] = {"device": device, "threads": threads, "trust": trust, "limits": limits}
    comparison, inputs = None, None
    with pinned(timing.affinity):
        first, second = (open_session(m, **opening) for m in (a, b))
        if data is not None:
            how = replace(options or Options(), trust=trust, limits=limits or DEFAULT, progress=progress)
            samples = open_data(data, split="evaluation", options=how)
            comparison = evaluate(first, second, samples, metrics=metrics, seed=seed, progress=progress)
            few = samples.take(range(min(TIMED_INPUTS, len(samples))))
            inputs = [feed for feed, _ in feeds(first, few, batch=1)]
        del first, second  # the timing opens its own: their memory and threads would be in its way
    latency = time_models(a, b, timing, inputs=inputs, seed=seed, seconds=seconds, progress=progress, **opening)
    found = None
    if layers:
        found = compare_layers(
            *(a, b, inputs),
            threads=threads,
            seed=seed,
            seconds=min(SECONDS, seconds),
            trust=trust,
            limits=limits,
            progress=progress,
        )
    return ModelComparison(comparison, latency, {**describe().to_dict(), "seed": seed}, found)
