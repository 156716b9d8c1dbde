"""Choosing a range from what was observed: one visible table of methods.

* minmax: everything seen fits; nothing is clipped.
* mean-minmax: the mean over the batches of each batch's smallest and largest value (batches of one: over the samples).
  A lone outlier moves it little; values beyond it are clipped.
* mse: the range whose grid has the least squared error on the observed histogram.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from quant.affine import Range, activation_grid, dequantize, quantize

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Statistics:
    """What was observed of one tensor.

    Attributes:
        low: smallest value.
        high: largest value.
        mean_low: mean over the batches of the smallest value of each.
        mean_high: likewise of the largest.
        counts: how many values fell into each of equally wide bins from `low` to `high`, values of exactly zero left
            out since every grid has them; None where the method needs no histogram.
    """

    low: float
    high: float
    mean_low: float
    mean_high: float
    counts: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True)
class RangeMethod:
    """A way to choose a range; one with a histogram runs the calibration data a second time."""

    choose: Callable[[Statistics], Range]
    histogram: bool = False


def minmax(seen: Statistics) -> Range:
    """From the smallest to the largest value."""
    return Range.around(seen.low, seen.high)


def mean_minmax(seen: Statistics) -> Range:
    """From the mean smallest to the mean largest value of a batch."""
    return Range.around(seen.mean_low, seen.mean_high)


def mse(seen: Statistics, *, smallest: float = 0.3, steps: int = 36) -> Range:
    """The range with the least mean squared error, its ends searched from `smallest` of the extremes to the extremes.

    Rounding and clipping errors are summed over the histogram, each bin standing for its centre.
    """
    full = minmax(seen)
    if seen.counts is None or not seen.counts.any():
        return full
    edges = np.linspace(seen.low, seen.high, len(seen.counts) + 1)
    used = seen.counts > 0
    centres, counts = ((edges[:-1] + edges[1:]) / 2)[used], seen.counts[used]
    fractions = np.linspace(1.0, smallest, steps)
    lows = full.low * fractions if full.low < 0 else np.zeros(1)
    highs = full.high * fractions if full.high > 0 else np.zeros(1)
    return min((Range(float(low), float(high)) for low, high in product(lows, highs)), key=_error_on(centres, counts))


def _error_on(centres: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]) -> Callable[[Range], float]:
    def error(candidate: Range) -> float:
        grid = activation_grid(candidate)
        integers = quantize(centres, grid.scale, grid.zero_point, np.uint8)
        return float(counts @ np.square(dequantize(integers, grid.scale, grid.zero_point) - centres))

    return error


METHODS: dict[str, RangeMethod] = {
    "minmax": RangeMethod(minmax),
    "mean-minmax": RangeMethod(mean_minmax),
    "mse": RangeMethod(mse, histogram=True),
}
