"""Reshaping a field: atoms are split where the new shape cuts them, and grouped anew."""

from profiler.receptive.field import TensorField
from profiler.receptive.layout import Atom, Layout, new_atom
from profiler.receptive.view import AxisView


def reshaped(field: TensorField, shape: tuple[int, ...]) -> TensorField:
    """The field of `tensor.reshape(shape)`, elements in row-major order.

    Where a new axis would cut an atom at a place that does not divide it, the atoms there are made one that it divides.
    """
    if shape == field.shape:
        return field
    if 0 in shape:
        return field.like(shape)
    old = [a for axis in field.layout for a in axis if a[1] != 1]
    atoms = old[::-1]  # the next one is the last
    splits: dict[int, tuple[Atom, Atom]] = {}
    layout: list[tuple[Atom, ...]] = []
    begun = -1
    for size in shape:
        taken: list[Atom] = []
        room = size
        while room > 1:
            atom = atoms.pop()
            if begun + 1 < len(old) and atom is old[begun + 1]:
                begun += 1
            if room % atom[1] == 0:
                taken.append(atom)
                room //= atom[1]
            elif atom[1] % room == 0:
                kinds = atom[0] < 0
                outer, inner = new_atom(room, kinds=kinds), new_atom(atom[1] // room, kinds=kinds)
                splits[atom[0]] = (outer, inner)
                atoms.append(inner)
                taken.append(outer)
                room = 1
            else:
                return reshaped(_with_one(field, old, begun), shape)
        layout.append(tuple(taken) or (new_atom(1),))
    return _renamed(field, tuple(layout), shape, splits)


def _with_one(field: TensorField, atoms: list[Atom], at: int) -> TensorField:
    """The field with an atom and the next made one."""
    groups = [*((a,) for a in atoms[:at]), tuple(atoms[at : at + 2]), *((a,) for a in atoms[at + 2 :])]
    groups += [(a,) for axis in field.layout for a in axis if a[1] == 1]
    return field.with_layout(tuple(groups)).fused(at)


def _renamed(
    field: TensorField, layout: Layout, shape: tuple[int, ...], splits: dict[int, tuple[Atom, Atom]]
) -> TensorField:
    # An atom of size one is not carried over, and a view along it alone is the same for every element.
    single = {a[0] for axis in field.layout for a in axis if a[1] == 1}
    touched = single.union(splits)

    def expanded(uid: int) -> tuple[int, ...]:
        return tuple(u for a in splits[uid] for u in expanded(a.uid)) if uid in splits else (uid,)

    def change(view: AxisView) -> AxisView:
        if touched.isdisjoint(view.atoms):
            return view
        return view.moved(tuple([u for uid in view.atoms if uid not in single for u in expanded(uid)]), view.sight)

    uneven = field.uneven
    if uneven:
        uneven = frozenset([u for uid in uneven - single for u in expanded(uid)])
    return TensorField(layout, field.views.changed(change), uneven, shape)


def expanded_to(field: TensorField, shape: tuple[int, ...]) -> TensorField:
    """The field of `tensor.expand(shape)`: new axes in front, axes of size one repeated."""
    if shape == field.shape:
        return field
    missing = len(shape) - len(field.layout)
    layout: list[tuple[Atom, ...]] = [(new_atom(n),) for n in shape[:missing]]
    gone: list[int] = []
    for atoms, old, size in zip(field.layout, field.shape, shape[missing:], strict=True):
        if old == size:
            layout.append(atoms)
        else:
            layout.append((new_atom(size),))
            gone += [a.uid for a in atoms]
    views, uneven = field.views, field.uneven
    if not uneven.isdisjoint(gone):
        uneven = uneven.difference(gone)
    repeated = set(gone)

    def change(view: AxisView) -> AxisView:
        if repeated.isdisjoint(view.atoms):
            return view
        return view.moved(tuple([u for u in view.atoms if u not in repeated]), view.sight)

    return TensorField(tuple(layout), views.changed(change), uneven, shape)
