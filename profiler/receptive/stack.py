"""Sights of several kinds of channels, one above the other."""

from collections.abc import Callable, Sequence
from functools import lru_cache, reduce
from math import prod

import numpy as np

from profiler.receptive.index_map import IndexMap
from profiler.receptive.reading import Report
from profiler.receptive.sight import Sight
from profiler.receptive.span import Span

# More rows than this are not told apart one by one: their law is not worth the time.
MOST_ROWS = 1024


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
        if rows % (outer * n) or rows // n * outputs > MOST_ROWS:
            return super().within(window, outputs, outer, n, inner)
        return self.remembered(
            ("within", window, outputs, outer, n), lambda: self._grouped(outer, n, _read(window, outputs, n))
        )

    def _through(self, window: IndexMap, outputs: int) -> Sight:
        if self.parts[0].size > 1:
            return super()._through(window, outputs)
        return self.within(window, outputs, 1, self.size, 1)

    def along(self, outer: int, n: int, inner: int) -> Sight:
        """The positions of an array (outer, n, inner) joined along its middle axis."""
        rows = len(self.parts)
        if n == rows and outer == 1:
            return self.joint
        if outer % rows == 0:
            return self._each(lambda p: p.along(outer // rows, n, inner))
        if rows % (outer * n) or rows // n > MOST_ROWS:
            return super().along(outer, n, inner)
        return self.remembered(("along", outer, n), lambda: self._grouped(outer, n, [tuple(range(n))]))

    def repeated(self, outer: int, n: int, inner: int) -> Sight:
        """The positions of an array (outer, inner), repeated along a new axis in the middle."""
        rows = len(self.parts)
        if outer % rows == 0:
            return self._each(lambda p: p.repeated(outer // rows, n, inner))
        if rows % outer or rows * n > MOST_ROWS:
            return super().repeated(outer, n, inner)
        rest = rows // outer
        return stack(tuple(p for o in range(outer) for p in self.parts[o * rest : (o + 1) * rest] * n))

    def permuted(self, sizes: tuple[int, ...], order: tuple[int, ...]) -> Sight:
        """The positions of an array of `sizes` with its axes in another order."""
        lead = self.lead(sizes)
        if lead is None or sorted(order[:lead]) != list(range(lead)):
            return super().permuted(sizes, order)
        rows = np.arange(len(self.parts)).reshape(sizes[:lead]).transpose(order[:lead]).reshape(-1)
        inner = tuple(n - lead for n in order[lead:])
        moved = self if inner == tuple(range(len(inner))) else self._each(lambda p: p.permuted(sizes[lead:], inner))
        parts = moved.parts if isinstance(moved, Stack) else (moved,)
        return stack(tuple(parts[n] for n in rows.tolist()))

    def at(self, sizes: tuple[int, ...], index: tuple[int | slice, ...]) -> Sight:
        """Some positions of those of an array of `sizes`."""
        lead = self.lead(sizes)
        if lead is None:
            return super().at(sizes, index)
        rows = np.arange(len(self.parts)).reshape(sizes[:lead])[index[:lead]].reshape(-1).tolist()
        parts = [self.parts[n] for n in rows]
        if any(not isinstance(i, slice) for i in index[lead:]):
            parts = [p.at(sizes[lead:], index[lead:]) for p in parts]
        return stack(tuple(parts))

    def running(self, sizes: tuple[int, ...], axis: int) -> Sight:
        """Each position of an array of `sizes` sees what those before it along an axis see as well."""
        lead = self.lead(sizes)
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

    def _grouped(self, outer: int, n: int, groups: Sequence[tuple[int, ...]]) -> Sight:
        """The rows, which are an array (outer, n, ...), each of `groups` along the middle axis as one."""
        inner = len(self.parts) // (outer * n)
        known: dict[tuple[Sight, ...], Sight] = {}
        made: list[Sight] = []
        for start in range(0, len(self.parts), n * inner):
            columns = [self.parts[start + r : start + n * inner : inner] for r in range(inner)]
            for group in groups:
                if len(group) == 1:
                    made += [column[group[0]] for column in columns]
                    continue
                for column in columns:
                    rows = column if len(group) == n else tuple([column[t] for t in group])
                    if rows not in known:
                        known[rows] = reduce(Sight.union, dict.fromkeys(rows)) if rows else column[0].emptied()
                    made.append(known[rows])
        return stack(tuple(made))

    def lead(self, sizes: tuple[int, ...]) -> int | None:
        """How many axes of an array of `sizes` the rows are."""
        return next((n for n in range(len(sizes) + 1) if prod(sizes[:n]) == len(self.parts)), None)


@lru_cache(maxsize=256)
def _read(window: IndexMap, outputs: int, inputs: int) -> list[tuple[int, ...]]:
    """Inputs read by each output, each once."""
    places, valid = window.indices(outputs, inputs)
    return [tuple(dict.fromkeys(row[counts].tolist())) for row, counts in zip(places, valid, strict=True)]


def stack(parts: tuple[Sight, ...]) -> Sight:
    """Rows one after the other; the same rows give the same object."""
    first = parts[0]
    if len(parts) == 1:
        return first
    rows = len(first.parts) if isinstance(first, Stack) and len(first.parts) * len(parts) <= MOST_ROWS else 0
    if rows and all(isinstance(p, Stack) and len(p.parts) == rows for p in parts):
        return stack(tuple(q for p in parts for q in p.parts))  # type: ignore[attr-defined]  # as tested
    return first.remembered(("stack", parts), lambda: Stack(parts))
