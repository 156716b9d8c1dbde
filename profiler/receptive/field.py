"""The receptive field of a whole tensor, and what happens to it when tensors are moved, reshaped, joined and mixed.

Every tensor axis is a product of *atoms*, factors that stay together. A view of an input axis names the atoms along
which it moves, so that it survives any reshape and permutation that keeps the atoms whole: flattening an image into
tokens, cutting it into windows and putting it back lose nothing.

Each input axis is seen in two ways. The *true* view follows every path. The *local* view ignores operations that join
all positions (attention, squeeze-and-excitation, statistics over the image), which otherwise hide how far the
convolutions see.
"""

from collections.abc import Callable, Iterable, Sequence
from math import prod

import numpy as np

from profiler.receptive import holes
from profiler.receptive.index_map import IndexMap, all_read, reading, reads_all
from profiler.receptive.layout import Atom, Extent, Layout, Views, new_atom
from profiler.receptive.line import identity
from profiler.receptive.view import BOUNDED, UNKNOWN, AxisView, blind_view, settled, unknown_view

# The scores of an attention layer move with query and key at once; beyond this many the table is not worth its memory.
MOST_POSITIONS = 1 << 18
TOO_MANY = f"more than {MOST_POSITIONS:,} positions differ"
CUT = "part of an axis where branches end in padding"


def _sliding(field: "TensorField", moves: dict[int, tuple[IndexMap, int]]) -> Callable[[AxisView], AxisView]:
    """What becomes of a view when windows move along some atoms."""

    def change(view: AxisView) -> AxisView:
        atoms = view.atoms
        if len(atoms) == 1:
            move = moves.get(atoms[0])
            return view if move is None else view.moved(atoms, view.sight.through(*move))
        if moves.keys().isdisjoint(atoms):
            return view
        sizes = field.sizes()
        for uid in atoms:
            if uid in moves:
                view = view.slid(uid, *moves[uid], sizes)
                sizes[uid] = moves[uid][1]
        return view

    return change


