"""Two models' outputs on the same samples, as metrics with intervals and verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, isnan
from typing import TYPE_CHECKING, Any

import numpy as np

from profiler.errors import DataError, UsageError
from quant.metrics.confusion import ClassCounts, PairedCounts
from quant.metrics.fidelity import Fidelity, are_probabilities, fidelity
from quant.metrics.paired import Evidence, MetricResult, default_metrics, find

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LIMIT = 0.01
MOST_LISTED = 5
TASKS = ("classification", "segmentation")


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
        """The `metrics` object of the report schemas, with the confusion matrices beside it; infinity is null."""
        first, second = names
        rows = {
            name: {
                first: _json(m.float),
                second: _json(m.int8),
                "drop": _json(m.drop),
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


def _json(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


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
    if task not in (None, *TASKS):
        raise UsageError(f"no task {task!r}; there is {', '.join(TASKS)}")
    _check_outputs(first, second)
    notes = ["the outputs are probabilities; KL is taken of them as they are"] if are_probabilities(first) else []
    counts = None
    if labels is not None:
        first, second = (_without_empty_axes(x, labels) for x in (first, second))
        labels, guess = _checked_labels(first, labels)
        if task not in (None, guess):
            raise DataError(f"outputs {first.shape} with labels {labels.shape} are {guess}, not {task}")
        if task is None:
            notes.append(f"taken as {guess}: outputs {first.shape}, labels {labels.shape}")
        task = guess
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
    without = [name for name, r in results.items() if isnan(r.int8)]
    if without and metrics:
        raise UsageError(
            f"{', '.join(without)}: needs outputs with two classes or more along axis 1, got {first.shape}"
        )
    if without:
        notes.append(f"without {' and '.join(without)}: outputs of {first.shape} are no classes")
    if counts:
        notes += [*_ties(first, "first"), *_ties(second, "second")]
        notes += [
            *_undefined(counts.counts(counts.first), "first"),
            *_undefined(counts.counts(counts.second), "second"),
        ]
    found = {name: r for name, r in results.items() if name not in without}
    matrices = (counts.matrix(counts.first), counts.matrix(counts.second)) if counts else None
    return Comparison(found, matrices, evidence.fidelity, task, tuple(notes))


def _without_empty_axes(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Maps of one position, (n, C, 1, 1), are scores of a sample where there is one label for each."""
    whole = labels.ndim == 1 and outputs.ndim > 2 and outputs[0].size == outputs.shape[1]
    return outputs.reshape(outputs.shape[:2]) if whole else outputs


def _ties(outputs: np.ndarray, which: str) -> list[str]:
    """An int8 model has few values to give; where its best ones are equal, the class is a matter of order."""
    tied = int(((outputs == outputs.max(axis=1, keepdims=True)).sum(axis=1) > 1).sum())
    return [f"the {which} model's best score is tied {tied} times; the first of the classes counts"] if tied else []


def _undefined(counts: ClassCounts, which: str) -> list[str]:
    """0/0 counts as 0, as in scikit-learn, which warns of it too."""
    unnamed = np.flatnonzero((counts.predicted == 0) & (counts.actual > 0))
    absent = np.flatnonzero((counts.actual == 0) & (counts.predicted > 0))
    cases = (
        (unnamed, "precision is 0/0, taken as 0, in classes it never predicts"),
        (absent, "recall is 0/0, taken as 0, in classes without a sample"),
    )
    return [f"the {which} model's {words}: {_listed(classes)}" for classes, words in cases if len(classes)]


def _listed(classes: np.ndarray) -> str:
    shown = ", ".join(str(k) for k in classes[:MOST_LISTED])
    return shown if len(classes) <= MOST_LISTED else f"{shown} and {len(classes) - MOST_LISTED} more"


def _check_outputs(first: np.ndarray, second: np.ndarray) -> None:
    if first.shape != second.shape:
        raise DataError(f"the two models' outputs differ in size: {first.shape} and {second.shape}")
    if first.size == 0:
        raise DataError(f"there is nothing to compare: the outputs have the size {first.shape}")
    for which, outputs in (("first", first), ("second", second)):
        wrong = ~np.isfinite(outputs.reshape(len(outputs), -1)).all(axis=1)
        if wrong.any():
            raise DataError(
                f"the {which} model gives infinite or undefined outputs for {int(wrong.sum())} samples, "
                f"the first of them sample {int(wrong.argmax())}"
            )


def _checked_labels(outputs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, str]:
    """Labels as integers, and the task that their shape speaks of."""
    if outputs.ndim < 2 or outputs.shape[1] < 2:
        raise DataError(
            f"the model's output has the size {outputs.shape}; two classes or more are expected along its second axis"
        )
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
