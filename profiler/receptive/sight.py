"""What the positions along one axis see of one input axis, worked out no further than it is asked for.

Behind convolutions and pools that pad with zeros every edge is a straight line cut off at the ends of the input,

    first(u) = max(step u + low, least)        last(u) = min(step u + high, most)        head <= u <= tail

and positions outside head..tail see nothing: `Line`. Such lines stay lines through every window of neighbouring taps:
seven integers are exact everywhere. All else is a `Table`, which knows its law at once and positions when asked for
them. Concatenated channels are a `Stack` of sights, one for each kind.
"""

from collections.abc import Callable, Hashable
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from profiler.receptive.index_map import IndexMap, all_read, joining, reads_all, repeating, within
from profiler.receptive.lattice import MOST_PHASES, Lattice
from profiler.receptive.reading import Report, phases_of, seen_in
from profiler.receptive.span import NOTHING, Integers, Mask, Span


class Sight:
    """What a row of positions sees of one input axis.

    Objects are shared: the same step from the same sight gives the same object, which tells equal branches.

    Attributes:
        size: number of positions.
        extent: size of the input axis.
        aligned: whether all paths that have been joined are centred on the same places.
    """

    __slots__ = ("_covers", "_derived", "_lattice", "_report", "aligned", "extent", "known_reach", "known_span", "size")

    blank = False  # no position sees anything, as is known without looking

    def __init__(self, size: int, extent: int, *, aligned: bool = True) -> None:
        self.size = size
        self.extent = extent
        self.aligned = aligned
        self._derived: dict[Hashable, Sight] = {}
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
        return self.reach[0] <= self.reach[1]

    @property
    def gaps(self) -> bool:
        """Whether some positions see nothing."""
        raise NotImplementedError

    @property
    def holes(self) -> bytes:
        """Which positions see nothing; empty where all see something."""
        return (self.span.last < self.span.first).tobytes() if self.gaps else b""

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
            self._report = seen_in(self.span) if law is None else (law.size, law.stride, law.start, phases_of(law))
        return self._report

    def remembered(self, key: Hashable, make: Callable[[], "Sight"]) -> "Sight":
        """What follows from this sight by a step that is taken once."""
        found = self._derived.get(key)
        if found is None:
            found = self._derived[key] = make()
        return found

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
            found = self if other.blank else other if self.blank else self._union(other)
            self._derived[other] = found
        return found

    def _union(self, other: "Sight") -> "Sight":
        mine, its = self.lattice, other.lattice
        law = mine.union(its) if mine is not None and its is not None else None
        aligned = self.aligned and other.aligned and mine is not None and its is not None and mine.centred(its)
        return Table(self.size, self.extent, (self, other), Span.union, law, aligned=aligned)

    def within(self, window: IndexMap, outputs: int, outer: int, n: int, inner: int) -> "Sight":
        """Behind a window that moves along the middle one of the axes (outer, n, inner) of an array of positions."""
        return self.through(within(window, outputs, outer, n, inner), outer * outputs * inner)

    def over(self, sizes: tuple[int, ...], axes: tuple[int, ...]) -> "Sight":
        """The positions, which are those of an array of `sizes`, joined along some of its axes."""
        sight, rest = self, list(sizes)
        for axis in sorted(axes, reverse=True):
            n = rest.pop(axis)
            sight = sight.along(prod(rest[:axis]), n, prod(rest[axis:]))
        return sight

    def along(self, outer: int, n: int, inner: int) -> "Sight":
        """The positions of an array (outer, n, inner) joined along its middle axis."""
        if outer * inner == 1:
            return self.joined()
        return self.through(joining(outer, n, inner), outer * inner)

    def joined(self) -> "Sight":
        """All positions as one."""
        return self.remembered("joined", lambda: fixed(*self.reach, self.extent))

    def at(self, sizes: tuple[int, ...], index: tuple[int | slice, ...]) -> "Sight":
        """Some positions of those of an array of `sizes`."""
        left = prod(n for n, i in zip(sizes, index, strict=True) if isinstance(i, slice))
        return Table(left, self.extent, (self,), lambda span: span.at(sizes, index), None)

    def repeated(self, outer: int, n: int, inner: int) -> "Sight":
        """The positions of an array (outer, inner), repeated along a new axis in the middle."""
        if outer == 1 and inner > 1:
            from profiler.receptive.stack import stack  # a stack is made of sights

            return stack((self,) * n)
        return self.through(repeating(outer, n, inner), outer * n * inner)

    def permuted(self, sizes: tuple[int, ...], order: tuple[int, ...]) -> "Sight":
        """The positions of an array of `sizes` with its axes in another order."""
        return self._followed(("permuted", sizes, order), lambda span: span.permuted(sizes, order))

    def running(self, sizes: tuple[int, ...], axis: int) -> "Sight":
        """Each position of an array of `sizes` sees what those before it along an axis see as well."""
        return self._followed(("running", sizes, axis), lambda s: s.reshape(sizes).running(axis).reshape((-1,)))

    def running_in(self, sizes: Integers, *, both_ways: bool) -> "Sight":
        """Of packed sequences, `sizes[t]` of which have a step t: each row sees those before it in its sequence."""
        key = ("running in", sizes.tobytes(), both_ways)
        return self._followed(key, lambda span: span.running_in(sizes, both_ways=both_ways))

    def _followed(self, key: Hashable, change: Callable[[Span], Span]) -> "Sight":
        return self.remembered(key, lambda: Table(self.size, self.extent, (self,), change, None))

    def looked(self, looks: npt.NDArray[Any]) -> "Sight":
        """Positions that each see what some of these see: which, or how many of the first ones."""

        def make() -> Sight:
            table = Table(len(looks), self.extent, (self,), lambda span: span.looked(looks), None)
            table.known_gaps = None if looks.reshape(len(looks), -1).any(axis=1).all() else True
            return table

        return self.remembered(("looked", looks.shape, looks.tobytes()), make)

    def hidden(self, holes: Mask) -> "Sight":
        """The same but for these positions, which see nothing."""

        def make() -> Sight:
            table = Table(self.size, self.extent, (self,), lambda span: span.hidden(holes), self.lattice)
            table.known_gaps = True
            return table

        return self.remembered(("hidden", holes.tobytes()), make)

    def emptied(self) -> "Sight":
        """As many positions that see nothing."""
        return self.remembered("emptied", lambda: Blank(self.size, self.extent))

    def same(self, other: "Sight") -> bool:
        """Whether both see the same, position by position."""
        return self is other or self.span == other.span


