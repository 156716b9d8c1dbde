"""AUC and average precision as metrics: how well a score ranks what is looked for above the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from quant.metrics.base import FEWEST_UNITS, Evaluated, Metric, UnfitError
from quant.metrics.curves import Curve, auc, probability, thinned
from quant.metrics.scores import IGNORED, kind_of, log_odds, of_samples
from quant.metrics.statistics import Interval, tango_interval

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from quant.metrics.base import Draws, Floats, Records

    Area = Callable[[Curve], Floats]

MOST_CLASSES = 100  # of one against the rest: a record holds a score for each
MOST_WORK = 1_000_000_000  # scores summed over all resamples and classes: about ten seconds
FEWEST_RESAMPLES = 400
RESAMPLES = 1000  # enough for a deviation
PSEUDO, POOL = 2, 100


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
        """Tango's interval for the accuracy drop, moved to this drop and stretched to its deviation.

        As for the ratios of the confusion matrix (`PairedCounts.interval`): a few samples whose scores are turned about
        decide, and a percentile bootstrap does not know how many more or fewer there could have been. Of groups it is
        the percentile bootstrap, as of any metric.
        """
        labels, kept = first[0], first[0] != IGNORED
        fewest = int(np.unique(labels[kept], return_counts=True)[1].min(initial=len(labels)))
        if draws.groups is not None or fewest < FEWEST_UNITS:
            return super().interval(first, second, draws)
        fits = max(FEWEST_RESAMPLES, MOST_WORK // max(first[1].size, 1))
        draws = replace(draws, resamples=min(RESAMPLES, draws.resamples, fits), strata=labels)
        ours, theirs = (right(records, self.positive)[kept] for records in (first, second))
        only_first, only_second = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
        pseudo = Pseudo.of(first, kept, draws.seed)
        extended = [
            tuple(np.concatenate([x, y]) for x, y in zip(records, (pseudo.labels, scores), strict=True))
            for records, scores in ((first, pseudo.first), (second, pseudo.second))
        ]
        ahead = np.zeros(len(labels))
        ahead[kept] = ours.astype(float) - theirs
        drops, shifts = [], []
        for weights in pseudo.extended(draws):
            drops.append(self.resampled(extended[0], weights) - self.resampled(extended[1], weights))
            shifts.append(weights @ np.concatenate([ahead, pseudo.ahead]) / (kept.sum() + PSEUDO))
        stretch = float(np.concatenate(drops).std() / np.concatenate(shifts).std())
        drop = self.value(first) - self.value(second)
        shift = (only_first - only_second) / int(kept.sum())
        low, high = (drop + (x - shift) * stretch for x in tango_interval(only_first, only_second, int(kept.sum())))
        within = Interval(max(min(low, drop), -1.0), min(max(high, drop), 1.0))
        return within, f"Tango score interval, rescaled by a paired bootstrap, seed {draws.seed}"

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


def right(records: Records, positive: int) -> np.ndarray:
    """Whether each sample's label is the class with the highest score, (n,)."""
    labels, scores = records
    if scores.ndim > 1:
        return np.asarray(scores.argmax(axis=1) == labels)
    return np.asarray((scores > 0) == (labels == positive))


@dataclass(frozen=True, eq=False)
class Pseudo:
    """Samples that one model scores as their class and the other as another: two of them extend each resample.

    After Agresti and Min, as in `PairedCounts.resampled`. Labels and scores are drawn from the samples.

    Attributes:
        labels: shape (k,).
        first: the first model's scores, (k,) or (k, C).
        second: the second's.
        ahead: 1 where the first is right, -1 where the second is, (k,).
    """

    labels: np.ndarray
    first: np.ndarray
    second: np.ndarray
    ahead: np.ndarray

    @classmethod
    def of(cls, records: Records, kept: np.ndarray, seed: int) -> Pseudo:
        """From labels and scores of which there are two classes at least."""
        generator = np.random.default_rng([seed, POOL])
        labels, scores = (part[kept] for part in records)
        own = generator.integers(0, len(labels), POOL)
        other = np.array([generator.choice(np.flatnonzero(labels != labels[i])) for i in own])
        coin = generator.random(POOL) < 0.5
        first = scores[np.where(coin, own, other)]
        return cls(labels[own], first, scores[np.where(coin, other, own)], np.where(coin, 1.0, -1.0))

    def extended(self, draws: Draws) -> Iterator[Floats]:
        """The weights of resamples, with those of two of the pseudo-samples behind: (r, n + k)."""
        generator = np.random.default_rng([draws.seed, POOL, 1])
        for weights in draws.weights():
            extra = np.zeros((len(weights), POOL))
            np.add.at(extra, (np.arange(len(weights))[:, None], generator.integers(0, POOL, (len(weights), PSEUDO))), 1)
            yield np.concatenate([weights, extra], axis=1)
