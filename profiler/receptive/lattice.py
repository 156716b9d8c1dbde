"""The law behind a receptive field: its edges without borders, as a pattern that repeats.

From it come the receptive field's size, stride and start (Araujo, Norris and Sim, "Computing Receptive Fields of
Convolutional Neural Networks", Distill 2019), with one pattern entry per phase where upsampling makes positions differ.
"""

from fractions import Fraction
from math import gcd, lcm

import numpy as np
import numpy.typing as npt

from profiler.receptive.index_map import IndexMap
from profiler.receptive.span import NOTHING

MOST_PHASES = 4096

Edge = tuple[int, int] | None
Integers = npt.NDArray[np.int64]


class Lattice:
    """Borderless edges: position q * period + r sees first[r]..last[r], moved on by q * advance inputs.

    A phase that sees nothing, a gap of a transposed convolution whose stride exceeds its kernel, has the edges
    (NOTHING, -NOTHING).
    """

    __slots__ = ("advance", "first", "last", "period")

    def __init__(self, period: int, advance: int, first: Integers, last: Integers) -> None:
        self.period = period
        self.advance = advance
        self.first = first
        self.last = last

    @classmethod
    def line(cls, step: int, low: int, high: int) -> "Lattice":
        """One phase: position u sees low..high moved on by u * step."""
        return cls(1, step, np.array([low]), np.array([high]))

    @property
    def edges(self) -> tuple[Edge, ...]:
        """First and last input of each phase, None where it sees nothing."""
        pairs = zip(self.first.tolist(), self.last.tolist(), strict=True)
        return tuple((first, last) if first <= last else None for first, last in pairs)

    def at(self, positions: Integers) -> tuple[Integers, Integers]:
        """First and last input of any positions, negative ones included."""
        rounds, phase = np.divmod(positions, self.period)
        first, last = self.first[phase], self.last[phase]
        moved = rounds * self.advance
        sees = first <= last
        return np.where(sees, first + moved, NOTHING), np.where(sees, last + moved, -NOTHING)

    def through(self, window: IndexMap) -> "Lattice | None":
        """The lattice behind a window; None where its pattern would have more than `MOST_PHASES` phases."""
        if window.advance == 0:
            return None
        if self.period == 1 and window.period == 1:
            if self.first[0] > self.last[0]:
                return self
            a = self.advance
            low, high = (window.low, window.high) if a > 0 else (window.high, window.low)
            return Lattice(1, a * window.advance, self.first + a * low, self.last + a * high)
        repeats = self.period // gcd(self.period, abs(window.advance))
        period = window.period * repeats
        if period > MOST_PHASES:
            return None
        pattern, filled = window.pattern()
        rounds, phase = np.divmod(np.arange(period), window.period)
        first, last = self.at(pattern[phase] + (rounds * window.advance)[:, None])
        counts = filled[phase]
        first = np.where(counts, first, NOTHING).min(axis=1)
        last = np.where(counts, last, -NOTHING).max(axis=1)
        return Lattice(period, self.advance * window.advance * repeats // self.period, first, last).simplest()

    def union(self, other: "Lattice") -> "Lattice | None":
        """What either sees; None where they move on at different rates, so that no one pattern describes both."""
        both = self._together(other)
        if both is None:
            return None
        (a, b), (c, d) = both
        period = len(a)
        advance = self.advance * period // self.period
        return Lattice(period, advance, np.minimum(a, c), np.maximum(b, d)).simplest()

    def centred(self, other: "Lattice") -> bool:
        """Whether the fields of both have the same centre at every position."""
        both = self._together(other)
        if both is None:
            return False
        (a, b), (c, d) = both
        return bool(((a + b == c + d) | (a > b) | (c > d)).all())

    def _together(self, other: "Lattice") -> tuple[tuple[Integers, Integers], tuple[Integers, Integers]] | None:
        """The edges of both over one common period."""
        if self.advance * other.period != other.advance * self.period:
            return None
        period = lcm(self.period, other.period)
        if period > MOST_PHASES:
            return None
        positions = np.arange(period)
        return self.at(positions), other.at(positions)

    def simplest(self) -> "Lattice":
        """The same edges with the shortest period."""
        positions = None
        for period in range(1, self.period // 2 + 1):
            if self.period % period or self.advance * period % self.period:
                continue
            short = Lattice(period, self.advance * period // self.period, self.first[:period], self.last[:period])
            positions = np.arange(self.period) if positions is None else positions
            first, last = short.at(positions)
            if np.array_equal(first, self.first) and np.array_equal(last, self.last):
                return short
        return self

    @property
    def stride(self) -> Fraction:
        """Inputs moved on per position."""
        return Fraction(self.advance, self.period)

    @property
    def size(self) -> int:
        """Inputs that the widest-seeing phase sees."""
        return max((e[1] - e[0] + 1 for e in self.edges if e), default=0)

    @property
    def start(self) -> int:
        """First input of the first position that sees any; negative in the padding."""
        return next((e[0] for e in self.edges if e), 0)
