"""Accuracy, top-k, and the ratios of a confusion matrix, as metrics over samples or maps.

A sample's record is its label and prediction, whatever the number of classes; a map's are the counts of the classes
that occur in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from profiler.errors import UsageError
from quant.metrics import confusion
from quant.metrics.base import Evaluated, MeanMetric, Metric, UnfitError
from quant.metrics.confusion import ClassCounts, PairedCounts
from quant.metrics.scores import IGNORED, class_scores, predicted, truth
from quant.metrics.statistics import HELD_AT_ONCE, Interval, mcnemar_exact, minimum_detectable_drop, tango_interval

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quant.metrics.base import Draws, Floats, Records
    from quant.metrics.confusion import Ratio

MOST_LISTED = 1000  # classes whose own values a report lists


@dataclass(frozen=True)
class Right(MeanMetric):
    """The part that is right: of samples, or of the positions of maps. Records are (right, counted), each (n,).

    Attributes:
        k: the true class is among so many with the highest scores; of equal scores the first classes are higher.
        ignore: the label that counts neither way.
        output: the name of the model's output; the first where it is "".
    """

    k: int = 1
    ignore: int | None = None
    output: str = ""
    bounds = (-1.0, 1.0)

    def __post_init__(self) -> None:
        """Refuse a k that makes no sense."""
        if self.k < 1:
            raise UsageError(f"topk counts the k best classes, k at least 1, got {self.k}")

    def collect(self, batch: Evaluated) -> Records:
        """As `Metric`."""
        labels = truth(batch, self.ignore, self.output)
        right, kept = self._right(batch, labels), labels != IGNORED
        axes = tuple(range(1, labels.ndim))
        return (right & kept).sum(axis=axes), kept.sum(axis=axes)

    def _right(self, batch: Evaluated, labels: np.ndarray) -> np.ndarray:
        if self.k == 1:
            return np.asarray(predicted(batch, self.output) == labels)
        scores = class_scores(batch, self.output)
        if self.k >= scores.shape[1]:
            raise UnfitError(
                f"with {scores.shape[1]} classes the true one is always among {self.k}; choose a smaller k"
            )
        own = np.maximum(labels, 0)[:, None]
        theirs = np.take_along_axis(scores, own, axis=1)
        classes = np.arange(scores.shape[1]).reshape(1, -1, *[1] * (scores.ndim - 2))
        better = (scores > theirs) | ((scores == theirs) & (classes < own))
        return np.asarray(better.sum(axis=1) < self.k)

    def count(self, records: Records) -> int:
        """As `Metric`."""
        return int((records[1] > 0).sum())

    def _discordant(self, first: Records, second: Records, draws: Draws) -> tuple[int, int] | None:
        """Samples that only one of the models gets right; None where they depend on each other, as pixels do."""
        if draws.groups is not None or first[1].max(initial=0) > 1 or not first[1].any():
            return None
        return int((first[0] > second[0]).sum()), int((second[0] > first[0]).sum())

    def p_value(self, first: Records, second: Records, draws: Draws) -> float | None:
        """McNemar's exact test."""
        pairs = self._discordant(first, second, draws)
        return None if pairs is None else mcnemar_exact(*pairs)

    def detectable(self, first: Records, interval: Interval, drop: float) -> float | None:
        """What so many samples could show if none spoke for the second model; of maps as for any metric."""
        if first[1].max(initial=0) > 1:
            return super().detectable(first, interval, drop)
        return minimum_detectable_drop(max(self.count(first), 1))

    def interval(self, first: Records, second: Records, draws: Draws) -> tuple[Interval | None, str]:
        """Tango's, where the units are single samples."""
        pairs = self._discordant(first, second, draws)
        if pairs is None:
            return super().interval(first, second, draws)
        return tango_interval(*pairs, self.count(first)), "Tango score interval"


