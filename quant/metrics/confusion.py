"""Metrics of the confusion matrix: rows are the truth, columns the prediction.

accuracy = correct / all; precision of a class = its hits / all predicted as it; recall = its hits / all that are it;
F1 = 2 hits / (predicted + actual); IoU = hits / (predicted + actual - hits). 0/0 is 0, as in scikit-learn.

All functions take stacks of matrices (..., C, C), so that a bootstrap is one call.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from quant.metrics.statistics import RESAMPLES, Interval, percentile_interval, tango_interval

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.integer]
    Statistic = Callable[[Floats], Floats]


def _ratio(top: Floats, bottom: Floats) -> Floats:
    return np.divide(top, bottom, out=np.zeros(np.broadcast_shapes(top.shape, bottom.shape)), where=bottom != 0)


def _parts(matrix: Floats) -> tuple[Floats, Floats, Floats]:
    """Hits, actual and predicted counts per class: (..., C) each."""
    return np.diagonal(matrix, axis1=-2, axis2=-1).astype(float), matrix.sum(axis=-1), matrix.sum(axis=-2)


def accuracy(matrix: Floats) -> Floats:
    """Correct over all."""
    hits, actual, _ = _parts(matrix)
    return _ratio(hits.sum(axis=-1), actual.sum(axis=-1))


def averaged(per_class: Callable[[Floats, Floats, Floats], tuple[Floats, Floats]], average: str) -> Statistic:
    """A per-class ratio averaged: "macro" (classes alike), "weighted" (by actual count) or "micro" (counts pooled).

    A class that is neither in the truth nor predicted does not enter, as in scikit-learn with default labels.
    """

    def statistic(matrix: Floats) -> Floats:
        hits, actual, predicted = _parts(matrix)
        if average == "micro":
            hits, actual, predicted = (x.sum(axis=-1, keepdims=True) for x in (hits, actual, predicted))
        values = _ratio(*per_class(hits, actual, predicted))
        weights = actual if average == "weighted" else ((actual + predicted) > 0).astype(float)
        return _ratio((values * weights).sum(axis=-1), weights.sum(axis=-1))

    return statistic


def precision_parts(hits: Floats, _actual: Floats, predicted: Floats) -> tuple[Floats, Floats]:
    """Hits over predicted."""
    return hits, predicted


def recall_parts(hits: Floats, actual: Floats, _predicted: Floats) -> tuple[Floats, Floats]:
    """Hits over actual."""
    return hits, actual


def f1_parts(hits: Floats, actual: Floats, predicted: Floats) -> tuple[Floats, Floats]:
    """The harmonic mean of precision and recall."""
    return 2 * hits, actual + predicted


def iou_parts(hits: Floats, actual: Floats, predicted: Floats) -> tuple[Floats, Floats]:
    """Intersection over union."""
    return hits, actual + predicted - hits


@dataclass(frozen=True)
class PairedCounts:
    """Predictions of two models on the same samples, as counts.

    Attributes:
        truth: classes, shape (n,) or (n, ...) for maps; a unit of resampling is a sample or a whole map.
        first: predicted classes of the first model, the same shape.
        second: of the second model.
        classes: number of classes.
    """

    truth: Integers
    first: Integers
    second: Integers
    classes: int

    @property
    def units(self) -> int:
        """Samples, or maps: what is drawn anew in a bootstrap."""
        return len(self.truth)

    def matrix(self, predicted: Integers) -> npt.NDArray[np.int64]:
        """The confusion matrix of one model, shape (C, C)."""
        cells = self.truth.reshape(-1).astype(np.int64) * self.classes + predicted.reshape(-1)
        return np.bincount(cells, minlength=self.classes**2).reshape(self.classes, self.classes)

    @cached_property
    def discordant(self) -> tuple[int, int]:
        """Samples that only the first model gets right, and those that only the second does."""
        right = self.first == self.truth, self.second == self.truth
        return int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())

    @cached_property
    def _groups(self) -> tuple[Floats, Floats, Floats]:
        """Probability of drawing each group of equal units, and its two flat matrices: (k,), (k, C*C), (k, C*C)."""
        if self.truth.ndim == 1:
            triples = np.stack([self.truth, self.first, self.second], axis=1)
            kinds, counts = np.unique(triples, axis=0, return_counts=True)
            cells = kinds[:, :1] * self.classes + kinds[:, 1:]
            flat = np.eye(self.classes**2)[cells]
            return counts / self.units, flat[:, 0], flat[:, 1]
        maps = [
            np.stack(
                [PairedCounts(t, p, p, self.classes).matrix(p).reshape(-1) for t, p in zip(self.truth, x, strict=True)]
            )
            for x in (self.first, self.second)
        ]
        return np.full(self.units, 1 / self.units), maps[0].astype(float), maps[1].astype(float)

    def resampled(self, seed: int, resamples: int) -> tuple[Floats, Floats]:
        """Confusion matrices of both models under a paired bootstrap: two arrays of shape (resamples, C, C).

        A bootstrap of few discordant pairs says that there is no difference at all. So each resample is extended by two
        samples that one of the models gets right, which one decided by a coin, their classes drawn as the labels are:
        the remedy of Agresti and Min, "Simple improved confidence intervals for comparing matched proportions",
        Statistics in Medicine 24 (2005) 729-740, who add two such observations to the table of a paired proportion.
        """
        generator = np.random.default_rng(seed)
        probability, first, second = self._groups
        drawn = generator.multinomial(self.units, probability, size=resamples).astype(float)
        shape = (resamples, self.classes, self.classes)
        a, b = (drawn @ first).reshape(shape), (drawn @ second).reshape(shape)
        rows = np.arange(resamples)
        for _ in range(2):
            truth = generator.choice(self.truth.reshape(-1), resamples)
            other = (truth + generator.integers(1, max(self.classes, 2), resamples)) % self.classes
            coin = generator.random(resamples) < 0.5
            a[rows, truth, np.where(coin, truth, other)] += 1
            b[rows, truth, np.where(coin, other, truth)] += 1
        return a, b

    def interval(self, statistic: Statistic, seed: int) -> tuple[Interval, str]:
        """A 95 % interval for the drop of a statistic of the confusion matrix, and how it was made.

        Where samples are drawn one by one it is Tango's interval for the accuracy drop, moved to the statistic's own
        drop and stretched by the ratio of their bootstrap deviations: a handful of discordant pairs makes the
        distribution lopsided, which a percentile bootstrap cannot know and the score interval does. Where whole maps
        are drawn there are many discordant pixels in each, and the percentile bootstrap stands by itself.
        """
        a, b = self.resampled(seed, RESAMPLES)
        drops = statistic(a) - statistic(b)
        if self.truth.ndim > 1:
            return percentile_interval(drops), f"paired bootstrap of {self.units} maps, seed {seed}"
        first, second = self.matrix(self.first).astype(float), self.matrix(self.second).astype(float)
        drop = float(statistic(first) - statistic(second))
        shift = float(accuracy(first) - accuracy(second))
        stretch = float(drops.std() / (accuracy(a) - accuracy(b)).std())
        low, high = (drop + (end - shift) * stretch for end in tango_interval(*self.discordant, self.units))
        return Interval(low, high), f"Tango score interval, rescaled by a paired bootstrap, seed {seed}"
