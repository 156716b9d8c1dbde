"""First and last input seen, position by position, in arrays of integers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from profiler.receptive.index_map import IndexMap

NOTHING = int(np.iinfo(np.int64).max)  # the first input of a position that sees none; its last is -NOTHING

Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(slots=True, eq=False)
class Span:
    """First and last input seen, per position: two integer arrays of one shape."""

    first: Integers
    last: Integers

    @classmethod
    def identity(cls, size: int) -> "Span":
        """Each position sees itself."""
        return cls(np.arange(size), np.arange(size))

    @classmethod
    def fixed(cls, first: int, last: int) -> "Span":
        """One position."""
        return cls(np.array([first]), np.array([last]))

    def through(self, window: IndexMap, outputs: int) -> "Span":
        """The span behind a window that moves along this axis."""
        if len(self.first) == 0:
            return Span(np.full(outputs, NOTHING), np.full(outputs, -NOTHING))
        taps, valid = window.indices(outputs, len(self.first))
        if valid.all():
            if taps.shape[1] == 1:
                return Span(self.first[taps[:, 0]], self.last[taps[:, 0]])
            return Span(self.first[taps].min(axis=1), self.last[taps].max(axis=1))
        first = np.where(valid, self.first[taps], NOTHING).min(axis=1)
        last = np.where(valid, self.last[taps], -NOTHING).max(axis=1)
        return Span(first, last)

    def union(self, other: "Span") -> "Span":
        """What either sees; shapes broadcast."""
        return Span(np.minimum(self.first, other.first), np.maximum(self.last, other.last))

    def over(self, axes: tuple[int, ...]) -> "Span":
        """What the positions along these axes see together."""
        return Span(self.first.min(axis=axes), self.last.max(axis=axes))

    def reshape(self, shape: tuple[int, ...]) -> "Span":
        """The same positions under another shape."""
        return Span(self.first.reshape(shape), self.last.reshape(shape))

    def broadcast(self, shape: tuple[int, ...]) -> "Span":
        """The same repeated to a shape."""
        return Span(np.broadcast_to(self.first, shape), np.broadcast_to(self.last, shape))

    @classmethod
    def concatenate(cls, spans: Sequence["Span"], axis: int = 0) -> "Span":
        """One after the other along an axis."""
        return cls(np.concatenate([s.first for s in spans], axis), np.concatenate([s.last for s in spans], axis))

    def running(self, axis: int = 0) -> "Span":
        """What each position and all before it along an axis see."""
        return Span(np.minimum.accumulate(self.first, axis), np.maximum.accumulate(self.last, axis))

    def running_in(self, sizes: Integers, *, both_ways: bool) -> "Span":
        """Of packed sequences, `sizes[t]` of which have a step t: what a row sees with those before it in its own."""
        first, last = self.first.copy(), self.last.copy()
        for edge, join in ((first, np.minimum), (last, np.maximum)):
            at, before = 0, edge[: sizes[0]]
            rows = []
            for n in sizes.tolist():
                before = edge[at : at + n] = join(edge[at : at + n], before[:n])
                rows.append((at, n))
                at += n
            if both_ways:
                ends = edge[: sizes[0]].copy()
                for start, n in rows:
                    ends[:n] = edge[start : start + n]
                for start, n in rows:
                    edge[start : start + n] = ends[:n]
        return Span(first, last)

    def permuted(self, sizes: tuple[int, ...], order: tuple[int, ...]) -> "Span":
        """The positions of an array of `sizes` with its axes in another order, in a row."""
        return Span(*(x.reshape(sizes).transpose(order).reshape(-1) for x in (self.first, self.last)))

    def at(self, sizes: tuple[int, ...], index: tuple[int | slice, ...]) -> "Span":
        """Some positions of those of an array of `sizes`, in a row."""
        whole = self.reshape(sizes)
        return Span(np.asarray(whole.first[index]).reshape(-1), np.asarray(whole.last[index]).reshape(-1))

    def looked(self, looks: npt.NDArray[Any]) -> "Span":
        """Positions that each see what some of these see.

        Args:
            looks: truth values (new positions, positions), or how many of the first positions each looks at.
        """
        if looks.ndim == 1:
            before, last = self.running(), np.maximum(looks - 1, 0)
            return Span(before.first[last], before.last[last]).hidden(looks == 0)
        low, high = np.where(looks, self.first, NOTHING), np.where(looks, self.last, -NOTHING)
        return Span(low.min(axis=1), high.max(axis=1))

    def hidden(self, holes: Mask) -> "Span":
        """The same but for these positions, which see nothing."""
        return Span(np.where(holes, NOTHING, self.first), np.where(holes, -NOTHING, self.last))

    def ends(self) -> tuple[int, int]:
        """First and last input that any position sees."""
        if len(self.first) == 0:
            return NOTHING, -NOTHING
        return int(self.first.min()), int(self.last.max())

    def widest(self) -> int:
        """Largest number of inputs that one position sees."""
        sees = self.last >= self.first
        return int((self.last[sees] - self.first[sees] + 1).max(initial=0))

    def covers(self, size: int) -> bool:
        """Whether every position sees the axis from end to end."""
        return bool((self.first <= 0).all() and (self.last >= size - 1).all())

    def __eq__(self, other: object) -> bool:
        """Equal at every position."""
        return (
            isinstance(other, Span)
            and np.array_equal(self.first, other.first)
            and np.array_equal(self.last, other.last)
        )

    __hash__ = None  # type: ignore[assignment]  # holds arrays
