"""`evaluate()`: the accuracy of two ONNX models on the same samples."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from profiler.progress import Progress, silent
from quant.data import Options, open_data
from quant.inference import first_output
from quant.metrics import Comparison, compare_outputs
from quant.runtime import RuntimeSession, open_session

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def evaluate(
    first: str | Path | bytes | RuntimeSession,
    second: str | Path | bytes | RuntimeSession,
    data: Any,  # noqa: ANN401  # whatever open_data takes
    *,
    metrics: Sequence[str] | None = None,
    options: Options | None = None,
    device: str = "cpu",
    threads: int = 1,
    seed: int = 0,
    progress: Progress = silent,
) -> Comparison:
    """Run two ONNX models on the same samples and compare what they get right.

    Args:
        first: the model that the second is judged against: a file, its bytes, or an open session.
        second: the model that is judged.
        data: whatever `quant.open_data` takes; without labels the outputs are compared with each other.
        metrics: names from `quant.metrics.METRICS`; the task's default set where None.
        options: how data are read and pictures prepared, from `quant.data.data_options`; the same for all data.
        device: where to run, for models that are not open sessions.
        threads: that one operator may use, likewise.
        seed: of resampling.
        progress: called with the stage and the part of it that is done.

    Raises:
        DataError: the data cannot be read or does not fit the models.
        ModelError: a model does not load or run.
        UsageError: an unknown metric, or one that needs labels where there are none.
    """
    how = replace(options or Options(), progress=progress)
    samples = open_data(data, split="evaluation", options=how)
    sessions = [
        m if isinstance(m, RuntimeSession) else open_session(m, device=device, threads=threads) for m in (first, second)
    ]
    a, b = (
        first_output(session, samples, stage=f"evaluating {name}", progress=progress)
        for name, session in zip("ab", sessions, strict=True)
    )
    samples.check_classes(a.shape)
    found = compare_outputs(a, b, samples.read_labels(), task=samples.task, metrics=metrics, seed=seed)
    return replace(found, notes=(*samples.remarks(), *found.notes))
