"""The receptive field of a whole tensor, and what happens to it when tensors are moved, reshaped, joined and mixed.

Every tensor axis is a product of *atoms*, factors that stay together. A view of an input axis names the atoms along
which it moves, so that it survives any reshape and permutation that keeps the atoms whole: flattening an image into
tokens, cutting it into windows and putting it back lose nothing.

Each input axis is seen in two ways. The *true* view follows every path. The *local* view ignores operations that join
all positions (attention, squeeze-and-excitation, statistics over the image), which otherwise hide how far the
convolutions see.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from math import prod
from typing import NamedTuple

import numpy as np

from profiler.receptive.index_map import IndexMap
from profiler.receptive.view import NOTHING, AxisView, Lattice, Span

_serial = count()


class Atom(NamedTuple):
    """A factor of a tensor axis."""

    uid: int
    size: int


def new_atom(size: int) -> Atom:
    """An atom that no other tensor has."""
    return Atom(next(_serial), size)


Layout = tuple[tuple[Atom, ...], ...]


@dataclass(frozen=True, slots=True)
class TensorField:
    """Receptive field of every element of a tensor.

    Attributes:
        layout: for each tensor axis its atoms, slowest first.
        true: one view per input axis that is followed.
        local: the same without the operations that join all positions.
        uneven: atoms along which elements see different things beyond what the views say (concatenated channels).
        extent: size of each input axis that is followed.
    """

    layout: Layout
    true: tuple[AxisView, ...]
    local: tuple[AxisView, ...]
    extent: tuple[int, ...]
    uneven: frozenset[int] = frozenset()

    @classmethod
    def of_input(cls, shape: Sequence[int], axes: Sequence[int]) -> "TensorField":
        """The field of the network's input: along each of `axes`, position u sees input u."""
        layout = tuple((new_atom(n),) for n in shape)
        views = tuple(AxisView((layout[a][0].uid,), Span.identity(shape[a]), Lattice.identity()) for a in axes)
        return cls(layout, views, views, tuple(shape[a] for a in axes))

    @classmethod
    def unknown(cls, shape: Sequence[int], extent: tuple[int, ...]) -> "TensorField":
        """A tensor of which only the size is known: it may depend on everything."""
        views = tuple(
            AxisView((), Span(np.array([0]), np.array([n - 1])), None, exact=False, known=False) for n in extent
        )
        return cls(tuple((new_atom(n),) for n in shape), views, views, extent)

    @classmethod
    def blind(cls, shape: Sequence[int], extent: tuple[int, ...]) -> "TensorField":
        """A tensor that the input does not reach."""
        views = tuple(AxisView((), Span(np.array([NOTHING]), np.array([-NOTHING])), None) for _ in extent)
        return cls(tuple((new_atom(n),) for n in shape), views, views, extent)

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's size."""
        return tuple(prod(a.size for a in atoms) for atoms in self.layout)

    def sizes(self) -> dict[int, int]:
        """Size of each atom."""
        return {atom.uid: atom.size for atoms in self.layout for atom in atoms}

    def uids(self, axes: Iterable[int]) -> set[int]:
        """Atoms of these axes."""
        return {atom.uid for axis in axes for atom in self.layout[axis]}

    def with_views(self, change: Callable[[AxisView], AxisView], *, local: bool = True) -> "TensorField":
        """The field with every view changed; `local=False` leaves the local ones as they are."""
        return replace(
            self,
            true=tuple(change(v) for v in self.true),
            local=tuple(change(v) for v in self.local) if local else self.local,
        )

    def with_axis(self, axis: int, atoms: tuple[Atom, ...]) -> "TensorField":
        """The field with one axis' atoms replaced."""
        layout = list(self.layout)
        layout[axis] = atoms
        gone = self.uids([axis]) & self.uneven
        return replace(self, layout=tuple(layout), uneven=self.uneven - gone | {a.uid for a in atoms if gone})

    def moved(self, axis: int, window: IndexMap, outputs: int) -> "TensorField":
        """A window moves along one axis."""
        if window.period == 1 and window.advance == 1 and window.taps == ((0,),) and outputs == self.shape[axis]:
            return self
        old = tuple(a.uid for a in self.layout[axis])
        fresh = new_atom(outputs)
        sizes = self.sizes()

        def change(view: AxisView) -> AxisView:
            if view.atoms == old:
                lattice = view.lattice.through(window) if view.lattice else None
                return view.replace(atoms=(fresh.uid,), span=view.span.through(window, outputs), lattice=lattice)
            if not set(old) & set(view.atoms):
                return view
            return projected(view, set(old), sizes).replace(exact=False)

        return self.with_views(change).with_axis(axis, (fresh,))

    def cut(self, axis: int) -> "TensorField":
        """Part of an axis is taken: where elements along it differ in what they see, the views only bound the rest."""
        if not self.uneven & self.uids([axis]):
            return self
        return self.with_views(lambda v: v.replace(exact=False))

    def selected(self, axis: int, index: int) -> "TensorField":
        """One position of an axis; the axis goes."""
        atoms = self.layout[axis]
        picked = dict(zip((a.uid for a in atoms), np.unravel_index(index, [a.size for a in atoms]), strict=True))
        sizes = self.sizes()

        def change(view: AxisView) -> AxisView:
            if not picked.keys() & set(view.atoms):
                return view
            at = tuple(picked.get(uid, slice(None)) for uid in view.atoms)
            whole = view.span.reshape(tuple(sizes[uid] for uid in view.atoms))
            span = Span(np.asarray(whole.first[at]).reshape(-1), np.asarray(whole.last[at]).reshape(-1))
            return view.replace(atoms=tuple(u for u in view.atoms if u not in picked), span=span, lattice=None)

        field = self.cut(axis).with_views(change)
        return replace(field, layout=field.layout[:axis] + field.layout[axis + 1 :])

    def mixed(self, axes: Iterable[int], *, local: bool = False) -> "TensorField":
        """Every position along `axes` comes to depend on all of them; the axes stay."""
        gone, sizes = self.uids(axes), self.sizes()
        field = self.with_views(lambda v: projected(v, gone, sizes), local=local)
        return replace(field, uneven=self.uneven - gone)

    def reduced(self, axes: Iterable[int], *, keep: bool) -> "TensorField":
        """Axes are summed over, or reduced in another way that reads every position."""
        axes = set(axes)
        field = self.mixed(axes, local=True)
        layout = tuple(
            (new_atom(1),) if n in axes else atoms for n, atoms in enumerate(field.layout) if keep or n not in axes
        )
        return replace(field, layout=layout)

    def running(self, axis: int, *, both_ways: bool) -> "TensorField":
        """Each position comes to depend on those before it, or on all: a recurrence along one axis."""
        if both_ways:
            return self.mixed([axis])
        old = tuple(a.uid for a in self.layout[axis])
        sizes = self.sizes()

        def change(view: AxisView) -> AxisView:
            if view.atoms == old:
                return view.replace(span=view.span.running(), lattice=None, mixed=True)
            return projected(view, set(old), sizes).replace(exact=view.exact and not set(old) & set(view.atoms))

        return self.with_views(change, local=False)

    def permuted(self, order: Sequence[int]) -> "TensorField":
        """Axes in another order."""
        return replace(self, layout=tuple(self.layout[axis] for axis in order))

    def axis_of(self, view: AxisView) -> int | None:
        """The one tensor axis along which a view moves, if there is one."""
        for axis, atoms in enumerate(self.layout):
            if view.atoms and tuple(a.uid for a in atoms) == view.atoms:
                return axis
        return None


def projected(view: AxisView, gone: set[int], sizes: dict[int, int]) -> AxisView:
    """The view after the positions along some atoms have been joined."""
    axes = tuple(n for n, uid in enumerate(view.atoms) if uid in gone)
    if not axes:
        return view
    span = view.span.reshape(tuple(sizes[uid] for uid in view.atoms)).over(axes).reshape((-1,))
    kept = tuple(uid for uid in view.atoms if uid not in gone)
    # Joining a single position joins nothing: the law behind the view is lost, but nothing global has happened.
    joined = prod(sizes[view.atoms[n]] for n in axes) > 1
    return view.replace(atoms=kept, span=span, lattice=None, mixed=view.mixed or joined)
