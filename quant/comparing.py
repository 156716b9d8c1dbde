"""`compare()`: accuracy and latency of two ONNX models side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from profiler.progress import Progress, silent
from quant.data import open_data
from quant.evaluating import evaluate
from quant.inference import feeds
from quant.latency import compare_latency
from quant.machine import describe
from quant.result import ModelComparison
from quant.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from profiler.sources import Limits

TIMED_INPUTS = 16


def compare(
    a: str | Path | bytes,
    b: str | Path | bytes,
    data: Any = None,  # noqa: ANN401  # whatever open_data takes
    *,
    metrics: Sequence[str] | None = None,
    device: str = "cpu",
    threads: int = 1,
    seed: int = 0,
    seconds: float = 20.0,
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
        device: where to run both.
        threads: that one operator may use.
        seed: of random inputs and resampling.
        seconds: most time for the timing.
        trust: take files of tensors that have several names.
        limits: how much a file may ask for.
        progress: called with the stage and the part of it that is done.

    Raises:
        DataError: the data cannot be read or does not fit the models.
        ModelError: a model does not load or run.
        RefusedError: a model would read what does not belong to it, run code of its own, or asks for too much.
        UsageError: an unknown metric, or one that needs labels where there are none.
    """
    first, second = (open_session(m, device=device, threads=threads, trust=trust, limits=limits) for m in (a, b))
    comparison, inputs = None, None
    if data is not None:
        samples = open_data(data, split="evaluation")
        comparison = evaluate(first, second, samples, metrics=metrics, seed=seed, progress=progress)
        few = samples.take(range(min(TIMED_INPUTS, len(samples))))
        inputs = [feed for feed, _ in feeds(first, few, batch=1)]
    latency = compare_latency(first, second, inputs=inputs, seed=seed, seconds=seconds, progress=progress)
    return ModelComparison(comparison, latency, {**describe().to_dict(), "seed": seed})
