"""Joining the fields of several tensors one after the other along an axis."""

from collections.abc import Sequence
from functools import reduce
from math import gcd, prod

from profiler.receptive.field import MOST_POSITIONS, TOO_MANY, TensorField
from profiler.receptive.holes import boxes
from profiler.receptive.layout import Atom, Views, new_atom
from profiler.receptive.merge import aligned, hull, union
from profiler.receptive.sight import Sight, Table
from profiler.receptive.span import Span
from profiler.receptive.stack import Stack, stack
from profiler.receptive.view import AxisView, settled

_NONE: frozenset[int] = frozenset()


def concatenated(fields: Sequence[TensorField], axis: int, shape: tuple[int, ...]) -> TensorField:
    """The field of `torch.cat`: tensors that see different things along an axis of channels stay apart as kinds."""
    first = fields[0]
    before, after = first.layout[:axis], first.layout[axis + 1 :]
    alike = plain = True
    for field in fields:
        for atom in field.layout[axis]:
            if field.views.moves_along((atom,)):
                if atom[0] > 0:
                    return _end_to_end(fields, axis, new_atom(shape[axis]))
                plain = False
        alike = alike and field.layout[:axis] == before and field.layout[axis + 1 :] == after
    sizes = [f.shape[axis] for f in fields]
    if plain and alike:
        fast = _side_by_side(fields, axis, shape, gcd(*sizes))
        if fast is not None:
            return fast
    if plain:
        each = gcd(*sizes)
        inner = (new_atom(each),) if each > 1 else ()
        parts = [_split(f, axis, (new_atom(n // each, kinds=True),), inner) for f, n in zip(fields, sizes, strict=True)]
        total = shape[axis] // each
    elif len(set(sizes)) == 1:
        parts = [_split(f, axis, (new_atom(1, kinds=True),), f.layout[axis]) for f in fields]
        total = len(fields)
    else:
        fused_parts = [f.fused(axis) for f in fields]
        parts = [_split(f, axis, f.layout[axis], ()) for f in fused_parts]
        total = shape[axis]
    result = _end_to_end(parts, axis, new_atom(total, kinds=True))
    joined = (*result.layout[axis], *result.layout[axis + 1])
    return result.with_layout((*result.layout[:axis], joined, *result.layout[axis + 2 :]))


def _split(field: TensorField, axis: int, outer: tuple[Atom, ...], inner: tuple[Atom, ...]) -> TensorField:
    """One axis as two."""
    layout = field.layout
    return field.with_layout((*layout[:axis], outer, inner or (new_atom(1),), *layout[axis + 1 :]))


def _side_by_side(fields: Sequence[TensorField], axis: int, shape: tuple[int, ...], each: int) -> TensorField | None:
    """Channels of tensors whose views move along the same atoms; None where they do not."""
    first = fields[0]
    kinds = new_atom(shape[axis] // each, kinds=True)
    uneven = first.uneven.union(*[f.uneven for f in fields[1:] if f.uneven])
    counts = [f.shape[axis] // each for f in fields]
    true = [_stacked(views, counts, kinds) for views in zip(*[f.views.true for f in fields], strict=True)]
    near = true
    if any([f.views.local is not f.views.true for f in fields]):  # noqa: C419  # a list is faster than a generator
        near = [_stacked(views, counts, kinds) for views in zip(*[f.views.local for f in fields], strict=True)]
    seen, close = [v for v in true if v is not None], [v for v in near if v is not None]
    if len(seen) < len(true) or len(close) < len(near):
        return None
    atoms = (kinds, *((new_atom(each),) if each > 1 else ()))
    if not any(kinds.uid in v.atoms for v in (*seen, *close)):
        atoms = (new_atom(shape[axis]),)
    own = tuple(seen)
    views = Views(own, own if near is true else tuple(close), first.extent)
    return TensorField((*first.layout[:axis], atoms, *first.layout[axis + 1 :]), views, uneven, shape)


def _stacked(views: Sequence[AxisView], counts: Sequence[int], kinds: Atom) -> AxisView | None:
    """The views of tensors side by side; None where they do not move along the same atoms."""
    one = worst = views[0]
    atoms, sight, mixed = one.atoms, one.sight, one.mixed
    same = True
    for view in views:
        if view is not one:
            if view.atoms != atoms:
                return None
            same = same and (view.sight is sight or view.sight.same(sight))
            mixed = mixed or view.mixed
            if view.doubt > worst.doubt:
                worst = view
    if same:
        together = reduce(Sight.union, dict.fromkeys([v.sight for v in views]))
        if one.whole or (together is sight and mixed is one.mixed and worst is one):
            return one
        return AxisView(atoms, together, worst.doubt, mixed, worst.why)
    key = ("side by side", *[v.sight for v in views], *counts)
    rows = sight.remembered(
        key, lambda: stack(tuple([v.sight for v, count in zip(views, counts, strict=True) for _ in range(count)]))
    )
    return AxisView((kinds.uid, *atoms), rows, worst.doubt, mixed, worst.why)


def _end_to_end(fields: Sequence[TensorField], axis: int, fresh: Atom) -> TensorField:
    """Concatenation along an axis that views move along: their spans follow each other."""
    parts = _like_first([f.fused(axis) for f in fields], axis)
    first = parts[0]
    own = [f.layout[axis][0] for f in parts]
    order = [fresh.uid if n == axis else atom.uid for n, atoms in enumerate(first.layout) for atom in atoms]
    sizes = [f.sizes() for f in parts]
    differ: set[int] = set()

    def moves(views: Sequence[AxisView]) -> bool:
        return any(atom.uid in v.atoms for v, atom in zip(views, own, strict=True))

    def joined(views: Sequence[AxisView], *, told: bool) -> AxisView:
        if not moves(views):
            # Where a tensor sees nothing, another view of the input may tell.
            seeing = [v for v in views if not v.sight.blank] if told else views
            same = all(v.atoms == seeing[0].atoms and v.sight.same(seeing[0].sight) for v in seeing)
            holed = any(v.sight.gaps for v in seeing)  # a union would forget which tensor the holes are of
            if same or (fresh.uid > 0 and any(v.atoms for v in views) and not holed):
                if not same:
                    differ.add(fresh.uid)
                return reduce(lambda a, b: union(a, b, first), views)
        either = {u for v in views for u in v.atoms} - {atom.uid for atom in own} | {fresh.uid}
        along = [u for u in order if u in either]
        if prod([fresh.size if u == fresh.uid else sizes[0][u] for u in along]) > MOST_POSITIONS:
            return hull(views, TOO_MANY)
        each = [[atom.uid if u == fresh.uid else u for u in along] for atom in own]
        shapes = tuple(tuple(s[u] for u in uids) for s, uids in zip(sizes, each, strict=True))
        rows = [v.spread_over(uids, s) for v, uids, s in zip(views, each, sizes, strict=True)]
        worst = max(views, key=lambda v: v.doubt)
        sight = _in_a_row(rows, shapes, along.index(fresh.uid))
        return settled(AxisView(tuple(along), sight, worst.doubt, any(v.mixed for v in views), worst.why))

    def all_joined(each: Sequence[tuple[AxisView, ...]]) -> tuple[AxisView, ...]:
        several = list(zip(*each, strict=True))
        telling = [any(moves(several[n]) for n in box) for box in boxes(first.views) for _ in box]
        return tuple(joined(views, told=told) for views, told in zip(several, telling, strict=True))

    true = all_joined([f.true for f in parts])
    near = true if all(f.local is f.true for f in parts) else all_joined([f.local for f in parts])
    uneven = frozenset[int]().union(*(f.uneven for f in parts))
    names = {atom.uid for atom in own}
    if uneven & names:
        differ.add(fresh.uid)
    layout = first.with_axis(axis, (fresh,)).layout
    result = TensorField(layout, Views(true, near, first.extent), (uneven - names) | differ)
    return result.mended() if result.views.gaps else result


def _like_first(fields: Sequence[TensorField], axis: int) -> list[TensorField]:
    """Fields with the same atoms on every axis but one, as fine as the finest of them needs."""
    guide = fields[0]
    for field in fields[1:]:
        guide = aligned(guide.with_axis(axis, (new_atom(field.shape[axis]),)), field)[0]
    return [aligned(guide.with_axis(axis, (new_atom(f.shape[axis]),)), f, fixed=True)[1] for f in fields]


def _in_a_row(sights: Sequence[Sight], shapes: tuple[tuple[int, ...], ...], axis: int) -> Sight:
    """The positions of several arrays, of these shapes, one after the other along an axis."""
    if axis == 0:
        each = [_rows(sight, shape[0]) for sight, shape in zip(sights, shapes, strict=True)]
        if all(each):
            return stack(tuple(row for rows in each for row in rows))

    def chained(*spans: Span) -> Span:
        return Span.concatenate([s.reshape(shape) for s, shape in zip(spans, shapes, strict=True)], axis).reshape((-1,))

    size = sum(map(prod, shapes))
    key = ("row", tuple(sights), shapes, axis)
    return sights[0].remembered(key, lambda: Table(size, sights[0].extent, tuple(sights), chained, None))


def _rows(sight: Sight, count: int) -> tuple[Sight, ...]:
    """The rows that positions are made of, where they are made of rows."""
    if isinstance(sight, Stack) and len(sight.parts) == count:
        return sight.parts
    return (sight,) if count == 1 and sight.size > 1 else ()
