"""Reshaping a field: atoms are split where the new shape cuts them, and grouped anew."""

from dataclasses import replace
from math import prod

from profiler.receptive.field import Atom, Layout, TensorField, new_atom, projected
from profiler.receptive.view import AxisView


def reshaped(field: TensorField, shape: tuple[int, ...]) -> TensorField:
    """The field of `tensor.reshape(shape)`, elements in row-major order.

    Where a new axis would cut an atom at a place that does not divide it, what the atom's positions see is joined, and
    the views along it become bounds.
    """
    if prod(shape) == 0:
        return TensorField.unknown(shape, field.extent)
    atoms = [a for axis in field.layout for a in axis if a.size != 1]
    splits: dict[int, tuple[Atom, ...]] = {}
    dissolved: set[int] = set()
    layout: list[tuple[Atom, ...]] = []
    for size in shape:
        taken: list[Atom] = []
        room = size
        while room > 1:
            atom = atoms.pop(0)
            if room % atom.size == 0:
                taken.append(atom)
                room //= atom.size
            elif atom.size % room == 0:
                outer, inner = new_atom(room), new_atom(atom.size // room)
                splits[atom.uid] = (outer, inner)
                atoms.insert(0, inner)
                taken.append(outer)
                room = 1
            else:
                _dissolve(atom, room, atoms, dissolved, taken)
                room = 1
        layout.append(tuple(taken) or (new_atom(1),))
    return _renamed(field, tuple(layout), splits, dissolved)


def _dissolve(atom: Atom, room: int, atoms: list[Atom], dissolved: set[int], taken: list[Atom]) -> None:
    """Join atoms until the new axis' boundary falls on one, and hand out fresh ones that no view follows."""
    dissolved.add(atom.uid)
    total = atom.size
    while total % room:
        following = atoms.pop(0)
        dissolved.add(following.uid)
        total *= following.size
    taken.append(new_atom(room))
    if total // room > 1:
        atoms.insert(0, new_atom(total // room))


def _renamed(
    field: TensorField, layout: Layout, splits: dict[int, tuple[Atom, ...]], dissolved: set[int]
) -> TensorField:
    sizes = field.sizes()
    sizes.update({a.uid: a.size for pair in splits.values() for a in pair})

    def expanded(uid: int) -> tuple[int, ...]:
        return tuple(u for a in splits[uid] for u in expanded(a.uid)) if uid in splits else (uid,)

    lost = {u for uid in dissolved for u in expanded(uid)}

    def change(view: AxisView) -> AxisView:
        # An atom of size one is not carried over, and a view along it alone is the same for every element.
        kept = tuple(uid for uid in view.atoms if sizes[uid] != 1)
        view = view.replace(atoms=tuple(u for uid in kept for u in expanded(uid)))
        if not lost & set(view.atoms):
            return view
        return projected(view, lost, sizes).replace(exact=False)

    field = field.with_views(change)
    uneven = frozenset(u for uid in field.uneven for u in expanded(uid))
    return replace(field, layout=layout, uneven=uneven - lost)


def expanded_to(field: TensorField, shape: tuple[int, ...]) -> TensorField:
    """The field of `tensor.expand(shape)`: new axes in front, axes of size one repeated."""
    missing = len(shape) - len(field.layout)
    layout = []
    for axis, size in enumerate(shape):
        old = field.layout[axis - missing] if axis >= missing else None
        same = old is not None and prod(a.size for a in old) == size
        layout.append(old if same and old is not None else (new_atom(size),))
    return replace(field, layout=tuple(layout))
