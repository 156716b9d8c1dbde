"""An interval for the drop of a detection metric: a paired bootstrap by image, with two images more.

A bootstrap of images on which two models agree says that they never differ. So each resample is extended by two
images, drawn as the others are, in which one of the models, decided by a coin, finds nothing: what Agresti and Min's
two added observations are to a paired proportion ("Simple improved confidence intervals for comparing matched
proportions", Statistics in Medicine 24 (2005) 729-740), and what `confusion` does for classes. The tails are cut where
few images call for it (`statistics.tail_of_few`). Simulated coverage: docs/metrics_detection.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from quant.metrics.base import FEWEST_UNITS
from quant.metrics.statistics import Interval, percentile_interval

if TYPE_CHECKING:
    import numpy.typing as npt

    from quant.metrics.base import Draws, Records

    Floats = npt.NDArray[np.float64]

_ADDED = 2


class _Weighted(Protocol):
    """What is needed of a metric: its value at each of many weightings, higher being better."""

    def resampled(self, records: Records, weights: Floats) -> Floats: ...

    def value(self, records: Records) -> float: ...


def drop_interval(metric: _Weighted, first: Records, second: Records, draws: Draws) -> tuple[Interval, str]:
    """A 95 % interval for the first model's value minus the second's, and how it was made.

    Args:
        metric: between 0 and 1.
        first: records of the first model: detections and objects of each image.
        second: of the second model.
        draws: of the images.
    """
    what = f"{draws.units} {draws.unit}s"
    if draws.units < FEWEST_UNITS:
        return Interval(-1.0, 1.0), f"none: {what}, an interval takes {FEWEST_UNITS}"
    drop = metric.value(first) - metric.value(second)
    generator = np.random.default_rng((draws.seed, _ADDED))  # apart from the draws' own
    extended = [(_with_empty(records)) for records in (first, second)]
    drops = []
    for drawn in draws.weights():
        intact, emptied = _added(draws, len(drawn), generator)
        ones, others = (
            metric.resampled(records, np.concatenate([drawn + found, lost], axis=1))
            for records, found, lost in zip(extended, (intact, emptied), (emptied, intact), strict=True)
        )
        drops.append(ones - others)
    low, high = percentile_interval(np.concatenate(drops), units=draws.units)
    within = Interval(max(min(low, drop), -1.0), min(max(high, drop), 1.0))
    return within, f"paired bootstrap of {what}, {_ADDED} added, seed {draws.seed}"


def _with_empty(records: Records) -> Records:
    """Every image again, in which nothing is detected."""
    found, objects = records
    nothing = np.empty_like(found)
    for i, part in enumerate(found):
        nothing[i] = part[:0]
    return np.concatenate([found, nothing]), np.concatenate([objects, objects])


def _added(draws: Draws, resamples: int, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """How often each image is added whole for the first model, and how often without detections; (r, n) each."""
    groups = np.arange(draws.count) if draws.groups is None else np.unique(draws.groups, return_inverse=True)[1]
    whole, empty = np.zeros((resamples, draws.count)), np.zeros((resamples, draws.count))
    for _ in range(_ADDED):
        chosen = generator.integers(0, draws.units, resamples)[:, None] == groups
        coin = generator.random((resamples, 1)) < 0.5
        whole += chosen & coin
        empty += chosen & ~coin
    return whole, empty
