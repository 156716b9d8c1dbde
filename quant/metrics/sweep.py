"""The confidence sweep: F1 over all thresholds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from quant.metrics.base import Evaluated, Metric, UnfitError
from quant.metrics.curves import Curve, probability, thinned
from quant.metrics.scores import IGNORED, kind_of, log_odds, of_samples, predicted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quant.metrics.base import Floats, Records


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
