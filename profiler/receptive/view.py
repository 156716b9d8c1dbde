"""How a tensor sees one input axis: along which of its own factors the view moves, and what it sees there."""

from collections.abc import Mapping, Sequence, Set
from math import prod

from profiler.receptive.index_map import IndexMap
from profiler.receptive.lattice import Lattice
from profiler.receptive.sight import Blank, Sight, fixed
from profiler.receptive.span import NOTHING, Span
from profiler.receptive.stack import Stack

# How sure a view is, by its place in the list of what is reported. A field is no better than its worst axis.
STATUSES = ("exact", "whole-input", "bounded", "bounded", "data-dependent", "unknown")
EXACT, BOUNDED, MASKED, DEPENDENT, UNKNOWN = 0, 2, 3, 4, 5


class AxisView:
    """How a tensor sees one input axis.

    Attributes:
        atoms: the factors of the tensor's axes along which the view moves, in mixed-radix order; none where every
            element sees the same.
        sight: what the positions along the atoms see.
        doubt: EXACT where the sight is exactly what is seen; BOUNDED where it contains it; MASKED where a mask may hide
            part of it; DEPENDENT where values decide what is read; UNKNOWN where nothing is known and the sight is the
            whole axis.
        mixed: whether an operation that joins all positions (a global pool, attention) lies behind it.
        why: the reason of the doubt.
        whole: whether every element is known to see the whole axis because all positions were joined: nothing that
            follows changes that.
    """

    __slots__ = ("atoms", "doubt", "mixed", "sight", "whole", "why")

    def __init__(
        self,
        atoms: tuple[int, ...],
        sight: Sight,
        doubt: int = EXACT,
        mixed: bool = False,  # noqa: FBT001, FBT002  # a record
        why: str = "",
    ) -> None:
        self.atoms = atoms
        self.sight = sight
        self.doubt = doubt
        self.mixed = mixed
        self.why = why
        self.whole = False

    @property
    def span(self) -> Span:
        """The truth, position by position."""
        return self.sight.span

    @property
    def lattice(self) -> Lattice | None:
        """The law, where there is one."""
        return self.sight.lattice

    @property
    def exact(self) -> bool:
        """Whether the sight is exactly what is seen; else it contains it."""
        return self.doubt == EXACT

    @property
    def known(self) -> bool:
        """Whether anything is known at all."""
        return self.doubt < UNKNOWN

    def doubted(self, doubt: int, why: str) -> "AxisView":
        """The same, no surer than `doubt`."""
        return self if self.doubt >= doubt else AxisView(self.atoms, self.sight, doubt, self.mixed, why)

    def bounded(self) -> "AxisView":
        """The same as an upper bound."""
        return self.doubted(BOUNDED, "")

    def moved(self, atoms: tuple[int, ...], sight: Sight) -> "AxisView":
        """Another sight of the same standing."""
        return AxisView(atoms, sight, self.doubt, self.mixed, self.why)

    def spread_over(self, order: Sequence[int], sizes: Mapping[int, int]) -> Sight:
        """The sight with one array axis per atom in `order`, repeated along those the view does not move along."""
        atoms = self.atoms
        if list(atoms) == list(order):
            return self.sight
        sight = self.sight
        there = [u for u in order if u in atoms]
        if there != list(atoms):
            sight = sight.permuted(tuple([sizes[u] for u in atoms]), tuple([atoms.index(u) for u in there]))
        rest = [sizes[u] for u in there]
        for axis, uid in enumerate(order):
            if uid not in atoms:
                sight = sight.repeated(prod(rest[:axis]), sizes[uid], prod(rest[axis:]))
                rest.insert(axis, sizes[uid])
        return sight

    def slid(self, uid: int, window: IndexMap, outputs: int, sizes: Mapping[int, int]) -> "AxisView":
        """The view behind a window that moves along one of its atoms."""
        at = self.atoms.index(uid)
        outer = prod([sizes[u] for u in self.atoms[:at]])
        inner = prod([sizes[u] for u in self.atoms[at + 1 :]])
        return self.moved(self.atoms, self.sight.within(window, outputs, outer, sizes[uid], inner))

    def projected(self, gone: Set[int], sizes: Mapping[int, int]) -> "AxisView":
        """The view after the positions along some atoms have been joined."""
        atoms = self.atoms
        if gone.isdisjoint(atoms):
            return self
        # Joining a single position joins nothing, and joining channels nothing that lies apart in the input: the law
        # behind the view may be lost, but nothing global has happened.
        mixed = self.mixed or prod([sizes[uid] for uid in atoms if uid > 0 and uid in gone]) > 1
        kept = tuple([uid for uid in atoms if uid not in gone])
        axes = tuple([n for n, uid in enumerate(atoms) if uid in gone])
        if kept or atoms[0] < 0:
            sight = self.sight.over(tuple([sizes[uid] for uid in atoms]), axes)
        else:
            sight = self.sight.joined()
        return settled(AxisView(kept, sight, self.doubt, mixed, self.why))


def ragged(view: AxisView, sizes: Mapping[int, int]) -> tuple[int, ...]:
    """Atoms along which a view of which some positions see nothing must be kept whole for all others to see something.

    Zeros were padded there: beside another branch elements in the padding see only what that branch does.
    """
    for n, uid in reversed(list(enumerate(view.atoms))):
        if len(view.atoms) > 1 and not view.sight.over(tuple(sizes[u] for u in view.atoms), (n,)).gaps:
            return (uid,)
    return view.atoms


def settled(view: AxisView) -> AxisView:
    """The view; where everything has come to see everything, it stops moving, and nothing that follows changes it.

    Where the last positions have been joined a bound will do: what joins them is no less global for it.
    """
    if view.mixed and view.doubt <= (EXACT if view.atoms else BOUNDED) and view.sight.covers:
        if view.atoms:
            view.atoms, view.sight = (), view.sight.joined()
        view.whole = True
    return view


def simplest(view: AxisView, sizes: Mapping[int, int]) -> AxisView:
    """The view without atoms along which all have come to see the same."""
    sight = view.sight
    if isinstance(sight, Stack) and len(sight.kinds) == 1:
        lead = sight.lead(tuple([sizes[u] for u in view.atoms]))
        if lead is not None:
            view = view.moved(view.atoms[lead:], sight.parts[0])
    return settled(view) if view.mixed and not view.whole else view


def unknown_view(extent: int, doubt: int = UNKNOWN, why: str = "") -> AxisView:
    """A view of which nothing is known: it may see everything."""
    return AxisView((), fixed(0, extent - 1, extent), doubt, why=why)


def blind_view(extent: int) -> AxisView:
    """The view of a tensor that the input does not reach."""
    return AxisView((), Blank(1, extent))


__all__ = [
    "BOUNDED",
    "DEPENDENT",
    "EXACT",
    "MASKED",
    "NOTHING",
    "STATUSES",
    "UNKNOWN",
    "AxisView",
    "Span",
    "blind_view",
    "ragged",
    "settled",
    "simplest",
    "unknown_view",
]
