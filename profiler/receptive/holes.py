"""Elements that see nothing: windows that lie in padding, gaps of transposed convolutions, constants put beside.

An element sees a box of an input: what each of the views says, and nothing at all where one of them says nothing. So a
hole need be known to one view alone, and windows along one axis leave the others as they are. Here is what keeps that
true: a hole along an axis that no view moves along is given to one of them; views that move along the same atoms have
the same holes; where the last element has come to see nothing, no view says anything. What a union or a joined axis
makes of holes that no view can tell is marked: the atoms along which elements then see less than the views say.

None of this costs anything where every window reads something.
"""

from collections.abc import Mapping, Sequence, Set
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from profiler.receptive.layout import Views, new_atom
from profiler.receptive.stack import stack
from profiler.receptive.view import BOUNDED, AxisView, blind_view, ragged, simplest

if TYPE_CHECKING:
    from profiler.receptive.field import TensorField

# Holes of more elements than this are not laid out.
MOST_ELEMENTS = 1 << 18
_TOO_MANY = f"more than {MOST_ELEMENTS:,} elements may see nothing"

Mask = npt.NDArray[np.bool_]
Sizes = Mapping[int, int]


def boxes(views: Views) -> list[range]:
    """Which views belong to one input: those of several are seen apart from each other."""
    axes = getattr(views.extent, "axes", ()) or (len(views.true),)
    ends = np.cumsum(axes).tolist()
    return [range(end - count, end) for end, count in zip(ends, axes, strict=True)]


def _holed(views: Sequence[AxisView]) -> list[AxisView]:
    return [v for v in views if v.sight.gaps and not v.sight.blank]


def _holes(view: AxisView, sizes: Sizes) -> Mask:
    span = view.sight.span
    return (span.last < span.first).reshape([sizes[u] for u in view.atoms])


def _laid(mask: Mask, own: Sequence[int], order: Sequence[int]) -> Mask:
    """A mask over some atoms as one over all in `order`, with axes of size one for those it lacks."""
    there = [u for u in order if u in own]
    moved = mask.transpose([own.index(u) for u in there])
    return moved.reshape([mask.shape[own.index(u)] if u in own else 1 for u in order])


def _over(mask: Mask, order: Sequence[int], own: Sequence[int], join: np.ufunc) -> Mask:
    """A mask over `order`, joined along all atoms but those of `own`, whose order it takes."""
    kept: Mask = join.reduce(mask, axis=tuple(n for n, u in enumerate(order) if u not in own))
    there = [u for u in order if u in own]
    return kept.transpose([there.index(u) for u in own if u in there])


def _nothing(views: Sequence[AxisView], order: Sequence[int], sizes: Sizes) -> Mask:
    """Which elements see nothing, over the atoms in `order`."""
    found = np.zeros([sizes[u] for u in order], dtype=bool)
    for view in _holed(views):
        found |= _laid(_holes(view, sizes), view.atoms, order)
    return found


def _hidden(view: AxisView, own: tuple[int, ...], nothing: Mask, order: Sequence[int], sizes: Sizes) -> AxisView:
    """A view spread over the atoms `own`, with holes where no element sees anything."""
    there = [u for u in own if u in order]
    if not there:
        return view
    gone = _over(nothing, order, there, np.logical_and)
    if not gone.any():
        return view
    holes = np.broadcast_to(_laid(gone, there, own), [sizes[u] for u in own]).reshape(-1)
    sight = view.spread_over(own, sizes)
    if not (holes & ~(sight.span.last < sight.span.first)).any():
        return view
    return view.moved(own, sight.hidden(holes))


def mended(views: Views, order: Sequence[int], sizes: Sizes) -> Views:
    """Views of which each has the holes that another makes along its own atoms, and nothing is left of empty boxes.

    Args:
        views: of a tensor.
        order: all its atoms, in the order of its axes.
        sizes: of the atoms.
    """
    true = [simplest(v, sizes) for v in views.true]
    for box in boxes(views):
        own = [true[n] for n in box]
        if all(v.sight.blank for v in own):
            continue
        own = _synchronized(own, _holed(own), order, sizes)
        if not all(v.sight.sees for v in own):
            own = [blind_view(v.sight.extent) for v in own]
        for n, view in zip(box, own, strict=True):
            true[n] = view
    return views.with_true(true)


def _synchronized(
    views: Sequence[AxisView], holed: Sequence[AxisView], order: Sequence[int], sizes: Sizes
) -> list[AxisView]:
    every = {u for v in holed for u in v.atoms}
    shared = {u for n, v in enumerate(views) for w in views[n + 1 :] for u in v.atoms if u in w.atoms} & every
    if not shared:
        return list(views)
    along = [u for u in order if u in every]
    if prod([sizes[u] for u in along]) > MOST_ELEMENTS:
        return [v.doubted(BOUNDED, _TOO_MANY) for v in views]
    nothing = _nothing(views, along, sizes)
    return [_hidden(v, v.atoms, nothing, along, sizes) for v in views]


def behind(
    field: "TensorField", before: "TensorField", touched: Set[int], empty: Sequence[tuple[int, Mask]]
) -> "TensorField":
    """A field behind windows that moved along the atoms `touched` of the one before.

    Args:
        field: without regard to holes.
        before: what the windows read.
        touched: atoms along which they moved.
        empty: axes along which some windows read nothing, and which of them read something.
    """
    field = field.with_uneven(entangled(before.views, touched, before.sizes()))
    for axis, reads in empty:
        ((uid, size),) = field.layout[axis]
        if uid > 0 and not field.views.moves_along(field.layout[axis]):
            # What tells padding apart from the rest is no position along which anything differs otherwise.
            fresh = new_atom(size, kinds=True)
            field, uid = field.with_axis(axis, (fresh,)), fresh.uid
        field = field.having(recorded(field.views, uid, reads))
    return field.mended()


