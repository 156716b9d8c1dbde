"""Joining the fields of several tensors: element by element, or one after the other along an axis."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import prod

import numpy as np

from profiler.receptive.field import Atom, TensorField, new_atom, projected
from profiler.receptive.reshape import expanded_to, reshaped
from profiler.receptive.view import AxisView, Span

# The scores of an attention layer move with query and key at once; beyond this many the table is not worth its memory.
MOST_POSITIONS = 1 << 18


def merged(fields: Sequence[TensorField], shape: tuple[int, ...]) -> TensorField:
    """The field of an element-by-element operation whose result has this shape."""
    result = expanded_to(fields[0], shape)
    for other in fields[1:]:
        result, aligned = _aligned(result, expanded_to(other, shape))
        result = replace(
            result,
            true=tuple(_union(a, b, result) for a, b in zip(result.true, aligned.true, strict=True)),
            local=tuple(_local_union(a, b, result) for a, b in zip(result.local, aligned.local, strict=True)),
            uneven=result.uneven | aligned.uneven,
        )
    return result


def concatenated(fields: Sequence[TensorField], axis: int, shape: tuple[int, ...]) -> TensorField:
    """The field of `torch.cat`: what differs from tensor to tensor along `axis` becomes uneven."""
    along = [any(f.uids([axis]) & set(v.atoms) for v in (*f.true, *f.local)) for f in fields]
    fresh = new_atom(shape[axis])
    if any(along):
        return _end_to_end(fields, axis, fresh)
    parts = [f.with_axis(axis, (new_atom(shape[axis]),)) for f in fields]
    result = merged(parts, shape)
    same = all(_same_views(result, _aligned(result, part)[1]) for part in parts)
    inner = frozenset[int]().union(*(f.uneven & f.uids([axis]) for f in fields))
    uneven = result.uneven | ({result.layout[axis][0].uid} if inner or not same else set())
    return replace(result, uneven=frozenset(uneven))


def _end_to_end(fields: Sequence[TensorField], axis: int, fresh: Atom) -> TensorField:
    """Concatenation along an axis that views move along: their spans follow each other."""
    first = fused(fields[0], axis)
    parts = [first, *(_aligned_except(first, fused(f, axis), axis) for f in fields[1:])]
    own = [f.layout[axis][0] for f in parts]

    def joined(views: Sequence[AxisView]) -> AxisView:
        result = views[0]
        if all(v.atoms in ((), (atom.uid,)) for v, atom in zip(views, own, strict=True)):
            spans = [v.span.broadcast((atom.size,)) for v, atom in zip(views, own, strict=True)]
            result = result.replace(atoms=(fresh.uid,), span=Span.concatenate(spans), lattice=None)
        elif any(atom.uid in v.atoms for v, atom in zip(views, own, strict=True)):
            return _hull(views)
        else:
            for view in views[1:]:
                result = _union(result, view, first)
            same = all(v.atoms == views[0].atoms and v.span == views[0].span for v in views)
            return result.replace(exact=result.exact and same)
        flags = {name: [getattr(v, name) for v in views] for name in ("exact", "mixed", "known")}
        return result.replace(exact=all(flags["exact"]), mixed=any(flags["mixed"]), known=all(flags["known"]))

    result = first.with_axis(axis, (fresh,))
    return replace(
        result,
        true=tuple(joined(views) for views in zip(*(f.true for f in parts), strict=True)),
        local=tuple(joined(views) for views in zip(*(f.local for f in parts), strict=True)),
        uneven=frozenset().union(*(f.uneven for f in parts)),
    )


def _hull(views: Sequence[AxisView]) -> AxisView:
    """The one interval that holds all that any of the views sees."""
    low = min(int(v.span.first.min()) for v in views)
    high = max(int(v.span.last.max()) for v in views)
    mixed, known = any(v.mixed for v in views), all(v.known for v in views)
    return AxisView((), Span(np.array([low]), np.array([high])), None, exact=False, mixed=mixed, known=known)


def fused(field: TensorField, axis: int) -> TensorField:
    """The field with one axis' atoms joined into one."""
    old = [a.uid for a in field.layout[axis]]
    if len(old) == 1:
        return field
    fresh, sizes = new_atom(field.shape[axis]), field.sizes()

    def change(view: AxisView) -> AxisView:
        if not set(old) & set(view.atoms):
            return view
        if set(view.atoms) <= set(old):
            return view.replace(atoms=(fresh.uid,), span=_spread_over(view, old, sizes).reshape((-1,)), lattice=None)
        return projected(view, set(old), sizes).replace(exact=False)

    return field.with_views(change).with_axis(axis, (fresh,))


