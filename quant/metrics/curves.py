"""The counts at every threshold of a score, and the areas under the two curves that they make.

The area under the receiver operating characteristic (true positive rate over false positive rate) is AUC: the chance
that a positive scores above a negative, ties counting half. The area under precision over recall is another figure,
average precision, AP = sum over thresholds of (R_k - R_{k-1}) P_k, which is at times called AUC by mistake.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quant.metrics.base import Floats

MOST_POINTS = 200  # of a curve in a report


@dataclass(frozen=True, eq=False)
class Curve:
    """Counts at every threshold, from the highest down: a sample is named positive where its score reaches it.

    Attributes:
        thresholds: the distinct scores, shape (t,).
        hits: weight of the positives named, shape (r, t) for r resamples.
        named: weight of all that are named, likewise.
        positives: weight of all positives, shape (r, 1).
        all: weight of all samples, likewise.
    """

    thresholds: Floats
    hits: Floats
    named: Floats
    positives: Floats
    all: Floats

    @classmethod
    def of(cls, scores: Floats, positive: np.ndarray, weights: Floats) -> Curve:
        """Of scores and whether each is positive, (n,), with weights (r, n)."""
        order = np.argsort(-scores, kind="stable")
        ranked, heavy = scores[order], weights[:, order]
        last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # of equal scores
        named = heavy.cumsum(axis=1)[:, last]
        hits = (heavy * positive[order]).cumsum(axis=1)[:, last]
        return cls(ranked[last], hits, named, hits[:, -1:], named[:, -1:])

    @property
    def rates(self) -> tuple[Floats, Floats]:
        """False and true positive rates at the thresholds, NaN where there is no negative or no positive."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return (self.named - self.hits) / (self.all - self.positives), self.hits / self.positives

    @property
    def precision(self) -> Floats:
        """The part of those named that is positive; 0/0 is 0."""
        return np.divide(self.hits, self.named, out=np.zeros_like(self.hits), where=self.named > 0)

    @property
    def f1(self) -> Floats:
        """2 hits / (named + positives) at the thresholds; 0/0 is 0."""
        below = self.named + self.positives
        return np.divide(2 * self.hits, below, out=np.zeros_like(below), where=below > 0)


def auc(curve: Curve) -> Floats:
    """The area under true over false positive rate by trapezoids, which counts ties as half; shape (r,)."""
    false, true = (np.pad(rate, ((0, 0), (1, 0))) for rate in curve.rates)
    return np.asarray((np.diff(false, axis=1) * (true[:, 1:] + true[:, :-1]) / 2).sum(axis=1))


def average_precision(curve: Curve) -> Floats:
    """The sum of precision times the gain in recall, without interpolation; shape (r,)."""
    recall = np.pad(curve.rates[1], ((0, 0), (1, 0)))
    return np.asarray((np.diff(recall, axis=1) * curve.precision).sum(axis=1))


def probability(odds: Floats) -> Floats:
    """The probability of log-odds."""
    return np.asarray(0.5 * (1 + np.tanh(odds / 2)))


def thinned(columns: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    """A curve of at most 200 points, the first and the last among them."""
    count = len(next(iter(columns.values())))
    kept = np.unique(np.linspace(0, count - 1, min(count, MOST_POINTS)).round().astype(int))
    return {name: [float(x) for x in values[kept]] for name, values in columns.items()}