def recorded(views: Views, uid: int, reads: Mask) -> Views:
    """Views of which one of each input knows the positions along an atom at which a window read nothing.

    Args:
        views: of a tensor.
        uid: the atom.
        reads: which of its positions read anything.
    """
    true = list(views.true)
    for box in boxes(views):
        if any(uid in true[n].atoms or true[n].sight.blank for n in box):
            continue
        n = min(box, key=lambda n: len(true[n].atoms))
        view = true[n]
        empty = view.sight.emptied()
        rows = stack(tuple([view.sight if read else empty for read in reads.tolist()]))
        true[n] = view.moved((uid, *view.atoms), rows)
    return views.with_true(true)


def entangled(views: Views, touched: Set[int], sizes: Sizes) -> frozenset[int]:
    """Atoms along which elements come to see less than the views say when positions along `touched` come together.

    Of the positions that come together some see nothing, and which do differs along an atom that a view does not know.
    """
    found: set[int] = set()
    for box in boxes(views):
        own = [views.true[n] for n in box]
        for view in _holed(own):
            if touched.isdisjoint(view.atoms) or touched >= set(view.atoms):
                continue
            holes = _holes(view, sizes)
            vary = {u for n, u in enumerate(view.atoms) if (holes != holes.take([0], axis=n)).any()}
            rest = vary - touched
            if not vary & touched or not rest:
                continue
            if any(not rest.issubset(v.atoms) and vary & touched & set(v.atoms) for v in own if v is not view):
                found.update(rest)
    return frozenset(found)


def united(a: Views, b: Views, both: Views, order: Sequence[int], sizes: Sizes) -> tuple[Views, frozenset[int]]:
    """What two tensors of the same layout see together where some elements of one see nothing.

    Args:
        a: views of one.
        b: views of the other.
        both: their unions, view by view.
        order: all atoms, in the order of the axes.
        sizes: of the atoms.

    Returns:
        The views, and the atoms along which elements see less than they say: there one tensor sees nothing.
    """
    true = list(both.true)
    marked: set[int] = set()
    for box in boxes(both):
        parts = [[v.true[n] for n in box] for v in (a, b)]
        if not any(_holed(part) for part in parts) or any(part[0].sight.blank for part in parts):
            continue
        atoms = {u for part in parts for v in _holed(part) for u in v.atoms}
        along = [u for u in order if u in atoms]
        if prod([sizes[u] for u in along]) > MOST_ELEMENTS:
            marked |= atoms
            continue
        none = [_nothing(part, along, sizes) for part in parts]
        for n, one, other in zip(box, *parts, strict=True):
            true[n] = _one_of(true[n], (one, other), none, along, sizes)
            marked |= _less(true[n], (one, other), parts, none, order, sizes)
        if ((none[0] & none[1]) != _known(true, box, along, sizes)).any():
            marked |= {u for part in parts for v in _holed(part) for u in ragged(v, sizes)}
    return both.with_true(true), frozenset(marked)


def _known(true: Sequence[AxisView], box: range, along: Sequence[int], sizes: Sizes) -> Mask:
    """The elements that the views of a union say see nothing."""
    return _nothing([true[n] for n in box], along, sizes)


def _one_of(
    union: AxisView, pair: tuple[AxisView, AxisView], none: Sequence[Mask], along: Sequence[int], sizes: Sizes
) -> AxisView:
    """The union of two views, each without what its tensor does not see along the atoms of both."""
    if not union.exact or union.whole:
        return union
    hidden = [_hidden(v, union.atoms, nothing, along, sizes) for v, nothing in zip(pair, none, strict=True)]
    if all(new is old for new, old in zip(hidden, pair, strict=True)):
        return union
    first, second = (v.spread_over(union.atoms, sizes) for v in hidden)
    return simplest(union.moved(union.atoms, first.union(second)), sizes)


def _less(
    union: AxisView,
    pair: tuple[AxisView, AxisView],
    parts: Sequence[Sequence[AxisView]],
    none: Sequence[Mask],
    order: Sequence[int],
    sizes: Sizes,
) -> set[int]:
    """Atoms that this view does not move along, and along which only one of two tensors sees anything."""
    found: set[int] = set()
    if not union.exact:
        return found
    holed = [_holed(part) for part in parts]
    atoms = {u for views in holed for v in views for u in v.atoms}
    along = [u for u in order if u in atoms]
    for mine, its in ((0, 1), (1, 0)):
        alone = none[mine] & ~none[its]
        if not alone.any() or pair[its] is union:
            continue
        own = tuple(u for u in order if u in union.atoms or u in pair[its].atoms)
        there = [u for u in own if u in along]
        where = _laid(_over(alone, along, there, np.logical_or), there, own)
        said, seen = (v.spread_over(own, sizes).span for v in (union, pair[its]))
        differs = ((said.first != seen.first) | (said.last != seen.last)).reshape([sizes[u] for u in own])
        if (differs & where).any():
            uids = {u for v in holed[mine] for u in ragged(v, sizes)} - set(union.atoms)
            found |= uids or {u for v in holed[mine] for u in v.atoms} - set(union.atoms)
    return found
