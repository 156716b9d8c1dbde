"""How far along one input axis each position of a tensor sees: exact, in integers.

Two descriptions are carried side by side:

* `Span`, the truth at the size in hand: for every position the first and last input it depends on, borders included;
* `Lattice`, the law behind it: the same edges without borders, as a pattern that repeats. From it come the receptive
  field's size, stride and start (Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural
  Networks", Distill 2019), with one pattern entry per phase where upsampling makes positions differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm
from typing import Any

import numpy as np
import numpy.typing as npt

from profiler.receptive.index_map import IndexMap

NOTHING = np.iinfo(np.int64).max  # the first input of a position that sees none; its last is -NOTHING
MOST_PHASES = 4096

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """First and last input seen, per position: two integer arrays of one shape."""

    first: Integers
    last: Integers

    @classmethod
    def identity(cls, size: int) -> "Span":
        """Each position sees itself."""
        return cls(np.arange(size), np.arange(size))

    def through(self, window: IndexMap, outputs: int) -> "Span":
        """The span behind a window that moves along this axis."""
        taps, valid = window.indices(outputs, len(self.first))
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
    def concatenate(cls, spans: Sequence["Span"]) -> "Span":
        """One after the other."""
        return cls(np.concatenate([s.first for s in spans]), np.concatenate([s.last for s in spans]))

    def running(self, *, backwards: bool = False) -> "Span":
        """What each position and all before it see; `backwards`: it and all after it."""
        if backwards:
            return Span(np.minimum.accumulate(self.first[::-1])[::-1], np.maximum.accumulate(self.last[::-1])[::-1])
        return Span(np.minimum.accumulate(self.first), np.maximum.accumulate(self.last))

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


Edge = tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Lattice:
    """Borderless edges: position q * period + r sees `edges[r]`, moved on by q * advance inputs.

    An edge is None where a position sees nothing: the gaps of a transposed convolution whose stride exceeds its kernel.
    """

    period: int
    advance: int
    edges: tuple[Edge, ...]

    @classmethod
    def identity(cls) -> "Lattice":
        """Position u sees input u."""
        return cls(1, 1, ((0, 0),))

    def at(self, position: int) -> Edge:
        """First and last input of any position, negative ones included."""
        rounds, phase = divmod(position, self.period)
        edge = self.edges[phase]
        return None if edge is None else (edge[0] + rounds * self.advance, edge[1] + rounds * self.advance)

    def through(self, window: IndexMap) -> "Lattice | None":
        """The lattice behind a window; None where its pattern would have more than `MOST_PHASES` phases."""
        if window.advance == 0:
            return None
        repeats = self.period // gcd(self.period, abs(window.advance))
        period = window.period * repeats
        if period > MOST_PHASES:
            return None
        advance = self.advance * window.advance * repeats // self.period
        edges = []
        for v in range(period):
            rounds, phase = divmod(v, window.period)
            edges.append(_joined([self.at(t + rounds * window.advance) for t in window.taps[phase]]))
        return Lattice(period, advance, tuple(edges)).simplest()

    def union(self, other: "Lattice") -> "Lattice | None":
        """What either sees; None where they move on at different rates, so that no one pattern describes both."""
        if self == other:
            return self
        if self.stride != other.stride:
            return None
        period = lcm(self.period, other.period)
        if period > MOST_PHASES:
            return None
        edges = tuple(_joined([self.at(v), other.at(v)]) for v in range(period))
        return Lattice(period, self.advance * period // self.period, edges).simplest()

    def simplest(self) -> "Lattice":
        """The same edges with the shortest period."""
        for period in (p for p in range(1, self.period) if self.period % p == 0):
            advance, rest = divmod(self.advance * period, self.period)
            short = Lattice(period, advance, self.edges[:period])
            if rest == 0 and all(short.at(v) == edge for v, edge in enumerate(self.edges)):
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
        """First input of the first position; negative in the padding."""
        return next((e[0] for e in self.edges if e), 0)


def _joined(edges: list[Edge]) -> Edge:
    seen = [e for e in edges if e is not None]
    return (min(e[0] for e in seen), max(e[1] for e in seen)) if seen else None


@dataclass(frozen=True, slots=True)
class AxisView:
    """How a tensor sees one input axis.

    Attributes:
        atoms: the factors of the tensor's axes along which the view moves, in mixed-radix order; none where every
            element sees the same.
        span: the truth; one array axis, of the product of the atoms' sizes.
        lattice: the law, where there is one.
        exact: whether `span` is exactly what is seen; else it contains it.
        mixed: whether an operation that joins all positions (a global pool, attention) lies behind it.
        known: whether anything is known at all; if not, `span` is the whole axis.
    """

    atoms: tuple[int, ...]
    span: Span
    lattice: Lattice | None
    exact: bool = True
    mixed: bool = False
    known: bool = True

    def replace(self, **changes: Any) -> "AxisView":  # noqa: ANN401  # any field
        """A copy with some fields changed."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return AxisView(**{**values, **changes})
