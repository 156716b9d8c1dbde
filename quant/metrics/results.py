"""What an evaluation gave: plain records, and the `metrics` object of the report schemas."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quant.metrics.fidelity import Fidelity
    from quant.metrics.statistics import Interval

Number = float  # the name that a field of the class below takes for itself
MOST_IN_A_MATRIX = 200  # classes; beyond, a report lists the cells that are not zero


@dataclass(frozen=True)
class MetricResult:
    """One metric of both models.

    Attributes:
        name: as it was asked for: `f1:average=macro`.
        float: value of the first model; None where it has none (a model's fidelity to itself may be infinite).
        int8: value of the second model.
        drop: how much worse the second model is: positive is worse, whichever direction is better.
        interval: of the drop, at 95 %.
        verdict: "lost", "gained", "within LIMIT", "cannot tell", or "" where there is none to give.
        n: units that were compared.
        higher_is_better: the direction.
        method: how the interval was made.
        unit: what `n` counts: "sample", "map" or "image".
        p: of McNemar's exact test, for accuracy; None for others.
        detectable: the smallest drop that so many units could have shown; None where there is no interval.
        adjusted: the confidence that the verdict was drawn at, where it shares 5 % with others; None at 95 %.
        details: by "float" and "int8", what is more than a number: curves, values per class.
    """

    name: str
    float: Number | None
    int8: Number
    drop: Number | None
    interval: Interval | None
    verdict: str
    n: int
    higher_is_better: bool
    method: str
    unit: str = "sample"
    p: Number | None = None
    detectable: Number | None = None
    adjusted: Number | None = None
    details: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)

    def to_dict(self, names: tuple[str, str]) -> dict[str, Any]:
        """As JSON, the models under the names given; infinite and undefined numbers are null."""
        first, second = names
        row: dict[str, Any] = {
            first: self.float,
            second: self.int8,
            "drop": self.drop,
            "interval": self.interval,
            "verdict": self.verdict,
            "n": self.n,
            "higher_is_better": self.higher_is_better,
            "method": self.method,
            "unit": self.unit,
            "p": self.p,
            "detectable": self.detectable,
            "adjusted": self.adjusted,
        }
        if any(self.details.values()):
            row["details"] = dict(zip(names, self.details.values(), strict=True))
        plain: dict[str, Any] = _plain(row)
        return plain


@dataclass(frozen=True)
class Comparison:
    """The evaluation of two models.

    Attributes:
        metrics: by name, in the order asked for.
        confusion: both models' confusion matrices, rows truth, columns prediction; None without classes and labels.
        fidelity: per-sample closeness of the second model's outputs to the first's; None where no metric looked at it.
        task: "classification", "segmentation", "fidelity" (no labels), or another that metrics belong to.
        notes: what was guessed or is worth knowing, in sentences.
        seed: of every bootstrap.
        limit: the drop that verdicts speak of.
    """

    metrics: Mapping[str, MetricResult]
    confusion: tuple[np.ndarray, np.ndarray] | None
    fidelity: Fidelity | None
    task: str
    notes: tuple[str, ...]
    seed: int = 0
    limit: float = 0.01

    def to_dict(self, names: tuple[str, str] = ("float", "int8")) -> dict[str, Any]:
        """The `metrics` object of the report schemas, with the confusion matrices beside it; infinity is null."""
        return {
            "task": self.task,
            "metrics": {name: metric.to_dict(names) for name, metric in self.metrics.items()},
            "confusion": None if self.confusion is None else _matrices(self.confusion, names),
            "verdicts": {
                "drawn": sum(bool(metric.verdict) for metric in self.metrics.values()),
                "limit": self.limit,
                "adjustment": "Bonferroni, the first metric apart",
            },
            "seed": self.seed,
            "assumed": list(self.notes),
        }


def _matrices(matrices: tuple[np.ndarray, np.ndarray], names: tuple[str, str]) -> dict[str, Any]:
    """Whole, or where the classes are many `[truth, prediction, count]` of the cells that are not zero."""
    shown = {"rows": "truth", "columns": "prediction"}
    if len(matrices[0]) <= MOST_IN_A_MATRIX:
        return {**shown, **{name: matrix.tolist() for name, matrix in zip(names, matrices, strict=True)}}
    cells = {}
    for name, matrix in zip(names, matrices, strict=True):
        rows, columns = np.nonzero(matrix)
        cells[name] = np.stack([rows, columns, matrix[rows, columns]], axis=1).tolist()
    return {**shown, "cells": "truth, prediction, count", **cells}


def _plain(value: Any) -> Any:  # noqa: ANN401  # any JSON value
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not isfinite(value) else value
