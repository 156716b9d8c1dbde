"""Taking part of a tensor, and writing part of one: slices, lookups at known places, and their counterparts."""

from collections.abc import Sequence
from math import prod

import numpy as np
import numpy.typing as npt

from profiler.receptive.concat import concatenated
from profiler.receptive.field import MOST_POSITIONS, TOO_MANY, TensorField
from profiler.receptive.index_map import IndexMap, shifted
from profiler.receptive.index_map import taken as places_map
from profiler.receptive.layout import new_atom
from profiler.receptive.merge import merged
from profiler.receptive.reshape import reshaped
from profiler.receptive.view import BOUNDED, AxisView

Places = npt.NDArray[np.int64]


def sliced(field: TensorField, axis: int, start: int, length: int, step: int = 1) -> TensorField:
    """Positions start, start + step, ... of an axis.

    A slice that keeps the inner factors of an axis whole cuts only the outer ones: of concatenated channels that have
    been shuffled, half of all is half of each.
    """
    if start == 0 and step == 1 and length == field.shape[axis]:
        return field
    atoms = field.layout[axis]
    if step == 1 and length:
        for cut in range(1, len(atoms)):
            inner = prod(a.size for a in atoms[cut:])
            if start % inner == 0 and length % inner == 0:
                parted = _parted(field, axis, cut)
                return _rejoined(sliced(parted, axis, start // inner, length // inner), axis)
    return field.cut(axis).moved(axis, shifted(start, step=step), length)


def _parted(field: TensorField, axis: int, cut: int) -> TensorField:
    """An axis as two, the first of which has its first `cut` atoms."""
    layout = field.layout
    halves = (layout[axis][:cut], layout[axis][cut:])
    return field.with_layout((*layout[:axis], *halves, *layout[axis + 1 :]))


def _rejoined(field: TensorField, axis: int) -> TensorField:
    """An axis and the next as one."""
    layout = field.layout
    return field.with_layout((*layout[:axis], (*layout[axis], *layout[axis + 1]), *layout[axis + 2 :]))


def flipped(field: TensorField, axes: Sequence[int]) -> TensorField:
    """Some axes the other way round."""
    for axis in axes:
        size = field.shape[axis]
        field = field.moved(axis % len(field.layout), shifted(size - 1, step=-1), size)
    return field


def run_both_ways(field: TensorField, steps: int, halves: int) -> TensorField:
    """A recurrence along `steps`: half of the axis `halves` has seen what lies before, half what lies behind."""
    half = sliced(field, halves, 0, field.shape[halves] // 2)
    backward = flipped(flipped(half, [steps]).running(steps), [steps])
    return concatenated([half.running(steps), backward], halves, field.shape)


def taken(field: TensorField, axis: int, places: Places) -> TensorField:
    """Known positions of an axis, in any order and number."""
    flat = places.reshape(-1)
    if len(flat) and (np.diff(flat) == 1).all():
        return sliced(field, axis, int(flat[0]), len(flat))
    if len(flat) > MOST_POSITIONS:
        return anywhere(field, axis, len(flat), BOUNDED, TOO_MANY)
    everything = len(np.unique(flat)) == field.shape[axis]
    return (field if everything else field.cut(axis)).moved(axis, places_map(tuple(flat.tolist())), len(flat))


def anywhere(field: TensorField, axis: int, size: int, doubt: int, why: str) -> TensorField:
    """An axis of another size, each position of which may come from any position of the old one."""
    gone, sizes = field.uids([axis]), field.sizes()

    def change(view: AxisView) -> AxisView:
        return view if gone.isdisjoint(view.atoms) else view.projected(gone, sizes).doubted(doubt, why)

    return field.cut(axis).with_views(change).with_axis(axis, (new_atom(size),))


def paired(field: TensorField, axes: Sequence[int], places: Sequence[Places], shape: tuple[int, ...]) -> TensorField:
    """`x[places[0], places[1], ...]`: several axes looked up together; the result's axis comes in front.

    Args:
        field: of the tensor.
        axes: that are looked up.
        places: for each of them the known positions, all of `shape`.
        shape: of the looked-up axes in the result.
    """
    total = prod(shape)
    for axis in axes:
        field = field.cut(axis).fused(axis)
    fresh = new_atom(total)
    own = {field.layout[axis][0].uid: at.reshape(-1) for axis, at in zip(axes, places, strict=True)}
    sizes = field.sizes()

    def change(view: AxisView) -> AxisView:
        touched = [u for u in view.atoms if u in own]
        if not touched:
            return view
        rest = [u for u in view.atoms if u not in own]
        inner = prod(sizes[u] for u in rest)
        if total * inner > MOST_POSITIONS:
            return view.projected(own.keys(), sizes).doubted(BOUNDED, TOO_MANY)
        along = tuple(sizes[u] for u in touched)
        flat = np.ravel_multi_index([own[u] for u in touched], along)
        sight = view.spread_over((*touched, *rest), sizes)
        window = places_map(tuple(flat.tolist()))
        return view.moved((fresh.uid, *rest), sight.within(window, total, 1, prod(along), inner))

    result = field.with_views(change)
    rest = [atoms for axis, atoms in enumerate(field.layout) if axis not in axes]
    uneven = result.uneven - own.keys()
    flat = TensorField(((fresh,), *rest), result.views, uneven | {fresh.uid} if uneven != result.uneven else uneven)
    if field.views.gaps:
        flat = flat.mended()
    return reshaped(flat, (*shape, *flat.shape[1:]))


def placed(field: TensorField, value: TensorField, axis: int, places: Places, *, adds: bool = False) -> TensorField:
    """`value` written to known positions of an axis; with `adds` it is added to what is there.

    `value` has the tensor's axes, its size along `axis` being the number of places.
    """
    size = field.shape[axis]
    source = np.arange(size)
    source[places] = size + np.arange(len(places))  # of a place that is named twice the last value stays
    if len(places) == size == len(np.unique(places)) and not adds:
        return taken(value, axis, source - size)
    if adds or len(np.unique(places)) < len(places):
        return merged([field, value.moved(axis, _collected(size, tuple(places.tolist())), size)], field.shape)
    both = concatenated([field, value], axis, (*field.shape[:axis], size + len(places), *field.shape[axis + 1 :]))
    window, own = places_map(tuple(source.tolist())), both.uids([axis])
    if field.uneven.isdisjoint(field.uids([axis])) and value.uneven.isdisjoint(value.uids([axis])):
        # Some of each stays: that the two differ is no reason for doubt.
        even = TensorField(both.layout, both.views, both.uneven - own, both.shape).moved(axis, window, size)
        return even.with_uneven(even.uids([axis])) if own & both.uneven else even
    return both.moved(axis, window, size)


def _collected(size: int, places: tuple[int, ...]) -> IndexMap:
    """Position p gets the values whose place is p."""
    taps: list[list[int]] = [[] for _ in range(size)]
    for value, place in enumerate(places):
        taps[place].append(value)
    return IndexMap(size, 0, tuple(map(tuple, taps)))
