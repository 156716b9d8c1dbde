"""Joining the fields of several tensors: element by element, or one after the other along an axis."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import gcd, prod
from operator import is_

from profiler.receptive.field import MOST_POSITIONS, TOO_MANY, Atom, TensorField, Views, new_atom
from profiler.receptive.reshape import expanded_to, reshaped
from profiler.receptive.sight import Sight, Table, fixed
from profiler.receptive.span import Span
from profiler.receptive.view import BOUNDED, EXACT, AxisView, settled


def merged(fields: Sequence[TensorField], shape: tuple[int, ...]) -> TensorField:
    """The field of an element-by-element operation whose result has this shape."""
    result = next((f for f in fields if f.shape == shape), fields[0])
    rest = [f for f in fields if f is not result]
    result = expanded_to(result, shape)
    for other in rest:
        result = _joined(result, other)
    return result


def _joined(a: TensorField, b: TensorField) -> TensorField:
    if a.layout != b.layout and not b.still:
        a, b = _aligned(a, expanded_to(b, a.shape))
    views = _united(a.views, b.views, a)
    if views is a.views and not b.uneven:
        return a
    return TensorField(a.layout, views, a.uneven | b.uneven if b.uneven else a.uneven, a.shape)


def _united(a: Views, b: Views, field: TensorField) -> Views:
    """What tensors of the same layout, which is that of `field`, see together."""
    if a is b:
        return a
    found = a.unions.get(b)
    if found is None:
        found = a.unions[b] = _union_of(a, b, field)
    return found


def _union_of(a: Views, b: Views, field: TensorField) -> Views:
    true = tuple([_union(x, y, field) for x, y in zip(a.true, b.true, strict=True)])
    if a.local is a.true and b.local is b.true and _alike(a.true, b.true):
        near = true
    else:
        near = tuple([_local_union(x, y, field) for x, y in zip(a.local, b.local, strict=True)])
    for known in (a, b):
        if all(map(is_, true, known.true)) and (near is true or all(map(is_, near, known.local))):
            return known
    return Views(true, near, a.extent)


def _alike(a: Sequence[AxisView], b: Sequence[AxisView]) -> bool:
    """Whether the local union of the views is their union."""
    pairs = zip(a, b, strict=True)
    return all([x is y or (not x.mixed and not y.mixed and x.sight.sees and y.sight.sees) for x, y in pairs])  # noqa: C419  # as above


def concatenated(fields: Sequence[TensorField], axis: int, shape: tuple[int, ...]) -> TensorField:
    """The field of `torch.cat`: what differs from tensor to tensor along `axis` becomes uneven."""
    fresh = new_atom(shape[axis])
    for field in fields:
        if _moves_along(field, axis):
            return _end_to_end(fields, axis, fresh)
    first = fields[0].with_axis(axis, (fresh,))
    before, after = first.layout[:axis], first.layout[axis + 1 :]
    views, parts = first.views, [f.views for f in fields]
    uneven, within = first.uneven, False
    for field in fields:
        if field.uneven:
            own = [a[0] for a in field.layout[axis]]
            within = within or not field.uneven.isdisjoint(own)
            uneven = uneven.union(field.uneven).difference(own)
        if field.layout[:axis] != before or field.layout[axis + 1 :] != after:
            whole = [f.with_axis(axis, (fresh,)) for f in fields]
            first = merged(whole, shape)
            views, parts = first.views, [_aligned(first, part)[1].views for part in whole]
            uneven = first.uneven - {fresh.uid}
            break
        views = _united(views, field.views, first)
    if not within and all(_same_views(views, part) for part in parts):
        return TensorField(first.layout, views, uneven, shape)
    # Only from part to part do elements differ: a slice that takes as much of each is no smaller than the whole.
    each = 1 if within else gcd(*[f.shape[axis] for f in fields])
    atoms = (new_atom(shape[axis] // each), *((new_atom(each),) if each > 1 else ()))
    layout = (*first.layout[:axis], atoms, *first.layout[axis + 1 :])
    return TensorField(layout, views, uneven | {atoms[0].uid}, shape)


def _moves_along(field: TensorField, axis: int) -> bool:
    views = field.views
    every = views.true if views.local is views.true else views.true + views.local
    for atom in field.layout[axis]:
        for view in every:
            if atom[0] in view.atoms:
                return True
    return False


def _end_to_end(fields: Sequence[TensorField], axis: int, fresh: Atom) -> TensorField:
    """Concatenation along an axis that views move along: their spans follow each other."""
    first = fields[0].fused(axis)
    parts = [first, *(_aligned_except(first, f.fused(axis), axis) for f in fields[1:])]
    own = [f.layout[axis][0] for f in parts]

    def joined(views: Sequence[AxisView]) -> AxisView:
        result = views[0]
        if all(v.atoms in ((), (atom.uid,)) for v, atom in zip(views, own, strict=True)):
            sight = _in_a_row([v.sight for v in views], tuple(atom.size for atom in own))
            result = result.moved((fresh.uid,), sight)
        elif any(atom.uid in v.atoms for v, atom in zip(views, own, strict=True)):
            return _hull(views, "concatenated along an axis that was cut where it does not divide")
        else:
            for view in views[1:]:
                result = _union(result, view, first)
            same = all(v.atoms == views[0].atoms and v.sight.same(views[0].sight) for v in views)
            return result if same else result.doubted(BOUNDED, "tensors that see different things were concatenated")
        worst = max(views, key=lambda v: v.doubt)
        return settled(AxisView(result.atoms, result.sight, worst.doubt, any(v.mixed for v in views), worst.why))

    true = tuple(joined(views) for views in zip(*(f.true for f in parts), strict=True))
    if all(f.local is f.true for f in parts):
        near = true
    else:
        near = tuple(joined(views) for views in zip(*(f.local for f in parts), strict=True))
    return TensorField(
        first.with_axis(axis, (fresh,)).layout,
        Views(true, near, first.extent),
        frozenset().union(*(f.uneven for f in parts)),
    )


def _in_a_row(sights: Sequence[Sight], sizes: tuple[int, ...]) -> Sight:
    """The positions of several sights, one after the other; one that sees the same everywhere is repeated."""
    key = ("row", tuple(sights), sizes)
    memory = sights[0]._derived  # noqa: SLF001  # sights remember what follows from them
    if key not in memory:

        def chained(*spans: Span) -> Span:
            return Span.concatenate([s.broadcast((n,)) for s, n in zip(spans, sizes, strict=True)])

        memory[key] = Table(sum(sizes), sights[0].extent, tuple(sights), chained, None)
    return memory[key]


def _hull(views: Sequence[AxisView], why: str) -> AxisView:
    """The one interval that holds all that any of the views sees."""
    low = min(v.sight.reach[0] for v in views)
    high = max(v.sight.reach[1] for v in views)
    worst = max(views, key=lambda v: v.doubt)
    view = AxisView((), fixed(low, high, views[0].sight.extent), worst.doubt, any(v.mixed for v in views), worst.why)
    return settled(view.doubted(BOUNDED, why))


def _aligned_except(a: TensorField, b: TensorField, axis: int) -> TensorField:
    """`b` with the atoms of `a` on every axis but one."""
    guide = a.with_axis(axis, (new_atom(b.shape[axis]),))
    return _aligned(guide, b)[1]


def _aligned(a: TensorField, b: TensorField) -> tuple[TensorField, TensorField]:
    """Both with the same atoms on every axis; `b` takes the names of `a`."""
    if a.layout == b.layout:
        return a, b
    if any(p != q and [x[1] for x in p] != [x[1] for x in q] for p, q in zip(a.layout, b.layout, strict=True)):
        a, b = _refined(a, b)
    pairs = zip(a.layout, b.layout, strict=True)
    names = {y[0]: x[0] for p, q in pairs if p != q for x, y in zip(p, q, strict=True) if x[0] != y[0]}
    if not names:
        return a, TensorField(a.layout, b.views, b.uneven, a.shape)
    renamed = _renaming(names)
    uneven = frozenset(names.get(u, u) for u in b.uneven) if b.uneven else b.uneven
    return a, TensorField(a.layout, b.views.changed(renamed), uneven, a.shape)


def _renaming(names: dict[int, int]) -> Callable[[AxisView], AxisView]:
    def renamed(view: AxisView) -> AxisView:
        if names.keys().isdisjoint(view.atoms):
            return view
        return view.moved(tuple([names.get(u, u) for u in view.atoms]), view.sight)

    return renamed


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
    return field.with_layout(tuple(layout))


def _union(a: AxisView, b: AxisView, field: TensorField) -> AxisView:
    if a is b:
        return a
    for x, y in ((a, b), (b, a)):
        if (x.whole and (x.doubt == EXACT or y.doubt <= BOUNDED)) or (not y.atoms and not y.sight.sees):
            return x
    mixed = a.mixed or b.mixed
    doubt, why = (a.doubt, a.why) if a.doubt >= b.doubt else (b.doubt, b.why)
    if a.atoms == b.atoms:
        sight = a.sight.union(b.sight)
        for view in (a, b):
            if view.sight is sight and view.doubt == doubt and view.mixed is mixed:
                return view
        view = AxisView(a.atoms, sight, doubt, mixed, why)
        return settled(view) if mixed else view
    either = {*a.atoms, *b.atoms}
    sizes = field.sizes()
    if prod([sizes[uid] for uid in either]) > MOST_POSITIONS:
        return _hull((a, b), TOO_MANY)
    order = [uid for axis in field.layout for uid, _ in axis if uid in either]
    sight = a.spread_over(order, sizes).union(b.spread_over(order, sizes))
    view = AxisView(tuple(order), sight, doubt, mixed, why)
    return settled(view) if mixed else view


def _local_union(a: AxisView, b: AxisView, field: TensorField) -> AxisView:
    """A view that no longer moves because everything was joined tells nothing local: the other one stands."""
    if a is b:
        return a
    if a.sight.sees != b.sight.sees:
        return a if a.sight.sees else b
    if a.mixed != b.mixed and not (a.atoms and b.atoms):
        return b if a.mixed else a
    return _union(a, b, field)


def _same_views(a: Views, b: Views) -> bool:
    if a is b:
        return True
    pairs = [*zip(a.true, b.true, strict=True), *zip(a.local, b.local, strict=True)]
    return all(x is y or (x.atoms == y.atoms and x.sight.same(y.sight)) for x, y in pairs)
