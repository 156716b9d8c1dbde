"""`evaluate()`: the accuracy of two ONNX models on the same samples."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from profiler.progress import Progress, silent
from profiler.sources.limits import DEFAULT
from quant.data import Options, open_data
from quant.runtime import RuntimeSession, open_session
from quant.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from profiler.sources import Limits
    from quant.metrics import Comparison


def evaluate(
    first: str | Path | bytes | RuntimeSession,
    second: str | Path | bytes | RuntimeSession,
    data: Any,  # noqa: ANN401  # whatever open_data takes
    *,
    metrics: Sequence[str] | None = None,
    task: str | None = None,
    options: Options | None = None,
    device: str = "cpu",
    threads: int = 1,
    seed: int = 0,
    trust: bool = False,
    limits: Limits | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Run two ONNX models on the same samples and compare what they get right.

    Both see the same batch; of its outputs only records are kept, so that samples may be many.

    Args:
        first: the model that the second is judged against: a file, its bytes, or an open session.
        second: the model that is judged.
        data: whatever `quant.open_data` takes; without labels the outputs are compared with each other.
        metrics: NAME[:PARAMETER=VALUE]... of `quant.metrics.METRICS`, the one that matters most first; the task's
            default set where None.
        task: "classification", "segmentation", or another that metrics belong to; what the data says, or guessed from
            the sizes of outputs and labels, where None.
        options: how data are read and pictures prepared, from `quant.data.data_options`; the same for all data.
        device: where to run, for models that are not open sessions.
        threads: that one operator may use, likewise.
        seed: of resampling.
        trust: take files of tensors that have several names.
        limits: how much a file may ask for.
        progress: called with the stage and the part of it that is done.

    Raises:
        DataError: the data cannot be read or does not fit the models.
        ModelError: a model does not load or run.
        RefusedError: a model would read what does not belong to it, run code of its own, or asks for too much.
        UsageError: an unknown metric, or one that needs labels where there are none.
    """
    how = replace(options or Options(), trust=trust, limits=limits or DEFAULT, progress=progress)
    samples = open_data(data, split="evaluation", options=how)
    a, b = (
        m
        if isinstance(m, RuntimeSession)
        else open_session(m, device=device, threads=threads, trust=trust, limits=limits)
        for m in (first, second)
    )
    trial = Trial(a, samples, metrics=metrics, task=task, seed=seed, progress=progress)
    return trial.against_first(b)