class TensorField:
    """Receptive field of every element of a tensor.

    Attributes:
        layout: for each tensor axis its atoms, slowest first.
        views: what the elements see.
        uneven: atoms along which elements see different things beyond what the views say: where branches with padding
            of different width were joined, elements in the padding of one see only what the others do.
        shape: the tensor's size.
    """

    __slots__ = ("layout", "shape", "uneven", "views")

    def __init__(
        self,
        layout: Layout,
        views: Views,
        uneven: frozenset[int] = frozenset(),
        shape: tuple[int, ...] | None = None,
    ) -> None:
        self.layout = layout
        self.views = views
        self.uneven = uneven
        self.shape = tuple([prod([a.size for a in atoms]) for atoms in layout]) if shape is None else shape

    @classmethod
    def of_input(cls, shape: Sequence[int], axes: Sequence[int]) -> "TensorField":
        """The field of the network's input: along each of `axes`, position u sees input u."""
        return cls.of_inputs([(shape, axes)])[0]

    @classmethod
    def of_inputs(cls, inputs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list["TensorField"]:
        """The fields of several inputs, each with the axes that are followed: one sees nothing of the others."""
        extent = Extent.of([[shape[a] for a in axes] for shape, axes in inputs])
        blind = [[blind_view(shape[a]) for a in axes] for shape, axes in inputs]
        sights = {n: identity(n) for n in extent}
        fields = []
        for number, (shape, axes) in enumerate(inputs):
            layout = tuple((new_atom(n),) for n in shape)
            own = [AxisView((layout[a][0].uid,), sights[shape[a]]) for a in axes]
            views = tuple(v for n, other in enumerate(blind) for v in (own if n == number else other))
            fields.append(cls(layout, Views(views, views, extent)))
        return fields

    @classmethod
    def unknown(
        cls, shape: Sequence[int], extent: tuple[int, ...], doubt: int = UNKNOWN, why: str = ""
    ) -> "TensorField":
        """A tensor of which only the size is known: it may depend on everything."""
        views = tuple(unknown_view(n, doubt, why) for n in extent)
        return cls(tuple((new_atom(n),) for n in shape), Views(views, views, extent))

    @classmethod
    def blind(cls, shape: Sequence[int], extent: tuple[int, ...]) -> "TensorField":
        """A tensor that the input does not reach."""
        views = tuple(blind_view(n) for n in extent)
        return cls(tuple((new_atom(n),) for n in shape), Views(views, views, extent))

    @property
    def true(self) -> tuple[AxisView, ...]:
        """One view per input axis that is followed."""
        return self.views.true

    @property
    def local(self) -> tuple[AxisView, ...]:
        """The same without the operations that join all positions."""
        return self.views.local

    @property
    def extent(self) -> tuple[int, ...]:
        """Size of each input axis that is followed."""
        return self.views.extent

    def sizes(self) -> dict[int, int]:
        """Size of each atom."""
        return {uid: size for atoms in self.layout for uid, size in atoms}

    def uids(self, axes: Iterable[int]) -> set[int]:
        """Atoms of these axes."""
        return {atom[0] for axis in axes for atom in self.layout[axis]}

    def like(self, shape: Sequence[int], doubt: int = UNKNOWN, why: str = "") -> "TensorField":
        """A tensor of another size whose elements see no more than this one's do all together, axis by axis."""
        gone, sizes = self.uids(range(len(self.layout))), self.sizes()
        views = self.views.changed(lambda v: v.projected(gone, sizes).doubted(doubt, why))
        return TensorField(tuple((new_atom(n),) for n in shape), views, shape=tuple(shape))

    def doubted(self, doubt: int, why: str) -> "TensorField":
        """The field, no surer than `doubt`."""
        return self.with_views(lambda v: v.doubted(doubt, why))

    def having(self, views: Views) -> "TensorField":
        """The field with other views."""
        return self if views is self.views else TensorField(self.layout, views, self.uneven, self.shape)

    def with_local(self, local: tuple[AxisView, ...]) -> "TensorField":
        """The field with other local views."""
        return self.having(Views(self.true, local, self.extent))

    def with_uneven(self, atoms: Iterable[int]) -> "TensorField":
        """The field with more atoms along which elements see different things."""
        return TensorField(self.layout, self.views, self.uneven.union(atoms), self.shape)

    def with_views(self, change: Callable[[AxisView], AxisView], *, local: bool = True) -> "TensorField":
        """The field with every view changed; `local=False` leaves the local ones as they are."""
        return self.having(self.views.changed(change, local=local))

    def with_layout(self, layout: Layout, uneven: frozenset[int] | None = None) -> "TensorField":
        """The field with its elements arranged otherwise."""
        return TensorField(layout, self.views, self.uneven if uneven is None else uneven)

    def with_axis(self, axis: int, atoms: tuple[Atom, ...]) -> "TensorField":
        """The field with one axis' atoms replaced."""
        layout = (*self.layout[:axis], atoms, *self.layout[axis + 1 :])
        gone = self.uneven and self.uneven & self.uids([axis])
        return self.with_layout(layout, self.uneven - gone | {a.uid for a in atoms} if gone else self.uneven)

    def moved(self, axis: int, window: IndexMap, outputs: int) -> "TensorField":
        """A window moves along one axis."""
        return self.slid(axis, (window,), (outputs,))

    def slid(self, start: int, windows: Sequence[IndexMap], outputs: Sequence[int]) -> "TensorField":
        """Windows move along neighbouring axes, the first of which is `start`."""
        field, shape = self, list(self.shape)
        moves: dict[int, tuple[IndexMap, int]] = {}
        places, empty = [], []
        for axis, window, size in zip(range(start, start + len(windows)), windows, outputs, strict=True):
            n = shape[axis]
            if not window.same or size != n:
                if len(field.layout[axis]) > 1:
                    field = field.fused(axis)
                uid = field.layout[axis][0][0]
                moves[uid] = window, size
                places.append((axis, (Atom(uid, size),)))
                shape[axis] = size
                if not all_read(window, size, n):
                    empty.append((axis, reading(window, size, n)))
                if uid in field.uneven and not reads_all(window, size, n):
                    field = field.cut(axis)
        if not moves:
            return self
        layout = list(field.layout)
        for axis, atoms in places:
            layout[axis] = atoms
        before = field.views
        views = before.changed(_sliding(field, moves))
        moved = TensorField(tuple(layout), views, field.uneven, tuple(shape))
        if empty or before.gaps:
            return holes.behind(moved, field, moves.keys(), empty)
        views.even()
        return moved

    def mended(self) -> "TensorField":
        """The field whose views agree on which elements see nothing."""
        sizes = self.sizes()
        return self.having(holes.mended(self.views, tuple(sizes), sizes))

    def fused(self, axis: int) -> "TensorField":
        """The field with one axis' atoms joined into one, along which views then move that moved along some of them."""
        old = [a.uid for a in self.layout[axis]]
        if len(old) == 1:
            return self
        sizes = self.sizes()
        moved = [a for a in self.layout[axis] if self.views.moves_along((a,))]
        fresh = new_atom(self.shape[axis], kinds=bool(moved) and all(a.uid < 0 for a in moved))

        uneven = self.uneven.intersection(old)

        def change(view: AxisView) -> AxisView:
            if set(old).isdisjoint(view.atoms):
                return view
            if not uneven.issubset(view.atoms):
                view = view.doubted(BOUNDED, CUT)
            rest = [u for u in view.atoms if u not in old]
            if prod([sizes[u] for u in (*rest, *old)]) > MOST_POSITIONS:
                return view.projected(set(old), sizes).doubted(BOUNDED, TOO_MANY)
            at = min(n for n, u in enumerate(view.atoms) if u in old)
            order = [*rest[:at], *old, *rest[at:]]
            return view.moved((*rest[:at], fresh.uid, *rest[at:]), view.spread_over(order, sizes))

        fused = self.with_views(change).with_axis(axis, (fresh,))
        return fused.mended() if self.views.gaps else fused

    def cut(self, axis: int) -> "TensorField":
        """Part of an axis is taken: where elements along it differ in what they see, the views only bound the rest."""
        uneven = self.uneven and self.uneven & self.uids([axis])
        if not uneven:
            return self
        return self.with_views(lambda v: v if uneven.issubset(v.atoms) else v.doubted(BOUNDED, CUT))

    def selected(self, axis: int, index: int) -> "TensorField":
        """One position of an axis; the axis goes."""
        atoms = self.layout[axis]
        picked = dict(zip((a.uid for a in atoms), np.unravel_index(index, [a.size for a in atoms]), strict=True))
        sizes = self.sizes()

        def change(view: AxisView) -> AxisView:
            if picked.keys().isdisjoint(view.atoms):
                return view
            at = tuple(int(picked[uid]) if uid in picked else slice(None) for uid in view.atoms)
            sight = view.sight.at(tuple(sizes[uid] for uid in view.atoms), at)
            return view.moved(tuple(u for u in view.atoms if u not in picked), sight)

        field = self.cut(axis).with_views(change)
        field = field.with_layout(field.layout[:axis] + field.layout[axis + 1 :])
        return field.mended() if self.views.gaps else field

    def mixed(self, axes: Iterable[int], *, local: bool = False) -> "TensorField":
        """Every position along `axes` comes to depend on all of them; the axes stay."""
        atoms = [atom for axis in axes for atom in self.layout[axis]]
        if not self.moves_along(atoms):
            return self
        gone, sizes = {a[0] for a in atoms}, self.sizes()
        views = self.views.changed(lambda v: v.projected(gone, sizes), local=local)
        uneven = self.uneven
        if self.views.gaps:
            uneven |= holes.entangled(self.views, gone, sizes)
        return TensorField(self.layout, views, uneven - gone if uneven else uneven, self.shape)

    def moves_along(self, atoms: Iterable[Atom]) -> bool:
        """Whether elements differ along some of these."""
        return self.views.moves_along(atoms) or (bool(self.uneven) and any(a[0] in self.uneven for a in atoms))

    @property
    def still(self) -> bool:
        """Whether every element sees the same."""
        return not self.uneven and self.views.still

    def reduced(self, axes: Iterable[int], *, keep: bool) -> "TensorField":
        """Axes are summed over, or reduced in another way that reads every position."""
        rank = len(self.layout)
        axes = {axis % rank for axis in axes} if rank else set()
        field = self.mixed(axes, local=True)
        layout, shape = [], []
        for axis, (atoms, size) in enumerate(zip(field.layout, field.shape, strict=True)):
            if axis not in axes:
                layout.append(atoms)
                shape.append(size)
            elif keep:
                layout.append((new_atom(1),))
                shape.append(1)
        return TensorField(tuple(layout), field.views, field.uneven, tuple(shape))

    def running(self, axis: int) -> "TensorField":
        """Each position comes to depend on those before it: a recurrence along one axis."""
        field = self.fused(axis)
        ((uid, _),) = field.layout[axis]
        sizes = field.sizes()
        if field.views.gaps:
            field = field.with_uneven(holes.entangled(field.views, {uid}, sizes))

        def change(view: AxisView) -> AxisView:
            if uid not in view.atoms:
                return view
            sight = view.sight.running(tuple([sizes[u] for u in view.atoms]), view.atoms.index(uid))
            return settled(AxisView(view.atoms, sight, view.doubt, mixed=True, why=view.why))

        return field.with_views(change, local=False)

    def permuted(self, order: Sequence[int]) -> "TensorField":
        """Axes in another order."""
        layout, shape = self.layout, self.shape
        return TensorField(
            tuple([layout[axis] for axis in order]), self.views, self.uneven, tuple([shape[axis] for axis in order])
        )

    def axis_of(self, view: AxisView) -> int | None:
        """The one tensor axis along which a view moves, if there is one."""
        for axis, atoms in enumerate(self.layout):
            if view.atoms and tuple(a.uid for a in atoms) == view.atoms:
                return axis
        return None
