"""What the positions along one axis see of one input axis, worked out no further than it is asked for.

Behind convolutions and pools that pad with zeros every edge is a straight line cut off at the ends of the input,

    first(u) = max(step u + low, least)        last(u) = min(step u + high, most)        head <= u <= tail

and positions outside head..tail see nothing: `Line`. Such lines stay lines through every window of neighbouring taps,
so that seven integers are exact at every position. Everything else (dilation at the borders, upsampling, mirrored
padding) is a `Table`: it knows its law at once and its positions when they are asked for.
"""

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from profiler.profile import Phases
from profiler.receptive.index_map import IndexMap, joining, repeating
from profiler.receptive.lattice import MOST_PHASES, Lattice
from profiler.receptive.span import NOTHING, Span

Report = tuple[int, Fraction, int, Phases | None]

# More fields than this are not listed in a report.
MOST_LISTED = 64

_ZERO = Fraction(0)


@lru_cache(maxsize=1024)
def _fraction(numerator: int, denominator: int) -> Fraction:
    return Fraction(numerator, denominator)


class Sight:
    """What a row of positions sees of one input axis.

    Objects are shared and never change but for what they remember: the same step from the same sight gives the same
    object, so that equal branches are recognised without a look at their positions.

    Attributes:
        size: number of positions.
        extent: size of the input axis.
        aligned: whether all paths that have been joined are centred on the same places.
    """

    __slots__ = ("_covers", "_derived", "_lattice", "_report", "aligned", "extent", "known_reach", "known_span", "size")

    def __init__(self, size: int, extent: int, *, aligned: bool = True) -> None:
        self.size = size
        self.extent = extent
        self.aligned = aligned
        self._derived: dict[Any, Sight] = {}
        self.known_span: Span | None = None
        self._lattice: Lattice | None = None
        self.known_reach: tuple[int, int] | None = None
        self._report: Report | None = None
        self._covers: bool | None = None

    @property
    def span(self) -> Span:
        """The truth, position by position."""
        raise NotImplementedError

    @property
    def lattice(self) -> Lattice | None:
        """The law without borders, where there is one."""
        return self._lattice

    @property
    def reach(self) -> tuple[int, int]:
        """First and last input that any position sees; (NOTHING, -NOTHING) where none sees any."""
        raise NotImplementedError

    @property
    def sees(self) -> bool:
        """Whether any position sees anything."""
        first, last = self.reach
        return first <= last

    @property
    def covers(self) -> bool:
        """Whether every position sees the input axis from end to end."""
        if self._covers is None:
            first, last = self.reach
            reaches = first <= 0 and last >= self.extent - 1
            self._covers = reaches and (self.size == 1 or self.span.covers(self.extent))
        return self._covers

    @property
    def report(self) -> Report:
        """Size, stride, start and, where positions differ, what each sees."""
        if self._report is None:
            law = self.lattice
            self._report = _seen(self.span) if law is None else (law.size, law.stride, law.start, _phases(law))
        return self._report

    def through(self, window: IndexMap, outputs: int) -> "Sight":
        """Behind a window that moves along these positions."""
        key = (window, outputs)
        found = self._derived.get(key)
        if found is None:
            found = self._derived[key] = self._through(window, outputs)
        return found

    def _through(self, window: IndexMap, outputs: int) -> "Sight":
        law = self.lattice
        moved = law.through(window) if law is not None and window.period <= MOST_PHASES else None
        result = Table(outputs, self.extent, (self,), lambda span: span.through(window, outputs), moved)
        result.window = window
        return result

    def union(self, other: "Sight") -> "Sight":
        """What either sees."""
        if self is other:
            return self
        found = self._derived.get(other)
        if found is None:
            found = self._derived[other] = self._union(other)
        return found

    def _union(self, other: "Sight") -> "Sight":
        mine, its = self.lattice, other.lattice
        law = mine.union(its) if mine is not None and its is not None else None
        aligned = self.aligned and other.aligned and mine is not None and its is not None and mine.centred(its)
        return Table(self.size, self.extent, (self, other), Span.union, law, aligned=aligned)

    def over(self, sizes: tuple[int, ...], axes: tuple[int, ...]) -> "Sight":
        """The positions, which are those of an array of `sizes`, joined along some of its axes."""
        sight, rest = self, list(sizes)
        for axis in sorted(axes, reverse=True):
            outer, n, inner = prod(rest[:axis]), rest.pop(axis), prod(rest[axis + 1 :] if axis < len(rest) else ())
            if outer * inner == 1:
                return sight.joined()
            sight = sight.through(joining(outer, n, inner), outer * inner)
        return sight

    def joined(self) -> "Sight":
        """All positions as one."""
        found = self._derived.get("joined")
        if found is None:
            found = self._derived["joined"] = fixed(*self.reach, self.extent)
        return found

    def at(self, sizes: tuple[int, ...], index: tuple[int | slice, ...]) -> "Sight":
        """Some positions of those of an array of `sizes`."""
        size = prod(n for n, i in zip(sizes, index, strict=True) if isinstance(i, slice))

        def picked(span: Span) -> Span:
            whole = span.reshape(sizes)
            return Span(np.asarray(whole.first[index]).reshape(-1), np.asarray(whole.last[index]).reshape(-1))

        return Table(size, self.extent, (self,), picked, None)

    def spread(self, sizes: tuple[int, ...], order: tuple[int | None, ...], full: tuple[int, ...]) -> "Sight":
        """The positions of an array of `sizes` in another order of axes, repeated along those it does not have.

        Args:
            sizes: of the axes there are.
            order: for each axis of the result the one it is, None for one along which everything is repeated.
            full: sizes of the result.
        """
        sight = self
        there = [n for n in order if n is not None]
        if there != sorted(there):
            sight = sight.permuted(sizes, tuple(there))
        rest = [sizes[n] for n in there]
        for axis, n in enumerate(order):
            if n is None:
                outer, inner = prod(rest[:axis]), prod(rest[axis:])
                sight = sight.through(repeating(outer, full[axis], inner), outer * full[axis] * inner)
                rest.insert(axis, full[axis])
        return sight

    def permuted(self, sizes: tuple[int, ...], order: tuple[int, ...]) -> "Sight":
        """The positions of an array of `sizes` with its axes in another order."""
        key = ("permuted", sizes, order)
        found = self._derived.get(key)
        if found is None:

            def change(span: Span) -> Span:
                return Span(*(x.reshape(sizes).transpose(order).reshape(-1) for x in (span.first, span.last)))

            found = self._derived[key] = Table(self.size, self.extent, (self,), change, None)
        return found

    def running(self) -> "Sight":
        """Each position sees what those before it see as well."""
        found = self._derived.get("running")
        if found is None:
            found = self._derived["running"] = Table(self.size, self.extent, (self,), Span.running, None)
        return found

    def same(self, other: "Sight") -> bool:
        """Whether both see the same, position by position."""
        return self is other or self.span == other.span


