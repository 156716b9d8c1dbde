"""Reshaping a field: atoms are split where the new shape cuts them, and grouped anew."""

from profiler.receptive.field import Atom, Layout, TensorField, new_atom
from profiler.receptive.view import BOUNDED, AxisView


def reshaped(field: TensorField, shape: tuple[int, ...]) -> TensorField:
    """The field of `tensor.reshape(shape)`, elements in row-major order.

    Where a new axis would cut an atom at a place that does not divide it, what the atom's positions see is joined, and
    the views along it become bounds.
    """
    if shape == field.shape:
        return field
    if 0 in shape:
        return field.like(shape)
    atoms = [a for axis in field.layout for a in axis if a[1] != 1]
    atoms.reverse()  # the next one is the last
    splits: dict[int, tuple[Atom, Atom]] = {}
    dissolved: set[int] = set()
    layout: list[tuple[Atom, ...]] = []
    for size in shape:
        taken: list[Atom] = []
        room = size
        while room > 1:
            atom = atoms.pop()
            if room % atom[1] == 0:
                taken.append(atom)
                room //= atom[1]
            elif atom[1] % room == 0:
                outer, inner = new_atom(room), new_atom(atom[1] // room)
                splits[atom[0]] = (outer, inner)
                atoms.append(inner)
                taken.append(outer)
                room = 1
            else:
                _dissolve(atom, room, atoms, dissolved, taken)
                room = 1
        layout.append(tuple(taken) or (new_atom(1),))
    return _renamed(field, tuple(layout), shape, splits, dissolved)


def _dissolve(atom: Atom, room: int, atoms: list[Atom], dissolved: set[int], taken: list[Atom]) -> None:
    """Join atoms until the new axis' boundary falls on one, and hand out fresh ones that no view follows."""
    dissolved.add(atom.uid)
    total = atom.size
    while total % room:
        following = atoms.pop()
        dissolved.add(following.uid)
        total *= following.size
    taken.append(new_atom(room))
    if total // room > 1:
        atoms.append(new_atom(total // room))


def _renamed(
    field: TensorField,
    layout: Layout,
    shape: tuple[int, ...],
    splits: dict[int, tuple[Atom, Atom]],
    dissolved: set[int],
) -> TensorField:
    # An atom of size one is not carried over, and a view along it alone is the same for every element.
    single = {a[0] for axis in field.layout for a in axis if a[1] == 1}
    touched = single.union(splits, dissolved)

    def expanded(uid: int) -> tuple[int, ...]:
        return tuple(u for a in splits[uid] for u in expanded(a.uid)) if uid in splits else (uid,)

    sizes: dict[int, int] = {}
    lost = {u for uid in dissolved for u in expanded(uid)}

    def change(view: AxisView) -> AxisView:
        if touched.isdisjoint(view.atoms):
            return view
        view = view.moved(tuple([u for uid in view.atoms if uid not in single for u in expanded(uid)]), view.sight)
        if lost.isdisjoint(view.atoms):
            return view
        if not sizes:
            sizes.update(field.sizes())
            sizes.update({a.uid: a.size for pair in splits.values() for a in pair})
        return view.projected(lost, sizes).doubted(BOUNDED, "an axis was cut where it does not divide")

    uneven = field.uneven
    if uneven:
        uneven = frozenset([u for uid in uneven - single for u in expanded(uid)]) - lost
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
