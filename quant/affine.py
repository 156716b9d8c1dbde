"""The integer grid: q = clip(round(x / scale) + zero_point, qmin, qmax) and back, x' = scale (q - zero_point).

Rounding is half to even, as ONNX QuantizeLinear defines it. Activations are uint8 with a zero point, weights are int8
symmetric (zero point 0, values -127 to 127), biases int32 symmetric: the combination for which ONNX Runtime's CPU
kernels are fastest.
"""

from dataclasses import dataclass
from math import ceil, floor
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

# Below this a float32 scale is subnormal and x / scale overflows.
SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Range:
    """Smallest and largest value of a tensor. Zero is always inside, so that zero padding stays exact."""

    low: float
    high: float

    @classmethod
    def around(cls, low: float, high: float) -> "Range":
        """The range from `low` to `high`, widened to include zero."""
        return cls(min(float(low), 0.0), max(float(high), 0.0))


@dataclass(frozen=True)
class Grid:
    """Scale and zero point of an activation tensor; the integers are uint8."""

    scale: float
    zero_point: int

    @property
    def range(self) -> Range:
        """The values the grid's first and last integer stand for."""
        return Range(-self.zero_point * self.scale, (255 - self.zero_point) * self.scale)


def activation_grid(values: Range, limits: Range | None = None) -> Grid:
    """The uint8 grid that covers a range.

    Args:
        values: the range to cover. An empty one (a tensor that is always zero) gets scale 1.
        limits: where given, the grid is shrunk by up to two steps to lie within them: a Clip to `limits` that follows
            then changes nothing, and ONNX Runtime can drop it.
    """
    if limits is not None:
        values = Range(max(values.low, min(limits.low, 0.0)), min(values.high, max(limits.high, 0.0)))
    scale = float(np.float32((values.high - values.low) / 255))
    if scale == 0.0:
        return Grid(1.0, 0)
    scale = max(scale, SMALLEST_SCALE)
    exact = min(-values.low / scale, 255.0)
    if limits is None:
        return Grid(scale, int(np.rint(exact)))
    return max((_within(values, zero_point) for zero_point in (floor(exact), ceil(exact))), key=lambda grid: grid.scale)


def _within(values: Range, zero_point: int) -> Grid:
    """The widest grid with this zero point that does not leave the range."""
    steps = [-values.low / zero_point] if zero_point else []
    steps += [values.high / (255 - zero_point)] if zero_point < 255 else []
    return Grid(max(float(np.float32(min(steps))), SMALLEST_SCALE), zero_point)


def quantize(
    x: npt.NDArray[Any],
    scale: npt.ArrayLike,
    zero_point: npt.ArrayLike = 0,
    dtype: npt.DTypeLike = np.int8,
    *,
    axis: int | None = None,
) -> npt.NDArray[Any]:
    """Q = clip(round(x / scale) + zero_point, qmin, qmax), in the arithmetic of the scale's float type.

    Args:
        x: values of any shape.
        scale: one scale, or one per index of `axis`.
        zero_point: likewise.
        dtype: the integer type, whose limits are qmin and qmax.
        axis: the axis that several scales run along.
    """
    limits = np.iinfo(dtype)
    steps = np.rint(x / along(scale, x.ndim, axis)) + along(zero_point, x.ndim, axis)
    clipped: npt.NDArray[Any] = np.clip(steps, limits.min, limits.max).astype(dtype)
    return clipped


def dequantize(
    q: npt.NDArray[Any], scale: npt.ArrayLike, zero_point: npt.ArrayLike = 0, *, axis: int | None = None
) -> Floats:
    """X' = scale (q - zero_point), the inverse of `quantize` up to rounding and clipping."""
    shifted = q.astype(np.int64) - along(zero_point, q.ndim, axis).astype(np.int64)
    restored: Floats = (shifted * along(scale, q.ndim, axis)).astype(np.float32)
    return restored


def along(values: npt.ArrayLike, ndim: int, axis: int | None) -> npt.NDArray[Any]:
    """One value per index of `axis`, shaped to broadcast against an array of `ndim` axes; a single value as it is."""
    array = np.asarray(values)
    if axis is None or array.ndim == 0:
        return array
    return array.reshape([-1 if i == axis % ndim else 1 for i in range(ndim)])
