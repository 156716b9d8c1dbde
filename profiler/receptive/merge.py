"""Joining the fields of several tensors, element by element."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from operator import is_

from profiler.receptive import holes
from profiler.receptive.field import CUT, MOST_POSITIONS, TOO_MANY, TensorField
from profiler.receptive.layout import Atom, Layout, Views, new_atom
from profiler.receptive.reshape import expanded_to, reshaped
from profiler.receptive.sight import fixed
from profiler.receptive.view import BOUNDED, EXACT, AxisView, settled

_NONE: frozenset[int] = frozenset()


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
        a, b = aligned(a, expanded_to(b, a.shape))
    views, ragged = united(a.views, b.views, a)
    uneven = a.uneven | b.uneven | ragged if b.uneven or ragged else a.uneven
    if a.uneven or b.uneven:
        views = _told_apart(views, a, b)
    return a if views is a.views and uneven is a.uneven else TensorField(a.layout, views, uneven, a.shape)


def _told_apart(views: Views, a: TensorField, b: TensorField) -> Views:
    """Views that have come to move along uneven atoms of one of two tensors say more than they know."""
    true = []
    for union, *pair in zip(views.true, a.true, b.true, strict=True):
        new = [f.uneven.intersection(union.atoms).difference(v.atoms) for f, v in zip((a, b), pair, strict=True)]
        knows = all(not atoms or v.sight.blank for atoms, v in zip(new, pair, strict=True))
        true.append(union if knows else union.doubted(BOUNDED, CUT))
    return views.with_true(true)


def united(a: Views, b: Views, field: TensorField) -> tuple[Views, frozenset[int]]:
    """What tensors of the same layout, which is that of `field`, see together.

    Also the atoms along which only one of them sees anything at some positions (zeros were padded): elements there see
    less along the other axes.
    """
    if a is b:
        return a, _NONE
    found = a.unions.get(b)
    if found is None:
        views, uneven = _union_of(a, b, field), _NONE
        if a.gaps or (b.gaps and views is not a):
            sizes = field.sizes()
            views, uneven = holes.united(a, b, views, tuple(sizes), sizes)
        found = a.unions[b] = views, uneven
    return found


def _union_of(a: Views, b: Views, field: TensorField) -> Views:
    true = tuple([union(x, y, field) for x, y in zip(a.true, b.true, strict=True)])
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


def fused(field: TensorField, axis: int) -> TensorField:
    """The field with one axis' atoms joined into one."""
    return field.fused(axis)


def hull(views: Sequence[AxisView], why: str) -> AxisView:
    """The one interval that holds all that any of the views sees."""
    low = min(v.sight.reach[0] for v in views)
    high = max(v.sight.reach[1] for v in views)
    worst = max(views, key=lambda v: v.doubt)
    view = AxisView((), fixed(low, high, views[0].sight.extent), worst.doubt, any(v.mixed for v in views), worst.why)
    return settled(view.doubted(BOUNDED, why))


def aligned(
    a: TensorField, b: TensorField, *, refined: bool = False, fixed: bool = False
) -> tuple[TensorField, TensorField]:
    """Both with the same atoms on every axis, those of `a` where they will do.

    `refined`: they have been cut alike as far as they can be; an axis that still differs is taken as one. `fixed`: the
    atoms of `a` will do wherever their sizes are those of `b`: it has been aligned with every tensor before.
    """
    ours: dict[int, int] = {}
    theirs: dict[int, int] = {}
    layout = list(a.layout)
    for axis, (p, q) in enumerate(zip(a.layout, b.layout, strict=True)):
        if p == q:
            continue
        if [x[1] for x in p] == [y[1] for y in q]:
            pairs = zip(p, q, strict=True)
            if fixed:
                theirs.update({y[0]: x[0] for x, y in pairs})
            else:
                layout[axis] = tuple([_common_atom(a, x, b, y, ours, theirs) for x, y in pairs])
        elif b.moves_along(q):
            if a.moves_along(p):
                pair = (a.fused(axis), b.fused(axis)) if refined else _refined(a, b)
                return aligned(*pair, refined=True, fixed=fixed)
            # What nothing moves along takes any atoms.
            layout[axis] = tuple([new_atom(y[1], kinds=y[0] < 0) for y in q])
            theirs.update({y[0]: x[0] for x, y in zip(layout[axis], q, strict=True)})
    atoms = tuple(layout)
    return _renamed(a, atoms, ours), _renamed(b, atoms, theirs)


def _common_atom(
    a: TensorField, x: Atom, b: TensorField, y: Atom, ours: dict[int, int], theirs: dict[int, int]
) -> Atom:
    """One atom for two; where one of them tells kinds of channels apart and the other positions, a new one."""
    common = x
    if (x[0] < 0) != (y[0] < 0):
        kinds = all(atom[0] < 0 or not field.moves_along((atom,)) for field, atom in ((a, x), (b, y)))
        common = new_atom(x[1], kinds=kinds)
        ours[x[0]] = common[0]
    if y[0] != common[0]:
        theirs[y[0]] = common[0]
    return common


def _renamed(field: TensorField, layout: Layout, names: dict[int, int]) -> TensorField:
    """The field with other atoms."""

    def change(view: AxisView) -> AxisView:
        if names.keys().isdisjoint(view.atoms):
            return view
        return view.moved(tuple([names.get(u, u) for u in view.atoms]), view.sight)

    if layout == field.layout:
        return field
    uneven = frozenset(names.get(u, u) for u in field.uneven) if field.uneven else field.uneven
    return TensorField(layout, field.views.changed(change) if names else field.views, uneven, field.shape)


def _refined(a: TensorField, b: TensorField) -> tuple[TensorField, TensorField]:
    """Both cut into atoms fine enough for the two of them, by way of a reshape to those sizes and back."""
    fine = []
    for axis in range(len(a.layout)):
        sizes = _common(tuple(x.size for x in a.layout[axis]), tuple(y.size for y in b.layout[axis]))
        if not sizes:
            a, b, sizes = a.fused(axis), b.fused(axis), (a.shape[axis],)
        fine.append(sizes)
    flat = tuple(n for axis in fine for n in axis)
    return _grouped(reshaped(a, flat), fine), _grouped(reshaped(b, flat), fine)


def _common(p: tuple[int, ...], q: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes whose boundaries include those of both; none where the boundaries do not nest."""
    edges = sorted({prod(p[n:]) for n in range(len(p) + 1)} | {prod(q[n:]) for n in range(len(q) + 1)})
    if any(high % low for low, high in pairwise(edges)):
        return ()
    return tuple(high // low for low, high in pairwise(edges))[::-1] or (1,)


def _grouped(field: TensorField, groups: list[tuple[int, ...]]) -> TensorField:
    """Axes put back together: `groups` lists how many of them make one."""
    layout, at = [], 0
    for group in groups:
        layout.append(tuple(atom for axis in field.layout[at : at + len(group)] for atom in axis))
        at += len(group)
    return field.with_layout(tuple(layout))


def union(a: AxisView, b: AxisView, field: TensorField) -> AxisView:
    """What either view sees; `field` has the atoms of both."""
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
        return hull((a, b), TOO_MANY)
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
    return union(a, b, field)


def _same_views(a: Views, b: Views) -> bool:
    if a is b:
        return True
    pairs = [*zip(a.true, b.true, strict=True), *zip(a.local, b.local, strict=True)]
    return all(x is y or (x.atoms == y.atoms and x.sight.same(y.sight)) for x, y in pairs)
