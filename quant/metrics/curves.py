"""Metrics of a score and a threshold: ROC and its area, precision over recall and its area, F1 over all thresholds.

The area under the receiver operating characteristic (true positive rate over false positive rate) is AUC: the chance
that a positive scores above a negative, ties counting half. The area under precision over recall is another figure,
average precision, AP = sum over thresholds of (R_k - R_{k-1}) P_k, which is at times called AUC by mistake.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from quant.metrics.base import Evaluated, Metric, UnfitError
from quant.metrics.scores import IGNORED, kind_of, log_odds, of_samples, predicted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from quant.metrics.base import Draws, Floats, Records
    from quant.metrics.statistics import Interval

    Area = Callable[["Curve"], Floats]

MOST_CLASSES = 100  # of one against the rest: a record holds a score for each
MOST_WORK = 1_000_000_000  # scores summed over all resamples and classes: about ten seconds
FEWEST_RESAMPLES = 400
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


@dataclass(frozen=True)
class RankArea(Metric):
    """AUC or AP: of the positive class of two, else of every class against the rest, averaged.

    Records are the label (n,) and the score: (n,) of two classes, (n, C) of more, as log-odds.

    Attributes:
        area: `auc` or `average_precision`.
        average: over classes: "macro", or "weighted" by their samples.
        positive: the class of two.
        ignore: the label that does not count.
        output: the name of the model's output; the first where it is "".
    """

    area: Area
    average: str = "macro"
    positive: int = 1
    ignore: int | None = None
    output: str = ""
    bounds = (-1.0, 1.0)

    def collect(self, batch: Evaluated) -> Records:
        """As `Metric`."""
        labels, scores = of_samples(batch, self.ignore, self.output)
        classes = scores.shape[1]
        odds = log_odds(scores, kind_of(batch, self.output))
        if classes == 2:
            if self.positive > 1:
                raise UnfitError(f"there is no class {self.positive} of two to call positive")
            return labels.astype(np.int32), odds[:, self.positive]
        if classes > MOST_CLASSES:
            raise UnfitError(
                f"one against the rest is taken of {MOST_CLASSES} classes at most, the model has {classes}"
            )
        return labels.astype(np.int32), odds.astype(np.float32)

    def count(self, records: Records) -> int:
        """As `Metric`."""
        return int((records[0] != IGNORED).sum())

    def strata(self, records: Records) -> np.ndarray:
        """The labels, so that no resample lacks positives."""
        return records[0]

    def resampled(self, records: Records, weights: Floats) -> Floats:
        """As `Metric`; NaN where there are no positives or no negatives."""
        kept = records[0] != IGNORED
        labels, scores, weights = records[0][kept], records[1][kept], weights[:, kept]
        if scores.ndim == 1:
            return self.area(Curve.of(scores, labels == self.positive, weights))
        total, share = np.zeros(len(weights)), np.zeros(len(weights))
        for label in np.unique(labels):
            own = labels == label
            if own.all():
                break
            value = self.area(Curve.of(scores[:, label], own, weights))
            count = weights[:, own].sum(axis=1) if self.average == "weighted" else np.ones(len(weights))
            known = np.isfinite(value)
            total[known] += (value * count)[known]
            share[known] += count[known]
        mean: Floats = np.divide(total, share, out=np.full(len(weights), np.nan), where=share > 0)
        return mean

    def interval(self, first: Records, second: Records, draws: Draws) -> tuple[Interval | None, str]:
        """As `Metric`, with fewer resamples where classes are many."""
        work = first[1].size
        fits = max(FEWEST_RESAMPLES, MOST_WORK // max(work, 1))
        return super().interval(first, second, replace(draws, resamples=min(draws.resamples, fits)))

    def details(self, records: Records) -> Mapping[str, Any]:
        """The ROC or the precision over the recall, of two classes; the area of each of more."""
        kept = records[0] != IGNORED
        labels, scores, ones = records[0][kept], records[1][kept], np.ones((1, int(kept.sum())))
        if scores.ndim > 1:
            own = {k: Curve.of(scores[:, k], labels == k, ones) for k in np.unique(labels)}
            return {"per_class": {str(k): float(self.area(curve)[0]) for k, curve in own.items()}}
        curve = Curve.of(scores, labels == self.positive, ones)
        false, true = (rate[0] for rate in curve.rates)
        thresholds = probability(curve.thresholds)
        if self.area is auc:
            columns = {"false_positive_rate": false, "true_positive_rate": true, "threshold": thresholds}
            return {"roc": thinned(columns)}
        return {"precision_recall": thinned({"recall": true, "precision": curve.precision[0], "threshold": thresholds})}


@dataclass(frozen=True)
class Sweep(Metric):
    """The best F1 over all thresholds of the confidence.

    Of two classes the positive one is named where its probability reaches the threshold. Of more, the class with the
    highest probability is named where that reaches it, and no class where it does not: F1 = 2 right / (named + all).
    Records are the confidence as log-odds, whether naming is right, and what there is to find, each (n,).
    """

    positive: int = 1
    ignore: int | None = None
    output: str = ""
    bounds = (-1.0, 1.0)

    def collect(self, batch: Evaluated) -> Records:
        """As `Metric`."""
        labels, scores = of_samples(batch, self.ignore, self.output)
        odds = log_odds(scores, kind_of(batch, self.output))
        if scores.shape[1] == 2:
            if self.positive > 1:
                raise UnfitError(f"there is no class {self.positive} of two to call positive")
            right = labels == self.positive
            return odds[:, self.positive], right, np.where(labels == IGNORED, IGNORED, right)
        named = predicted(batch, self.output)
        confidence = np.take_along_axis(odds, named[:, None], axis=1)[:, 0]
        return confidence, labels == named, np.where(labels == IGNORED, IGNORED, 1)

    def count(self, records: Records) -> int:
        """As `Metric`."""
        return int((records[2] != IGNORED).sum())

    def _curve(self, records: Records, weights: Floats) -> Curve:
        kept = records[2] != IGNORED
        confidence, right, sought = (part[kept] for part in records)
        curve = Curve.of(confidence, right, weights[:, kept])
        return replace(curve, positives=(weights[:, kept] @ sought.astype(float))[:, None])

    def resampled(self, records: Records, weights: Floats) -> Floats:
        """As `Metric`."""
        return np.asarray(self._curve(records, weights).f1.max(axis=1))

    def details(self, records: Records) -> Mapping[str, Any]:
        """F1 over the threshold, and the best one."""
        curve = self._curve(records, np.ones((1, len(records[0]))))
        thresholds = probability(curve.thresholds)
        best = float(thresholds[curve.f1[0].argmax()])
        return {"best_threshold": best, "sweep": thinned({"threshold": thresholds, "f1": curve.f1[0]})}


def probability(odds: Floats) -> Floats:
    """The probability of log-odds."""
    return np.asarray(0.5 * (1 + np.tanh(odds / 2)))


def thinned(columns: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    """A curve of at most 200 points, the first and the last among them."""
    count = len(next(iter(columns.values())))
    kept = np.unique(np.linspace(0, count - 1, min(count, MOST_POINTS)).round().astype(int))
    return {name: [float(x) for x in values[kept]] for name, values in columns.items()}
