"""Which inputs along one axis feed each output: one description for every operator that moves a window.

An `IndexMap` repeats: outputs v and v + period read the same pattern of inputs, `advance` further on. A convolution has
period 1 and advances by its stride; a transposed convolution has its stride as period and advances by 1; nearest and
linear interpolation and adaptive pooling from i to o repeat after o / gcd(i, o) outputs and i / gcd(i, o) inputs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import floor, gcd
from typing import Literal

import numpy as np
import numpy.typing as npt

from profiler.formulas.pooling import adaptive_window
from profiler.formulas.resampling import source_coordinate

Border = Literal["drop", "clamp", "reflect", "wrap"]


@dataclass(frozen=True, slots=True)
class IndexMap:
    """Taps of a periodic window.

    Attributes:
        period: outputs after which the pattern repeats.
        advance: inputs that it moves on meanwhile.
        taps: for each output of one period, the inputs it reads; beyond the borders they are negative or too large.
        border: what a tap beyond the border reads: nothing ("drop": zeros were padded, or the window is cut), the
            outermost input ("clamp"), its mirror image ("reflect") or the other end ("wrap").
    """

    period: int
    advance: int
    taps: tuple[tuple[int, ...], ...]
    border: Border = "drop"

    def indices(self, outputs: int, inputs: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Inputs read by each output, and which of the entries count: two arrays of shape (outputs, most taps)."""
        most = max((len(t) for t in self.taps), default=0) or 1
        pattern = np.array([t + (t[-1:] or (-1,)) * (most - len(t)) for t in self.taps], dtype=np.int64)
        filled = np.array([[n < len(t) for n in range(most)] for t in self.taps])
        rounds, phase = np.divmod(np.arange(outputs), self.period)
        taps = pattern[phase] + (rounds * self.advance)[:, None]
        valid = filled[phase]
        if self.border == "drop":
            valid = valid & (taps >= 0) & (taps < inputs)
        return _BORDERS[self.border](taps, inputs), valid


def _reflect(taps: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    if n == 1:
        return np.zeros_like(taps)
    folded = np.mod(taps, 2 * (n - 1))
    return np.where(folded < n, folded, 2 * (n - 1) - folded)


_BORDERS: dict[str, Callable[[npt.NDArray[np.int64], int], npt.NDArray[np.int64]]] = {
    "drop": lambda taps, n: np.clip(taps, 0, n - 1),
    "clamp": lambda taps, n: np.clip(taps, 0, n - 1),
    "reflect": _reflect,
    "wrap": np.mod,
}


def window(kernel: int, stride: int, before: int, dilation: int = 1) -> IndexMap:
    """A convolution or pool: `kernel` taps, `dilation` apart, `before` zeros padded in front."""
    return IndexMap(1, stride, (tuple(range(-before, -before + dilation * kernel, dilation)),))


@lru_cache(maxsize=4096)
def spread(kernel: int, stride: int, padding: int, dilation: int = 1) -> IndexMap:
    """A transposed convolution: input u reaches outputs u * stride - padding + j * dilation."""
    taps = []
    for v in range(stride):
        reached = {v + padding - j * dilation for j in range(kernel)}
        taps.append(tuple(sorted(r // stride for r in reached if r % stride == 0)))
    return IndexMap(stride, 1, tuple(taps))


@lru_cache(maxsize=4096)
def adaptive(inputs: int, outputs: int) -> IndexMap:
    """An adaptive pool."""
    shared = gcd(inputs, outputs)
    period = outputs // shared
    taps = tuple(tuple(range(*adaptive_window(u, inputs, outputs))) for u in range(period))
    return IndexMap(period, inputs // shared, taps)


_REACH = {"nearest": (0, 1), "nearest-exact": (0, 1), "linear": (0, 2), "cubic": (-1, 3)}


@lru_cache(maxsize=4096)
def resampled(outputs: int, ratio: Fraction, mode: str, *, align_corners: bool) -> IndexMap:
    """An interpolation along one axis; neighbours that get the weight zero do not count.

    Args:
        outputs: output size.
        ratio: input elements per output element.
        mode: "nearest", "nearest-exact", "linear" or "cubic".
        align_corners: as in `formulas.resampling.source_coordinate`.
    """
    period = min(ratio.denominator, outputs)
    taps = []
    for v in range(period):
        at = source_coordinate(v, ratio, mode, align_corners=align_corners)
        base = floor(at)
        interpolates = mode in ("linear", "cubic")
        first, end = (0, 1) if interpolates and at == base else _REACH[mode]
        taps.append(tuple(range(base + first, base + end)))
    return IndexMap(period, ratio.numerator if period == ratio.denominator else 0, tuple(taps), "clamp")


def shifted(offset: int, border: Border = "drop", step: int = 1) -> IndexMap:
    """Padding (negative offset), slicing (offset and step), flipping (step -1) and rolling (border "wrap")."""
    return IndexMap(1, step, ((offset,),), border)
