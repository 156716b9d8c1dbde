"""Straight edges: what positions behind convolutions and pools that pad with zeros see, in seven integers."""

from fractions import Fraction
from functools import lru_cache

import numpy as np

from profiler.receptive.index_map import IndexMap
from profiler.receptive.lattice import Lattice
from profiler.receptive.reading import Report
from profiler.receptive.sight import Sight
from profiler.receptive.span import NOTHING, Span


@lru_cache(maxsize=1024)
def _fraction(numerator: int, denominator: int) -> Fraction:
    return Fraction(numerator, denominator)


class Line(Sight):
    """Straight edges, cut off at the ends of the input."""

    __slots__ = ("head", "high", "least", "low", "most", "step", "tail")

    def __init__(
        self, size: int, extent: int, *, step: int, low: int, high: int, least: int, most: int, head: int, tail: int,
        aligned: bool = True,
    ) -> None:  # fmt: skip
        self.size = size
        self.extent = extent
        self.aligned = aligned
        self._derived = {}
        self.known_span = self._lattice = self.known_reach = self._report = self._covers = None
        self.step = step
        self.low = low
        self.high = high
        self.least = least
        self.most = most
        self.head = head
        self.tail = tail

    @property
    def span(self) -> Span:
        """The truth, position by position."""
        if self.known_span is None:
            line = np.arange(self.head, self.tail + 1) * self.step
            first, last = np.full(self.size, NOTHING), np.full(self.size, -NOTHING)
            first[self.head : self.tail + 1] = np.maximum(line + self.low, self.least)
            last[self.head : self.tail + 1] = np.minimum(line + self.high, self.most)
            self.known_span = Span(first, last)
        return self.known_span

    @property
    def lattice(self) -> Lattice:
        """The law without borders."""
        if self._lattice is None:
            self._lattice = Lattice.line(self.step, self.low, self.high)
        return self._lattice

    @property
    def reach(self) -> tuple[int, int]:
        """First and last input that any position sees."""
        return self.least, self.most

    @property
    def sees(self) -> bool:
        """Whether any position sees anything: head <= tail always."""
        return True

    @property
    def gaps(self) -> bool:
        """Whether some positions see nothing."""
        return self.head > 0 or self.tail < self.size - 1

    @property
    def report(self) -> Report:
        """Size, stride and start."""
        if self._report is None:
            self._report = self.high - self.low + 1, _fraction(self.step, 1), self.low, None
        return self._report

    def _through(self, window: IndexMap, outputs: int) -> Sight:
        advance = window.advance
        if not window.dense or advance <= 0:
            return super()._through(window, outputs)
        # Of the taps `window.low ... window.high`, moved on by `advance`, those from head to tail count.
        head = max(0, -((window.high - self.head) // advance))
        tail = min(outputs - 1, (self.tail - window.low) // advance)
        if head > tail:
            return super()._through(window, outputs)
        step = self.step * advance
        low, high = self.low + self.step * window.low, self.high + self.step * window.high
        least, most = max(self.least, step * head + low), min(self.most, step * tail + high)
        return Line(outputs, self.extent, step=step, low=low, high=high, least=least, most=most, head=head, tail=tail,
            aligned=self.aligned)  # fmt: skip

    def _union(self, other: Sight) -> Sight:
        if isinstance(other, Line) and self.step == other.step and self.head == other.head and self.tail == other.tail:
            left = _dominant(self.low, self.least, other.low, other.least)
            right = _dominant(-self.high, -self.most, -other.high, -other.most)
            if left is not None and right is not None:
                (low, least), (high, most) = left, right
                aligned = self.aligned and other.aligned and self.low + self.high == other.low + other.high
                return self._like(other, low, -high, least, -most, aligned=aligned)
        return super()._union(other)

    def _like(self, other: "Line", low: int, high: int, least: int, most: int, *, aligned: bool) -> "Line":
        """The line with these edges, which is one of the two where they are its own."""
        for line in (self, other):
            if (line.low, line.least, line.high, line.most) == (low, least, high, most) and line.aligned is aligned:
                return line
        return Line(
            self.size, self.extent, step=self.step, low=low, high=high, least=least, most=most,
            head=self.head, tail=self.tail, aligned=aligned,
        )  # fmt: skip

    def same(self, other: Sight) -> bool:
        """Whether both see the same, position by position."""
        if self is other:
            return True
        if not isinstance(other, Line):
            return super().same(other)
        if (self.head, self.tail, self.least, self.most) != (other.head, other.tail, other.least, other.most):
            return False
        if self.step != other.step:
            return super().same(other)
        line = self.step * self.tail
        if max(line + self.low, self.least) != max(line + other.low, self.least):
            return False
        line = self.step * self.head
        return min(line + self.high, self.most) == min(line + other.high, self.most)


def _dominant(low: int, least: int, other_low: int, other_least: int) -> tuple[int, int] | None:
    """The one of two edges `max(step u + low, least)` that lies below the other at every u."""
    if low <= other_low and least <= other_least:
        return low, least
    return (other_low, other_least) if other_low <= low and other_least <= least else None


def identity(size: int) -> Line:
    """Each position of an input axis sees itself."""
    return Line(size, size, step=1, low=0, high=0, least=0, most=size - 1, head=0, tail=size - 1)
