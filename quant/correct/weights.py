"""Scales of int8 weights: symmetric, one per output channel.

`scale = max|w| / 127` uses the whole range and clips nothing. The searched scale minimises the squared error
sum (w - scale clip(round(w / scale), -127, 127))^2 of each channel by itself, and so clips a lone large weight where
finer steps for all the others are worth more.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from quant.affine import Floats, along

LARGEST = 127  # -128 is left out: the grid is symmetric, and integer kernels negate without overflow

WeightScale = Callable[[Floats, int | None], Floats]


def max_scale(weight: Floats, axis: int | None) -> Floats:
    """max|w| / 127 per index of `axis` (None: one scale). A channel of zeros gets scale 1."""
    top = np.abs(_channels(weight, axis)).max(axis=1, initial=0.0)
    scale = np.where(top > 0, top / np.float32(LARGEST), np.float32(1)).astype(np.float32)
    return np.maximum(scale, np.finfo(np.float32).tiny)


def mse_scale(weight: Floats, axis: int | None, *, smallest: float = 0.5, candidates: int = 51) -> Floats:
    """The scale per channel with the least squared rounding error, searched between `smallest` times max_scale and it.

    Never worse than `max_scale`, which is among the candidates.
    """
    full = max_scale(weight, axis)
    rows = _channels(weight, axis)
    best, least = full, _squared_error(rows, full)
    for fraction in np.linspace(1.0, smallest, candidates, dtype=np.float32)[1:]:
        scale = np.maximum(full * fraction, np.finfo(np.float32).tiny)
        error = _squared_error(rows, scale)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    return best.astype(np.float32)


WEIGHT_SCALES: dict[str, WeightScale] = {"max": max_scale, "mse": mse_scale}


def round_weight(weight: Floats, scale: Floats, axis: int | None) -> npt.NDArray[np.int8]:
    """Nearest integers, within -127 to 127."""
    steps = np.rint(weight / along(scale, weight.ndim, axis))
    integers: npt.NDArray[np.int8] = np.clip(steps, -LARGEST, LARGEST).astype(np.int8)
    return integers


def _channels(weight: Floats, axis: int | None) -> Floats:
    """One row per channel."""
    if axis is None:
        return weight.reshape(1, -1)
    return np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)


def _squared_error(rows: Floats, scale: Floats) -> npt.NDArray[np.float64]:
    steps = scale[:, None]
    rounded = np.clip(np.rint(rows / steps), -LARGEST, LARGEST) * steps
    error: npt.NDArray[np.float64] = np.square(rows - rounded, dtype=np.float64).sum(axis=1)
    return error
