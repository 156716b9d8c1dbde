"""What the positions along one axis see of one input axis, worked out no further than it is asked for.

Behind convolutions and pools that pad with zeros every edge is a straight line cut off at the ends of the input,

    first(u) = max(step u + low, least)        last(u) = min(step u + high, most)        head <= u <= tail

and positions outside head..tail see nothing: `Line`. Such lines stay lines through every window of neighbouring taps,
so that seven integers are exact at every position. Everything else (dilation at the borders, upsampling, mirrored
padding) is a `Table`: it knows its law at once and its positions when they are asked for. Concatenated channels are a
`Stack` of sights, one for each kind of channel.
"""

from collections.abc import Callable, Hashable, Sequence
from fractions import Fraction
from functools import lru_cache, reduce
from math import prod

import numpy as np
import numpy.typing as npt

from profiler.profile import Phases
from profiler.receptive.index_map import IndexMap, joining, repeating, within
from profiler.receptive.lattice import MOST_PHASES, Lattice
from profiler.receptive.span import NOTHING, Span

Report = tuple[int, Fraction, int, Phases | None]

# More fields than this are not listed in a report.
MOST_LISTED = 64

_ZERO = Fraction(0)


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
        first, last = self.reach
        return first <= last

    @property
    def gaps(self) -> bool:
        """Whether some positions see nothing."""
        raise NotImplementedError

    @property
    def holes(self) -> bytes:
        """Which positions see nothing; empty where all see something."""
        if not self.gaps:
            return b""
        return (self.span.last < self.span.first).tobytes()

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
            found = self._derived[other] = self._union(other)
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
        there = tuple([n for n in order if n is not None])
        if there != tuple(sorted(there)):
            sight = sight.permuted(sizes, there)
        rest = [sizes[n] for n in there]
        for axis, n in enumerate(order):
            if n is None:
                sight = sight.repeated(prod(rest[:axis]), full[axis], prod(rest[axis:]))
                rest.insert(axis, full[axis])
        return sight

    def repeated(self, outer: int, n: int, inner: int) -> "Sight":
        """The positions of an array (outer, inner), repeated along a new axis in the middle."""
        if outer == 1 and inner > 1:
            return stack((self,) * n)
        return self.through(repeating(outer, n, inner), outer * n * inner)

    def permuted(self, sizes: tuple[int, ...], order: tuple[int, ...]) -> "Sight":
        """The positions of an array of `sizes` with its axes in another order."""

        def change(span: Span) -> Span:
            return Span(*(x.reshape(sizes).transpose(order).reshape(-1) for x in (span.first, span.last)))

        return self.remembered(("permuted", sizes, order), lambda: Table(self.size, self.extent, (self,), change, None))

    def running(self, sizes: tuple[int, ...], axis: int) -> "Sight":
        """Each position of an array of `sizes` sees what those before it along an axis see as well."""

        def change(span: Span) -> Span:
            return span.reshape(sizes).running(axis).reshape((-1,))

        return self.remembered(("running", sizes, axis), lambda: Table(self.size, self.extent, (self,), change, None))

    def running_in(self, sizes: npt.NDArray[np.int64], *, both_ways: bool) -> "Sight":
        """Of packed sequences, `sizes[t]` of which have a step t: each row sees those before it in its sequence."""

        def change(span: Span) -> Span:
            first, last = span.first.copy(), span.last.copy()
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

        return Table(self.size, self.extent, (self,), change, None)

    def looked(self, looks: npt.NDArray[np.bool_]) -> "Sight":
        """Positions that each see what some of these see: `looks` is (new positions, positions)."""

        def change(span: Span) -> Span:
            first = np.where(looks, span.first, NOTHING).min(axis=1)
            return Span(first, np.where(looks, span.last, -NOTHING).max(axis=1))

        key = ("looked", looks.shape, looks.tobytes())
        return self.remembered(key, lambda: Table(len(looks), self.extent, (self,), change, None))

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

    @property
    def gaps(self) -> bool:
        """Whether some positions see nothing."""
        sight: Sight = self
        while isinstance(sight, Table) and sight.window is not None and sight.known_span is None:
            if not all_read(sight.window, sight.size, sight.sources[0].size):
                break
            sight = sight.sources[0]
        if not isinstance(sight, Table):
            return sight.gaps
        return bool((sight.span.last < sight.span.first).any())