class Table(Sight):
    """Positions that follow from those of other sights; worked out when they are asked for."""

    __slots__ = ("compute", "known_gaps", "sources", "window")

    def __init__(
        self,
        size: int,
        extent: int,
        sources: tuple[Sight, ...],
        compute: Callable[..., Span],
        lattice: Lattice | None,
        aligned: bool | None = None,  # noqa: FBT001  # named by every caller
    ) -> None:
        super().__init__(size, extent)
        self.aligned = all([s.aligned for s in sources]) if aligned is None else aligned  # noqa: C419  # a list is faster
        self.sources = sources
        self.compute = compute
        self._lattice = lattice
        self.window: IndexMap | None = None
        self.known_gaps: bool | None = None

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
                self.known_reach = sight.span.ends()
            else:
                self.known_reach = sight.reach
        return self.known_reach

    @property
    def gaps(self) -> bool:
        """Whether some positions see nothing."""
        if self.known_gaps is None:
            self.known_gaps = self._may_have_gaps() and bool((self.span.last < self.span.first).any())
        return self.known_gaps

    def _may_have_gaps(self) -> bool:
        """Whether positions have to be looked at to tell: not behind windows that all read something of no gaps."""
        sight: Sight = self
        while isinstance(sight, Table) and sight.known_span is None and sight.known_gaps is None:
            if sight.window is None:
                which = all if sight.compute is Span.union else any
                return which(s.gaps for s in sight.sources)
            if not all_read(sight.window, sight.size, sight.sources[0].size):
                return True
            sight = sight.sources[0]
        return sight is self or sight.gaps


class Blank(Table):
    """Positions that see nothing."""

    __slots__ = ()

    blank = True

    def __init__(self, size: int, extent: int) -> None:
        super().__init__(size, extent, (), self._nothing, None)
        self.known_reach = NOTHING, -NOTHING
        self.known_gaps = True

    def _nothing(self) -> Span:
        return Span(np.full(self.size, NOTHING), np.full(self.size, -NOTHING))

    def _through(self, window: IndexMap, outputs: int) -> Sight:  # noqa: ARG002  # through any window nothing is seen
        return Blank(outputs, self.extent)


def fixed(first: int, last: int, extent: int) -> Sight:
    """One position, which sees first..last."""
    if first > last:
        return Blank(1, extent)
    sight = Table(1, extent, (), lambda: Span.fixed(first, last), None)
    sight.known_reach = (first, last)
    return sight
