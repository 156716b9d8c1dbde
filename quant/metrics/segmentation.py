"""Segmentation metrics: intersection over union, Dice and pixel accuracy of maps, from three counts of each class.

Of a class k in a map, A = positions that are k, B = positions that are named k, I = positions that are both:

* IoU (Jaccard) = I / (A + B - I); mean IoU is its mean over classes;
* Dice (F1) = (2 I + s) / (A + B + s) with smoothing s; the Dice loss is 1 - Dice (F. Milletari, N. Navab and S.-A.
  Ahmadi, "V-Net", 3DV 2016, with unsquared sums; s as in its common implementations);
* pixel accuracy = sum of I / sum of A.

"hard" counts are of the class with the best score, the first where several tie. "soft" ones, for a loss, take the
probabilities: I = sum of p over the class, B = sum of p everywhere. One output channel is a binary map: the probability
of class 1, above a threshold the prediction.

Over maps the counts are pooled, or the metric is taken of each map and then the mean of those that have it. A class
that is neither in the truth nor predicted does not enter a mean, as in scikit-learn with default labels, whatever s is;
`absent=one` counts it as 1 instead, which is what the formula gives for s > 0. (Soft counts name every class a little.)

Maps depend little on one another and positions of a map very much: whole maps are drawn in a bootstrap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from profiler.errors import UsageError
from quant.metrics.base import FEWEST_UNITS, Evaluated, Family, Metric, Parameter
from quant.metrics.segmentation_counts import Counting
from quant.metrics.statistics import HELD_AT_ONCE, Interval

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from quant.metrics.base import Draws, Records

    Floats = npt.NDArray[np.float64]
    Parts = tuple[Floats, Floats]

_NO_CLASS = -1


def _iou(both: Floats, actual: Floats, named: Floats, _smooth: float) -> Parts:
    return both, actual + named - both


def _dice(both: Floats, actual: Floats, named: Floats, smooth: float) -> Parts:
    return 2 * both + smooth, actual + named + smooth


def _accuracy(both: Floats, actual: Floats, _named: Floats, _smooth: float) -> Parts:
    return both, actual


@dataclass(frozen=True)
class Segmentation(Metric):
    """A ratio of counts per class, averaged over classes, of maps together or one by one.

    Records: counts of each map, shape (n, 3, C): both, actual and named.

    Attributes:
        ratio: numerator and denominator from both, actual, named and the smoothing.
        average: over classes: "macro", "weighted" by their actual count, or "micro", counts added up.
        per: "pooled" counts of all maps, or the mean over each "map".
        label: the only class to report; -1 for the average.
        smooth: added to numerator and denominator of Dice.
        absent: a class that is neither there nor named is to "skip" or counts as "one".
        counting: how outputs and labels become counts.
    """

    ratio: Callable[[Floats, Floats, Floats, float], Parts]
    counting: Counting
    average: str = "macro"
    per: str = "pooled"
    label: int = _NO_CLASS
    smooth: float = 0.0
    absent: str = "skip"

    unit = "map"
    bounds = (-1.0, 1.0)
    refers = True  # whether outputs are probabilities is told by the first model's

    def collect(self, batch: Evaluated) -> Records:
        """As `Metric`."""
        return (self.counting.counts(batch),)

    def per_class(self, counts: Floats) -> tuple[Floats, Floats]:
        """The ratio of every class and whether it is there, of counts (..., 3, C): (..., C) each."""
        both, actual, named = np.moveaxis(counts, -2, 0)
        if self.average == "micro":
            both, actual, named = (x.sum(axis=-1, keepdims=True) for x in (both, actual, named))
        there = actual + named > 0
        top, bottom = self.ratio(both, actual, named, self.smooth)
        values = np.divide(top, bottom, out=np.ones_like(bottom), where=there & (bottom > 0))
        values[there & (bottom <= 0)] = 0.0
        return values, there | (self.absent == "one")

    def _figure(self, counts: Floats) -> tuple[Floats, Floats]:
        """The metric of counts (..., 3, C), and the weight it has in a mean over maps: 0 where it is undefined."""
        values, there = self.per_class(counts)
        if self.label != _NO_CLASS:
            return values[..., self.label], there[..., self.label].astype(float)
        weights = np.where(there, counts[..., 1, :], 0.0) if self.average == "weighted" else there.astype(float)
        total = weights.sum(axis=-1)
        mean = np.divide((values * weights).sum(axis=-1), total, out=np.zeros(total.shape), where=total > 0)
        return mean, (total > 0).astype(float)

    def resampled(self, records: Records, weights: Floats) -> Floats:
        """As `Metric`; 0 for a resample in which nothing is there to be found."""
        counts = records[0].astype(np.float64)
        if self.label >= counts.shape[-1]:
            raise UsageError(f"class={self.label}: the model has {counts.shape[-1]} classes, counted from 0")
        if self.per == "map":
            values, there = self._figure(counts)
            total = weights @ there
            figure = np.divide(weights @ (values * there), total, out=np.zeros(len(weights)), where=total > 0)
        else:
            rows = max(1, HELD_AT_ONCE // counts[0].size)
            flat = counts.reshape(len(counts), -1)
            parts = [weights[i : i + rows] @ flat for i in range(0, len(weights), rows)]
            figure = np.concatenate([self._figure(part.reshape(-1, *counts.shape[1:]))[0] for part in parts])
        return figure

    def interval(self, first: Records, second: Records, draws: Draws) -> tuple[Interval | None, str]:
        """As `Metric`; of fewer than five maps it says nothing, as a bootstrap of them covers too seldom."""
        if draws.units < FEWEST_UNITS:
            return Interval(*self.bounds), f"none: {draws.units} {draws.unit}s, an interval takes {FEWEST_UNITS}"
        return super().interval(first, second, draws)


_COUNTING = {
    "ignore": Parameter(None, help="label of positions that do not count; 255, unless it is a class"),
    "threshold": Parameter(0.5, help="probability above which a binary map's position is class 1"),
    "outputs": Parameter("auto", ("auto", "logits", "probabilities"), "what the model gives; a guess where auto"),
}
_AVERAGE = {
    "average": Parameter("macro", ("macro", "micro", "weighted"), "over classes"),
    "per": Parameter("pooled", ("pooled", "map"), "counts of all maps together, or the mean over maps"),
    "class": Parameter(_NO_CLASS, help="report this class alone; -1 for the average"),
    "absent": Parameter("skip", ("skip", "one"), "a class neither there nor named does not enter, or is 1"),
}


def _family(
    about: str,
    ratio: Callable[[Floats, Floats, Floats, float], Parts],
    parameters: Mapping[str, Parameter],
    tasks: tuple[str, ...] = (),
    **fixed: Any,  # noqa: ANN401  # a metric's settings
) -> Family:
    def build(**given: Any) -> Segmentation:  # noqa: ANN401
        settings = {name: parameter.default for name, parameter in parameters.items()} | fixed | given
        label, smooth = settings.get("class", _NO_CLASS), settings.get("smooth", 0.0)
        if label < _NO_CLASS or smooth < 0:
            raise UsageError(f"class={label}, smooth={smooth}: neither can be negative")
        if label != _NO_CLASS and settings["average"] != "macro":
            raise UsageError(f"class={label} is one class, and average={settings['average']} is over all of them")
        counting = Counting(
            settings.get("counts", "hard") == "soft",
            settings["ignore"],
            settings["threshold"],
            settings["outputs"],
        )
        return Segmentation(
            ratio,
            counting,
            settings["average"],
            settings["per"],
            label,
            smooth,
            settings.get("absent", "skip"),
        )

    return Family(build, about, parameters, tasks)


_PIXELS = {"per": _AVERAGE["per"], **_COUNTING}
_IOU = {**_AVERAGE, **_COUNTING}
_DICE = {
    **_AVERAGE,
    "smooth": Parameter(0.0, help="s of (2I + s)/(A + B + s)"),
    "counts": Parameter("hard", ("hard", "soft"), "of the best class, or sums of probabilities"),
    **_COUNTING,
}
SEGMENTATION: Mapping[str, Family] = {
    "iou": _family("intersection over union (Jaccard), the mean over classes: mean IoU", _iou, _IOU, ("segmentation",)),
    "dice": _family("Dice (2I + s)/(A + B + s), the mean over classes", _dice, _DICE, ("segmentation",)),
    "pixel_accuracy": _family("positions that are named right", _accuracy, _PIXELS, ("segmentation",), average="micro"),
}