def _aligned_except(a: TensorField, b: TensorField, axis: int) -> TensorField:
    """`b` with the atoms of `a` on every axis but one."""
    shape = list(a.shape)
    shape[axis] = b.shape[axis]
    guide = a.with_axis(axis, (new_atom(shape[axis]),))
    return _aligned(guide, b)[1]


def _aligned(a: TensorField, b: TensorField) -> tuple[TensorField, TensorField]:
    """Both with the same atoms on every axis; `b` takes the names of `a`."""
    if a.layout == b.layout:
        return a, b
    if [[x.size for x in axis] for axis in a.layout] != [[x.size for x in axis] for axis in b.layout]:
        a, b = _refined(a, b)
    names = {y.uid: x.uid for p, q in zip(a.layout, b.layout, strict=True) for x, y in zip(p, q, strict=True)}
    b = b.with_views(lambda v: v.replace(atoms=tuple(names[u] for u in v.atoms)))
    return a, replace(b, layout=a.layout, uneven=frozenset(names[u] for u in b.uneven if u in names))


def _refined(a: TensorField, b: TensorField) -> tuple[TensorField, TensorField]:
    """Both cut into atoms fine enough for the two of them, by way of a reshape to those sizes and back."""
    fine = [
        _common(tuple(x.size for x in p), tuple(y.size for y in q)) for p, q in zip(a.layout, b.layout, strict=True)
    ]
    flat = tuple(n for axis in fine for n in axis)
    return _grouped(reshaped(a, flat), fine), _grouped(reshaped(b, flat), fine)


def _common(p: tuple[int, ...], q: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes whose boundaries include those of both; the whole axis as one where the boundaries do not nest."""
    edges = sorted({prod(p[n:]) for n in range(len(p) + 1)} | {prod(q[n:]) for n in range(len(q) + 1)})
    if any(high % low for low, high in pairwise(edges)):
        return (edges[-1],)
    return tuple(high // low for low, high in pairwise(edges))[::-1] or (1,)


def _grouped(field: TensorField, groups: list[tuple[int, ...]]) -> TensorField:
    """Axes put back together: `groups` lists how many of them make one."""
    layout, at = [], 0
    for group in groups:
        layout.append(tuple(atom for axis in field.layout[at : at + len(group)] for atom in axis))
        at += len(group)
    return replace(field, layout=tuple(layout))


def _union(a: AxisView, b: AxisView, field: TensorField) -> AxisView:
    exact, mixed, known = a.exact and b.exact, a.mixed or b.mixed, a.known and b.known
    if a.atoms == b.atoms:
        lattice = a.lattice.union(b.lattice) if a.lattice and b.lattice else None
        return AxisView(a.atoms, a.span.union(b.span), lattice, exact, mixed, known)
    size = prod(n for uid, n in field.sizes().items() if uid in {*a.atoms, *b.atoms})
    if size > MOST_POSITIONS:
        return _hull((a, b))
    order = [x.uid for axis in field.layout for x in axis if x.uid in {*a.atoms, *b.atoms}]
    sizes = field.sizes()
    spans = [_spread_over(v, order, sizes) for v in (a, b)]
    return AxisView(tuple(order), spans[0].union(spans[1]).reshape((-1,)), None, exact, mixed, known)


def _spread_over(view: AxisView, order: list[int], sizes: dict[int, int]) -> Span:
    """The span with one array axis per atom in `order`, repeated along those the view does not move along."""
    span = view.span.reshape(tuple(sizes[u] for u in view.atoms))
    sequence = [view.atoms.index(u) for u in order if u in view.atoms]
    first, last = (np.transpose(x, sequence) for x in (span.first, span.last))
    shape = tuple(sizes[u] if u in view.atoms else 1 for u in order)
    full = tuple(sizes[u] for u in order)
    return Span(np.broadcast_to(first.reshape(shape), full), np.broadcast_to(last.reshape(shape), full))


def _local_union(a: AxisView, b: AxisView, field: TensorField) -> AxisView:
    """A view that no longer moves because everything was joined tells nothing local: the other one stands."""
    seeing = [v for v in (a, b) if (v.span.last >= v.span.first).any()]
    if len(seeing) == 1:
        return seeing[0]
    if a.mixed != b.mixed and not (a.atoms and b.atoms):
        return b if a.mixed else a
    return _union(a, b, field)


def _same_views(a: TensorField, b: TensorField) -> bool:
    pairs = [*zip(a.true, b.true, strict=True), *zip(a.local, b.local, strict=True)]
    return all(x.atoms == y.atoms and x.span == y.span for x, y in pairs)
