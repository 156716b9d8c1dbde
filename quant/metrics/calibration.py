"""How far probabilities can be believed: the Brier score and the expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from profiler.errors import UsageError
from quant.metrics.base import Evaluated, MeanMetric, Metric
from quant.metrics.scores import IGNORED, class_scores, kind_of, of_samples, predicted, probabilities, truth

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quant.metrics.base import Floats, Records


@dataclass(frozen=True)
class Brier(MeanMetric):
    """The mean squared error of the probabilities (Brier 1950); of two classes that of the positive one.

    Summed over the classes, so between 0 and 2; of two classes half of that, between 0 and 1, as in scikit-learn.
    """

    ignore: int | None = None
    output: str = ""
    higher_is_better = False
    bounds = (-2.0, 2.0)

    def collect(self, batch: Evaluated) -> Records:
        """As `Metric`."""
        scores, labels = class_scores(batch, self.output), truth(batch, self.ignore, self.output)
        p = probabilities(scores, kind_of(batch, self.output))
        own = np.take_along_axis(p, np.maximum(labels, 0)[:, None], axis=1)[:, 0]
        error = (p**2).sum(axis=1) - 2 * own + 1
        kept, axes = labels != IGNORED, tuple(range(1, labels.ndim))
        error = np.where(kept, error / 2 if scores.shape[1] == 2 else error, 0.0)
        return error.sum(axis=axes), kept.sum(axis=axes)

    def count(self, records: Records) -> int:
        """As `Metric`."""
        return int((records[1] > 0).sum())


@dataclass(frozen=True)
class CalibrationError(Metric):
    """ECE: the mean over samples of |accuracy - confidence| of their bin of confidence, in bins of equal width.

    C. Guo et al., "On calibration of modern neural networks", ICML 2017. Records are the confidence in the class that
    is named, and whether that is right (-1: ignored), each (n,). Few samples make it look larger than it is, in both
    models alike.
    """

    bins: int = 15
    ignore: int | None = None
    output: str = ""
    higher_is_better = False
    bounds = (-1.0, 1.0)

    def __post_init__(self) -> None:
        """Refuse a number of bins that makes no sense."""
        if self.bins < 1:
            raise UsageError(f"ece takes at least one bin, got {self.bins}")

    def collect(self, batch: Evaluated) -> Records:
        """As `Metric`; the positions of a map count as samples of one unit, so maps are not taken."""
        labels, scores = of_samples(batch, self.ignore, self.output)
        confidence = probabilities(scores, kind_of(batch, self.output)).max(axis=1)
        right = predicted(batch, self.output) == labels
        return confidence, np.where(labels == IGNORED, IGNORED, right)

    def count(self, records: Records) -> int:
        """As `Metric`."""
        return int((records[1] != IGNORED).sum())

    def _bins(self, records: Records, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """Weight, weight of the right ones and summed confidence, by bin: three arrays (r, bins)."""
        confidence, right = records
        kept = right != IGNORED
        # Half-open on the left, as in the paper: a confidence of 1 belongs to the last bin.
        which = np.clip(np.ceil(confidence * self.bins).astype(int) - 1, 0, self.bins - 1)
        several = []
        for value in (kept * 1.0, kept * right * 1.0, kept * confidence):
            spread = np.zeros((len(confidence), self.bins))
            spread[np.arange(len(confidence)), which] = value
            several.append(weights @ spread)
        return several[0], several[1], several[2]

    def resampled(self, records: Records, weights: Floats) -> Floats:
        """As `Metric`."""
        count, right, confidence = self._bins(records, weights)
        total = count.sum(axis=1)
        error: Floats = np.divide(
            np.abs(right - confidence).sum(axis=1), total, out=np.zeros_like(total), where=total > 0
        )
        return error

    def details(self, records: Records) -> Mapping[str, Any]:
        """The reliability diagram: accuracy and mean confidence of every bin that has samples."""
        count, right, confidence = (x[0] for x in self._bins(records, np.ones((1, len(records[0])))))
        used = np.flatnonzero(count)
        columns = {
            "confidence": confidence[used] / count[used],
            "accuracy": right[used] / count[used],
            "n": count[used],
        }
        return {"reliability": {name: values.tolist() for name, values in columns.items()}}
