"""Two models' outputs on the same samples, as metrics with intervals and verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from profiler.errors import DataError, UsageError
from quant.metrics.confusion import PairedCounts
from quant.metrics.fidelity import Fidelity, fidelity
from quant.metrics.registry import Evidence, MetricResult, default_metrics, find

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LIMIT = 0.01


@dataclass(frozen=True)
class Comparison:
    """The evaluation of two models.

    Attributes:
        metrics: by name, in the order asked for.
        confusion: both models' confusion matrices, rows truth, columns prediction; None without labels.
        fidelity: per-sample closeness of the second model's outputs to the first's.
        task: "classification", "segmentation" or "fidelity" (no labels).
        notes: what was guessed or is worth knowing, in sentences.
    """

    metrics: Mapping[str, MetricResult]
    confusion: tuple[np.ndarray, np.ndarray] | None
    fidelity: Fidelity
    task: str
    notes: tuple[str, ...]

    def to_dict(self, names: tuple[str, str] = ("float", "int8")) -> dict[str, Any]:
        """The `metrics` object of the report schemas, with the confusion matrices beside it."""
        first, second = names
        rows = {
            name: {
                first: m.float,
                second: m.int8,
                "drop": m.drop,
                "interval": list(m.interval) if m.interval else None,
                "verdict": m.verdict,
                "n": m.n,
                "higher_is_better": m.higher_is_better,
                "method": m.method,
            }
            for name, m in self.metrics.items()
        }
        matrices = None
        if self.confusion is not None:
            matrices = {
                "rows": "truth",
                "columns": "prediction",
                first: self.confusion[0].tolist(),
                second: self.confusion[1].tolist(),
            }
        return {"task": self.task, "metrics": rows, "confusion": matrices}


def compare_outputs(
    first: np.ndarray,
    second: np.ndarray,
    labels: np.ndarray | None,
    *,
    task: str | None = None,
    metrics: Sequence[str] | None = None,
    seed: int = 0,
    limit: float = LIMIT,
) -> Comparison:
    """Compare two models' outputs.

    Args:
        first: scores of the first model, (n, C) or (n, C, ...) with one set of scores per position.
        second: scores of the second model, the same shape.
        labels: classes, (n,) or (n, ...); None compares the outputs with each other.
        task: "classification" or "segmentation"; guessed from the shapes where None.
        metrics: names from the registry; the task's default set where None.
        seed: of every bootstrap.
        limit: the drop that verdicts speak of.

    Raises:
        DataError: shapes that do not go together, labels out of range, outputs that are not finite.
        UsageError: an unknown metric, or one that needs labels where there are none.
    """
    _check_outputs(first, second)
    notes: list[str] = []
    counts = None
    if labels is not None:
        labels, guess = _checked_labels(first, labels)
        if task is None:
            task = guess
            notes.append(f"taken as {task}: outputs {first.shape}, labels {labels.shape}")
        counts = PairedCounts(labels, first.argmax(axis=1), second.argmax(axis=1), first.shape[1])
    else:
        task = "fidelity"
    evidence = Evidence(counts, fidelity(first, second), seed, limit)
    results = {}
    for name in metrics or default_metrics(task):
        metric = find(name)
        if metric.needs_labels and counts is None:
            raise UsageError(f"the metric {name} needs labels, and the data has none")
        results[name] = metric.compute(name, metric, evidence)
    finite = {name: r for name, r in results.items() if not np.isnan(r.int8)}
    matrices = (counts.matrix(counts.first), counts.matrix(counts.second)) if counts else None
    return Comparison(finite, matrices, evidence.fidelity, task, tuple(notes))


def _check_outputs(first: np.ndarray, second: np.ndarray) -> None:
    if first.shape != second.shape:
        raise DataError(f"the two models' outputs differ in size: {first.shape} and {second.shape}")
    for which, outputs in (("first", first), ("second", second)):
        wrong = ~np.isfinite(outputs.reshape(len(outputs), -1)).all(axis=1)
        if wrong.any():
            raise DataError(
                f"the {which} model gives infinite or undefined outputs for {int(wrong.sum())} samples, "
                f"the first of them sample {int(wrong.argmax())}"
            )


def _checked_labels(outputs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, str]:
    """Labels as integers, and the task that their shape speaks of."""
    if outputs.ndim < 2:
        raise DataError(f"the model's output has the size {outputs.shape}; classes are expected along its second axis")
    expected = (len(outputs), *outputs.shape[2:])
    if labels.shape != expected:
        raise DataError(f"labels have the size {labels.shape}; outputs of {outputs.shape} call for {expected}")
    if not np.issubdtype(labels.dtype, np.integer):
        if not np.array_equal(labels, np.floor(labels)):
            raise DataError(f"labels are {labels.dtype} with fractions; classes are whole numbers")
        labels = labels.astype(np.int64)
    classes = outputs.shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(
            f"labels run from {labels.min()} to {labels.max()}; the model has {classes} classes, 0 to {classes - 1}"
        )
    return labels, "classification" if labels.ndim == 1 else "segmentation"
