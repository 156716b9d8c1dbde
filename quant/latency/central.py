"""The middle of recorded times: whole microseconds, a few of them interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TICKS = 2.0  # whole microseconds that a steady time may be seen as, to either side
_PART = 0.15


def central(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of the values near the median, along the first axis.

    A step of 4.3 microseconds is seen as 4 or 5, by where the clock's ticks fall: the median is one of them, the mean
    is right. Runs that something interrupted lie far from the median and are left out.

    Args:
        values: in microseconds, shape (runs, ...), at least one run.

    Returns:
        Shape (...): the mean over the runs within 2 microseconds or 15 % of the median, whichever is more.
    """
    middle = np.median(values, axis=0)
    near = np.abs(values - middle) <= np.maximum(_TICKS, _PART * np.abs(middle))
    counted = np.maximum(near.sum(axis=0), 1)
    mean: NDArray[np.float64] = np.where(near.any(axis=0), np.where(near, values, 0.0).sum(axis=0) / counted, middle)
    return mean