def _phases(law: Lattice) -> Phases | None:
    if law.period == 1:
        return None
    fields = tuple([(0, None) if e is None else (e[1] - e[0] + 1, e[0]) for e in law.edges])
    sizes = [size for size, _ in fields]
    return Phases(law.period, fields if law.period <= MOST_LISTED else (), min(sizes), max(sizes))


def _seen(span: Span) -> Report:
    """Of positions that follow no law: the widest field, the mean stride, the first start."""
    sees = span.last >= span.first
    seen = span.first[sees]
    if len(seen) == 0:
        return 0, _ZERO, 0, None
    stride = Fraction(int(seen[-1] - seen[0]), len(seen) - 1) if len(seen) > 1 else _ZERO
    sizes = np.where(sees, span.last - span.first + 1, 0)
    smallest, widest = int(sizes.min()), int(sizes.max())
    steps = np.diff(span.first)
    if smallest == widest and (steps == steps[:1]).all():
        return widest, stride, int(seen[0]), None
    listed = len(sizes) <= MOST_LISTED
    starts = (
        [start if n else None for start, n in zip(span.first.tolist(), sizes.tolist(), strict=True)] if listed else []
    )
    fields = tuple(zip(sizes.tolist(), starts, strict=True)) if listed else ()
    return widest, stride, int(seen[0]), Phases(None, fields, smallest, widest)


class Table(Sight):
    """Positions that follow from those of other sights; worked out when they are asked for."""

    __slots__ = ("compute", "sources", "window")

    def __init__(
        self,
        size: int,
        extent: int,
        sources: tuple[Sight, ...],
        compute: Callable[..., Span],
        lattice: Lattice | None,
        *,
        aligned: bool | None = None,
    ) -> None:
        super().__init__(size, extent)
        self.aligned = all([s.aligned for s in sources]) if aligned is None else aligned  # noqa: C419  # a list is faster
        self.sources = sources
        self.compute = compute
        self._lattice = lattice
        self.window: IndexMap | None = None

    @property
    def span(self) -> Span:
        """The truth, position by position."""
        if self.known_span is None:
            waiting: list[Table] = [self]
            while waiting:  # not by recursion: networks are deeper than Python's stack
                table = waiting[-1]
                before = [s for s in table.sources if isinstance(s, Table) and s.known_span is None]
                if before:
                    waiting += before
                    continue
                if table.known_span is None:
                    table.known_span = table.compute(*(s.span for s in table.sources))
                waiting.pop()
        return self.known_span  # type: ignore[return-value]  # worked out above

    @property
    def reach(self) -> tuple[int, int]:
        """First and last input that any position sees."""
        if self.known_reach is None:
            sight: Sight = self
            # What reads every position reaches as far as all of them.
            while (
                isinstance(sight, Table)
                and sight.known_reach is None
                and sight.known_span is None
                and sight.window is not None
                and reads_all(sight.window, sight.size, sight.sources[0].size)
            ):
                sight = sight.sources[0]
            if isinstance(sight, Table) and sight.known_reach is None:
                self.known_reach = _ends(sight.span)
            else:
                self.known_reach = sight.reach
        return self.known_reach


def _ends(span: Span) -> tuple[int, int]:
    if len(span.first) == 0:
        return NOTHING, -NOTHING
    return int(span.first.min()), int(span.last.max())


@lru_cache(maxsize=4096)
def reads_all(window: IndexMap, outputs: int, inputs: int) -> bool:
    """Whether every one of the inputs is read by some output."""
    taps, valid = window.indices(outputs, inputs)
    return len(np.unique(taps[valid])) == inputs


def fixed(first: int, last: int, extent: int) -> Sight:
    """One position, which sees first..last."""
    sight = Table(1, extent, (), lambda: Span.fixed(first, last), None)
    sight.known_reach = (first, last)
    return sight


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
            self._lattice = Lattice(1, self.step, ((self.low, self.high),))
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