def _ends(span: Span) -> tuple[int, int]:
    if len(span.first) == 0:
        return NOTHING, -NOTHING
    return int(span.first.min()), int(span.last.max())


@lru_cache(maxsize=4096)
def all_read(window: IndexMap, outputs: int, inputs: int) -> bool:
    """Whether every one of the outputs reads some input."""
    return bool(window.indices(outputs, inputs)[1].any(axis=1).all())


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


class Stack(Sight):
    """Rows of positions one after the other: the outermost axis of an array, each position of which has its own sight.

    Concatenated channels see different things; as long as they are told apart, each keeps its own law.

    Attributes:
        parts: the rows, all of one size.
        kinds: those that differ.
    """

    __slots__ = ("_gaps", "_joint", "kinds", "parts")

    def __init__(self, parts: tuple[Sight, ...]) -> None:
        first = parts[0]
        self.kinds = tuple(dict.fromkeys(parts))
        super().__init__(first.size * len(parts), first.extent, aligned=all([k.aligned for k in self.kinds]))  # noqa: C419  # a list is faster
        self.parts = parts
        self._gaps: bool | None = None
        self._joint: Sight | None = None

    @property
    def joint(self) -> Sight:
        """What the rows see together."""
        if self._joint is None:
            self._joint = reduce(Sight.union, self.kinds)
        return self._joint

    @property
    def span(self) -> Span:
        """The truth, position by position."""
        if self.known_span is None:
            self.known_span = Span.concatenate([p.span for p in self.parts])
        return self.known_span

    @property
    def reach(self) -> tuple[int, int]:
        """First and last input that any position sees."""
        if self.known_reach is None:
            ends = [p.reach for p in self.kinds]
            self.known_reach = min(first for first, _ in ends), max(last for _, last in ends)
        return self.known_reach

    @property
    def gaps(self) -> bool:
        """Whether some positions see nothing."""
        if self._gaps is None:
            self._gaps = any([k.gaps for k in self.kinds])  # noqa: C419  # as above
        return self._gaps

    @property
    def covers(self) -> bool:
        """Whether every position sees the input axis from end to end."""
        return all(p.covers for p in self.kinds)

    @property
    def report(self) -> Report:
        """Of the rows joined."""
        return self.joint.report

    def within(self, window: IndexMap, outputs: int, outer: int, n: int, inner: int) -> Sight:
        """Behind a window that moves along the middle one of the axes (outer, n, inner) of an array of positions."""
        rows = len(self.parts)
        if outer % rows == 0:
            return self._each(lambda p: p.within(window, outputs, outer // rows, n, inner))
        if rows % (outer * n):
            return super().within(window, outputs, outer, n, inner)
        rest = rows // (outer * n)
        places, valid = window.indices(outputs, n)
        taps = [dict.fromkeys(row[counts].tolist()) for row, counts in zip(places, valid, strict=True)]
        parts = [
            self._together([(o * n + t) * rest + r for t in each])
            for o in range(outer) for each in taps for r in range(rest)
        ]  # fmt: skip
        return stack(tuple(parts))

    def along(self, outer: int, n: int, inner: int) -> Sight:
        """The positions of an array (outer, n, inner) joined along its middle axis."""
        rows = len(self.parts)
        if n == rows and outer == 1:
            return self.joint
        if outer % rows == 0:
            return self._each(lambda p: p.along(outer // rows, n, inner))
        if rows % (outer * n):
            return super().along(outer, n, inner)
        rest = rows // (outer * n)
        return stack(tuple(
            self._together([(o * n + t) * rest + r for t in range(n)]) for o in range(outer) for r in range(rest)
        ))  # fmt: skip

    def repeated(self, outer: int, n: int, inner: int) -> Sight:
        """The positions of an array (outer, inner), repeated along a new axis in the middle."""
        rows = len(self.parts)
        if outer % rows == 0:
            return self._each(lambda p: p.repeated(outer // rows, n, inner))
        if rows % outer:
            return super().repeated(outer, n, inner)
        rest = rows // outer
        return stack(tuple(p for o in range(outer) for p in self.parts[o * rest : (o + 1) * rest] * n))

    def permuted(self, sizes: tuple[int, ...], order: tuple[int, ...]) -> Sight:
        """The positions of an array of `sizes` with its axes in another order."""
        lead = self._lead(sizes)
        if lead is None or sorted(order[:lead]) != list(range(lead)):
            return super().permuted(sizes, order)
        rows = np.arange(len(self.parts)).reshape(sizes[:lead]).transpose(order[:lead]).reshape(-1)
        inner = tuple(n - lead for n in order[lead:])
        moved = self if inner == tuple(range(len(inner))) else self._each(lambda p: p.permuted(sizes[lead:], inner))
        parts = moved.parts if isinstance(moved, Stack) else (moved,)
        return stack(tuple(parts[n] for n in rows.tolist()))

    def at(self, sizes: tuple[int, ...], index: tuple[int | slice, ...]) -> Sight:
        """Some positions of those of an array of `sizes`."""
        lead = self._lead(sizes)
        if lead is None:
            return super().at(sizes, index)
        rows = np.arange(len(self.parts)).reshape(sizes[:lead])[index[:lead]].reshape(-1).tolist()
        parts = [self.parts[n] for n in rows]
        if any(not isinstance(i, slice) for i in index[lead:]):
            parts = [p.at(sizes[lead:], index[lead:]) for p in parts]
        return stack(tuple(parts))

    def running(self, sizes: tuple[int, ...], axis: int) -> Sight:
        """Each position of an array of `sizes` sees what those before it along an axis see as well."""
        lead = self._lead(sizes)
        if lead is None or axis < lead:
            return super().running(sizes, axis)
        return self._each(lambda p: p.running(sizes[lead:], axis - lead))

    def same(self, other: Sight) -> bool:
        """Whether both see the same, position by position."""
        if isinstance(other, Stack) and len(other.parts) == len(self.parts):
            return all(p.same(q) for p, q in dict.fromkeys(zip(self.parts, other.parts, strict=True)))
        return super().same(other)

    def _union(self, other: Sight) -> Sight:
        if isinstance(other, Stack) and len(other.parts) == len(self.parts):
            return stack(tuple(p.union(q) for p, q in zip(self.parts, other.parts, strict=True)))
        return super()._union(other)

    def _each(self, change: Callable[[Sight], Sight]) -> Sight:
        made = {p: change(p) for p in self.kinds}
        return stack(tuple(made[p] for p in self.parts))

    def _together(self, rows: Sequence[int]) -> Sight:
        kinds = dict.fromkeys(self.parts[n] for n in rows)
        return reduce(Sight.union, kinds) if kinds else blank(self.parts[0].size, self.extent)

    def _lead(self, sizes: tuple[int, ...]) -> int | None:
        """How many axes of an array of `sizes` the rows are."""
        return next((n for n in range(len(sizes) + 1) if prod(sizes[:n]) == len(self.parts)), None)


def stack(parts: tuple[Sight, ...]) -> Sight:
    """Rows one after the other; the same rows give the same object."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if all(isinstance(p, Stack) and len(p.parts) == len(first.parts) for p in parts):  # type: ignore[attr-defined]  # as tested
        return stack(tuple(q for p in parts for q in p.parts))  # type: ignore[attr-defined]  # as above
    return first.remembered(("stack", parts), lambda: Stack(parts))


def blank(size: int, extent: int) -> Sight:
    """Positions that see nothing."""
    return Table(size, extent, (), lambda: Span(np.full(size, NOTHING), np.full(size, -NOTHING)), None)
