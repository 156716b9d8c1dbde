"""Which inputs along one axis feed each output: one description for every operator that moves a window.

An `IndexMap` repeats: outputs v and v + period read the same pattern of inputs, `advance` further on. A convolution has
period 1 and advances by its stride; a transposed convolution has its stride as period and advances by 1; nearest and
linear interpolation and adaptive pooling from i to o repeat after o / gcd(i, o) outputs and i / gcd(i, o) inputs.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from math import floor, gcd
from typing import Literal

import numpy as np
import numpy.typing as npt

from profiler.errors import ModelError
from profiler.formulas.pooling import adaptive_window
from profiler.formulas.resampling import source_coordinate

Border = Literal["drop", "clamp", "reflect", "wrap"]
# Positions, with what each of them reads: 512 MiB of numbers, many minutes of raw sound.
MOST_ENTRIES = 1 << 26
# Torch's names of padding modes.
BORDERS: dict[str, Border] = {"constant": "drop", "replicate": "clamp", "reflect": "reflect", "circular": "wrap"}


@dataclass(frozen=True, slots=True, eq=False)  # two are the same if they are one object: the makers below remember
class IndexMap:
    """Taps of a periodic window, in ascending order.

    Attributes:
        period: outputs after which the pattern repeats.
        advance: inputs that it moves on meanwhile.
        taps: for each output of one period, the inputs it reads; beyond the borders they are negative or too large.
        border: what a tap beyond the border reads: nothing ("drop": zeros were padded, or the window is cut), the
            outermost input ("clamp"), its mirror image ("reflect") or the other end ("wrap").
        low: first tap of the first output.
        high: its last tap.
        dense: whether every output reads neighbouring inputs without gap, the same number each.
        same: whether output u reads input u and no other.
    """

    period: int
    advance: int
    taps: tuple[tuple[int, ...], ...]
    border: Border = "drop"
    low: int = field(init=False)
    high: int = field(init=False)
    dense: bool = field(init=False)
    same: bool = field(init=False)

    def __post_init__(self) -> None:
        first = self.taps[0] or (0,)
        dense = self.period == 1 and self.border == "drop" and first[-1] - first[0] + 1 == len(self.taps[0])
        object.__setattr__(self, "low", first[0])
        object.__setattr__(self, "high", first[-1])
        object.__setattr__(self, "dense", dense)
        object.__setattr__(self, "same", self.period == 1 and self.advance == 1 and self.taps == ((0,),))

    @lru_cache(maxsize=256)  # noqa: B019  # maps are few and shared by all networks; what is kept is small
    def indices(self, outputs: int, inputs: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Inputs read by each output, and which of the entries count: two arrays of shape (outputs, most taps)."""
        pattern, filled = self.pattern()
        _check_length(outputs * pattern.shape[1])
        rounds, phase = np.divmod(np.arange(outputs), self.period)
        taps = pattern[phase] + (rounds * self.advance)[:, None]
        valid = filled[phase]
        if self.border == "drop":
            valid = valid & (taps >= 0) & (taps < inputs)
        return _BORDERS[self.border](taps, inputs), valid

    @lru_cache(maxsize=256)  # noqa: B019  # as above
    def pattern(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """The taps of one period and which of the entries count: two arrays of shape (period, most taps)."""
        most = max((len(t) for t in self.taps), default=0) or 1
        pattern = np.array([t + (t[-1:] or (-1,)) * (most - len(t)) for t in self.taps], dtype=np.int64)
        filled = np.array([[n < len(t) for n in range(most)] for t in self.taps])
        return pattern, filled


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


def _check_length(entries: int) -> None:
    """Raise ModelError where an axis, or a window on it, is longer than any that has been meant."""
    if entries > MOST_ENTRIES:
        raise ModelError(
            f"an axis or a window would take {entries:,} positions to follow, more than {MOST_ENTRIES:,}; "
            "try smaller inputs"
        )


@lru_cache(maxsize=4096)
def window(kernel: int, stride: int, before: int, dilation: int = 1) -> IndexMap:
    """A convolution or pool: `kernel` taps, `dilation` apart, `before` zeros padded in front."""
    _check_length(kernel)
    return IndexMap(1, stride, (tuple(range(-before, -before + dilation * kernel, dilation)),))


@lru_cache(maxsize=4096)
def spread(kernel: int, stride: int, padding: int, dilation: int = 1) -> IndexMap:
    """A transposed convolution: input u reaches outputs u * stride - padding + j * dilation."""
    _check_length(kernel * stride)
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


@lru_cache(maxsize=4096)
def shifted(offset: int, border: Border = "drop", step: int = 1) -> IndexMap:
    """Padding (negative offset), slicing (offset and step), flipping (step -1) and rolling (border "wrap")."""
    return IndexMap(1, step, ((offset,),), border)


@lru_cache(maxsize=4096)
def taken(places: tuple[int, ...]) -> IndexMap:
    """Known positions of an axis, in any order."""
    steps = {b - a for a, b in pairwise(places)}
    if places and len(steps) <= 1:
        return shifted(places[0], step=steps.pop() if steps else 1)
    return IndexMap(max(len(places), 1), 0, tuple((p,) for p in places) or ((),))


@lru_cache(maxsize=4096)
def joining(outer: int, n: int, inner: int) -> IndexMap:
    """An axis of outer * n * inner positions joined along its middle factor."""
    if inner == 1:
        return window(n, n, 0)
    if outer == 1:
        return window(n, 1, 0, inner)
    return IndexMap(inner, n * inner, tuple(tuple(range(k, k + n * inner, inner)) for k in range(inner)))


@lru_cache(maxsize=4096)
def repeating(outer: int, n: int, inner: int) -> IndexMap:
    """An axis of outer * inner positions repeated n times along a new middle factor."""
    if outer == 1:
        return IndexMap(inner, 0, tuple((k,) for k in range(inner)))
    return IndexMap(n * inner, inner, tuple((k,) for k in range(inner)) * n)


@lru_cache(maxsize=1024)
def within(window: IndexMap, outputs: int, outer: int, n: int, inner: int) -> IndexMap:
    """A window from n inputs to some outputs along the middle factor of an axis of outer * n * inner positions."""
    if outer == 1 == inner:
        return window
    if outer == 1 and window.border == "drop":
        taps = tuple(tuple(t * inner + k for t in each) for each in window.taps for k in range(inner))
        return IndexMap(window.period * inner, window.advance * inner, taps)
    places, valid = window.indices(outputs, n)
    each = [tuple(sorted(set(row[counts].tolist()))) for row, counts in zip(places, valid, strict=True)]
    return IndexMap(
        outputs * inner, n * inner, tuple(tuple(t * inner + k for t in row) for row in each for k in range(inner))
    )


def reading(window: IndexMap, outputs: int, inputs: int) -> npt.NDArray[np.bool_]:
    """Which of the outputs read some input."""
    return np.asarray(window.indices(outputs, inputs)[1].any(axis=1))


@lru_cache(maxsize=4096)
def all_read(window: IndexMap, outputs: int, inputs: int) -> bool:
    """Whether every one of the outputs reads some input."""
    return bool(reading(window, outputs, inputs).all())


@lru_cache(maxsize=4096)
def reads_all(window: IndexMap, outputs: int, inputs: int) -> bool:
    """Whether every one of the inputs is read by some output."""
    taps, valid = window.indices(outputs, inputs)
    return len(np.unique(taps[valid])) == inputs
