"""The law behind a receptive field: its edges without borders, as a pattern that repeats.

From it come the receptive field's size, stride and start (Araujo, Norris and Sim, "Computing Receptive Fields of
Convolutional Neural Networks", Distill 2019), with one pattern entry per phase where upsampling makes positions differ.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm

from profiler.receptive.index_map import IndexMap

MOST_PHASES = 4096

Edge = tuple[int, int] | None


@dataclass(slots=True)
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
        if self.period == 1 and window.period == 1 and self.edges[0] is not None:
            a, (low, high) = self.advance, self.edges[0]
            first, last = (window.low, window.high) if a > 0 else (window.high, window.low)
            return Lattice(1, a * window.advance, ((low + a * first, high + a * last),))
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
        if self.advance * other.period != other.advance * self.period:
            return None
        period = lcm(self.period, other.period)
        if period > MOST_PHASES:
            return None
        edges = tuple(_joined([self.at(v), other.at(v)]) for v in range(period))
        return Lattice(period, self.advance * period // self.period, edges).simplest()

    def centred(self, other: "Lattice") -> bool:
        """Whether the fields of both have the same centre at every position."""
        if self.advance * other.period != other.advance * self.period:
            return False
        period = lcm(self.period, other.period)
        if period > MOST_PHASES:
            return False
        pairs = [(self.at(v), other.at(v)) for v in range(period)]
        return all(a is None or b is None or sum(a) == sum(b) for a, b in pairs)

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
