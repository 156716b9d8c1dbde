"""Joining the fields of several tensors: element by element, or one after the other along an axis."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import prod

import numpy as np

from profiler.receptive.field import Atom, TensorField, new_atom
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
    first = fields[0]
    parts = [first, *(_aligned_except(first, f, axis) for f in fields[1:])]
    lengths = [f.shape[axis] for f in parts]

    def joined(views: Sequence[AxisView]) -> AxisView:
        others = {v.atoms for v, f in zip(views, parts, strict=True) if not f.uids([axis]) & set(v.atoms)}
        moving = [v.atoms == tuple(a.uid for a in f.layout[axis]) for v, f in zip(views, parts, strict=True)]
        if len(others) == 1 and not any(moving):
            return views[0].replace(
                span=_union_all([v.span for v in views]), lattice=None, exact=all(v.exact for v in views)
            )
        simple = all(m or not v.atoms for m, v in zip(moving, views, strict=True))
        if not simple:
            low = min(int(v.span.first.min()) for v in views)
            high = max(int(v.span.last.max()) for v in views)
            return views[0].replace(atoms=(), span=Span(np.array([low]), np.array([high])), lattice=None, exact=False)
        spans = [
            v.span if m else Span(np.repeat(v.span.first, n), np.repeat(v.span.last, n))
            for v, m, n in zip(views, moving, lengths, strict=True)
        ]
        whole = Span(np.concatenate([s.first for s in spans]), np.concatenate([s.last for s in spans]))
        return views[0].replace(
            atoms=(fresh.uid,),
            span=whole,
            lattice=None,
            exact=all(v.exact for v in views),
            mixed=any(v.mixed for v in views),
            known=all(v.known for v in views),
        )

    result = first.with_axis(axis, (fresh,))
    return replace(
        result,
        true=tuple(joined(views) for views in zip(*(f.true for f in parts), strict=True)),
        local=tuple(joined(views) for views in zip(*(f.local for f in parts), strict=True)),
        uneven=frozenset().union(*(f.uneven for f in parts)),
    )


def _union_all(spans: Sequence[Span]) -> Span:
    total = spans[0]
    for span in spans[1:]:
        total = total.union(span)
    return total


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
    return a, replace(b, layout=a.layout, uneven=frozenset(names[u] for u in b.uneven))


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
        low = min(int(v.span.first.min()) for v in (a, b))
        high = max(int(v.span.last.max()) for v in (a, b))
        return AxisView((), Span(np.array([low]), np.array([high])), None, exact=False, mixed=mixed, known=known)
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
    if a.mixed != b.mixed and not (a.atoms and b.atoms):
        return b if a.mixed else a
    return _union(a, b, field)


def _same_views(a: TensorField, b: TensorField) -> bool:
    pairs = [*zip(a.true, b.true, strict=True), *zip(a.local, b.local, strict=True)]
    return all(x.atoms == y.atoms and x.span == y.span for x, y in pairs)