@dataclass(frozen=True)
class ClassRatio(Metric):
    """Precision, recall or F1. Records are (label, prediction), each (n,); for maps one array of small ones.

    Attributes:
        parts: numerator and denominator of a class.
        average: "macro", "micro", "weighted", or "binary", which is about the class `positive` alone.
        positive: that class.
        ignore: the label that does not count.
        output: the name of the model's output; the first where it is "".
    """

    parts: Ratio
    average: str = "macro"
    positive: int = 1
    ignore: int | None = None
    output: str = ""
    bounds = (-1.0, 1.0)

    def collect(self, batch: Evaluated) -> Records:
        """As `Metric`."""
        labels, named = truth(batch, self.ignore, self.output), predicted(batch, self.output)
        if self.average == "binary" and self.positive >= class_scores(batch, self.output).shape[1]:
            raise UnfitError(f"there is no class {self.positive} to call positive; give another, as positive=0")
        if labels.ndim == 1:
            return labels.astype(np.int32), named.astype(np.int32)
        maps = np.empty(len(labels), object)
        for index, pair in enumerate(zip(labels, named, strict=True)):
            maps[index] = _occurring(*pair)
        return (maps,)

    def count(self, records: Records) -> int:
        """As `Metric`."""
        return int((records[0] != IGNORED).sum()) if len(records) > 1 else len(records[0])

    def _classes(self, *several: Records) -> int:
        arrays = [part for records in several for part in records]
        if arrays[0].dtype.hasobject:
            arrays = [table[0] for maps in arrays for table in maps]
        return max(self.positive, *(int(array.max(initial=0)) for array in arrays)) + 1

    def resampled(self, records: Records, weights: Floats) -> Floats:
        """As `Metric`."""
        statistic = confusion.averaged(self.parts, self.average, self.positive)
        entries = len(records[0]) if len(records) > 1 else sum(table.shape[1] for table in records[0])
        rows = max(1, HELD_AT_ONCE // max(3 * self._classes(records), entries))
        parts = [statistic(self.counts(records, weights[i : i + rows])) for i in range(0, len(weights), rows)]
        return np.concatenate(parts)

    def counts(self, records: Records, weights: Floats) -> ClassCounts:
        """What resamples count of every class: three arrays of shape (r, C)."""
        classes = self._classes(records)
        if len(records) > 1:
            labels, named = records
            kept = np.flatnonzero(labels != IGNORED)
            hit = kept[labels[kept] == named[kept]]
            several = ((labels[hit], hit), (labels[kept], kept), (named[kept], kept))
            return ClassCounts(*(_tallied(weights, where, unit, None, classes) for where, unit in several))
        maps = records[0]
        unit = np.repeat(np.arange(len(maps)), [table.shape[1] for table in maps])
        where, *values = np.concatenate(list(maps), axis=1)
        return ClassCounts(*(_tallied(weights, where, unit, value, classes) for value in values))

    def interval(self, first: Records, second: Records, draws: Draws) -> tuple[Interval | None, str]:
        """Tango's rescaled (`PairedCounts.interval`) where units are single samples, else the bootstrap."""
        if draws.groups is not None or len(first) == 1 or not (kept := first[0] != IGNORED).any():
            return super().interval(first, second, draws)
        pairs = PairedCounts(first[0][kept], first[1][kept], second[1][kept], self._classes(first, second))
        return pairs.interval(confusion.averaged(self.parts, self.average, self.positive), draws.seed)

    def details(self, records: Records) -> Mapping[str, Any]:
        """The value of every class that occurs."""
        counts = ClassCounts(*(x[0] for x in self.counts(records, np.ones((1, len(records[0]))))))
        occurring = np.flatnonzero(counts.actual + counts.predicted)
        top, bottom = self.parts(*(x[occurring] for x in counts))
        values = np.divide(top, bottom, out=np.zeros(len(top)), where=bottom != 0)
        if len(occurring) > MOST_LISTED:
            return {}
        return {"per_class": {str(k): float(v) for k, v in zip(occurring, values, strict=True)}}


def _occurring(labels: np.ndarray, named: np.ndarray) -> np.ndarray:
    """Of one map: the classes that occur, and how often each is hit, there and predicted: shape (4, k)."""
    kept = labels != IGNORED
    counts = np.stack(ClassCounts.of(labels[kept], named[kept], int(max(labels.max(), named.max(), 0)) + 1))
    classes = np.flatnonzero(counts.any(axis=0))
    return np.vstack([classes, counts[:, classes]]).astype(np.int64)


def _tallied(weights: Floats, where: np.ndarray, unit: np.ndarray, value: np.ndarray | None, size: int) -> Floats:
    """The sum of the weights of units by class, (r, n) -> (r, C); a unit may have several classes."""
    total = np.zeros((len(weights), size))
    if len(where) == 0:
        return total
    order = np.argsort(where, kind="stable")
    slots, starts = np.unique(where[order], return_index=True)
    entries = weights[:, unit[order]]
    total[:, slots] = np.add.reduceat(entries if value is None else entries * value[order], starts, axis=1)
    return total
