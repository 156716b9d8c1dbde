"""Scaled dot-product attention: every query sees the keys and values it may look at; locally, its own position."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from profiler.aten.call import Call
from profiler.receptive.field import TensorField
from profiler.receptive.layout import Views
from profiler.receptive.merge import merged
from profiler.receptive.reshape import expanded_to, reshaped
from profiler.receptive.rules.base import Fields, Result, Rule, known_values
from profiler.receptive.view import MASKED, AxisView, settled

# Masks of more elements than this are not looked at.
MOST_PAIRS = 1 << 22


def _attention(call: Call, fields: Fields) -> Result:
    out = call.out
    query, key, value = (_of_rank(fields(call[name]), len(out)) for name in ("query", "key", "value"))
    mask = call.get("attn_mask")
    marked = None if mask is None else fields(mask)
    sides = [f for f in (key, value) if f is not None]
    if query is None and not sides and marked is None:
        return [None]
    own = _own(query, out)
    if len(sides) == 2 and sides[0].views is sides[1].views and sides[0].layout[-2] == sides[1].layout[-2]:
        sides.pop()
    looks, masked = _looks(call, fields, mask)
    parts = [_side(side, out, looks, masked=masked) for side in sides]
    if marked is not None:
        parts.append(marked.reduced([-1], keep=True))
    if own is None:
        return [merged(parts, out)]
    for part in parts:
        own = _seen_by(own, part, out)
    return [own]


def _of_rank(field: TensorField | None, rank: int) -> TensorField | None:
    """A field with axes of size one in front where it has too few."""
    if field is None or len(field.layout) == rank:
        return field
    return reshaped(field, (*(1,) * (rank - len(field.layout)), *field.shape))


def _own(query: TensorField | None, out: tuple[int, ...]) -> TensorField | None:
    if query is None:
        return None
    own = query.mixed([len(out) - 1], local=True)
    return own if own.shape == out else expanded_to(own.reduced([len(out) - 1], keep=True), out)


def _looks(call: Call, fields: Fields, mask: torch.Tensor | None) -> tuple[npt.NDArray[Any] | None, bool]:
    """Which keys each query looks at, None for all; and whether a mask may hide more.

    Either how many of the first keys each query looks at, or truth values (queries, keys). A mask of numbers is added
    to the scores: it hides where it is known to be minus infinity, or as good as that.
    """
    queries, keys = call["query"].shape[-2], call["key"].shape[-2]
    first = np.minimum(np.arange(1, queries + 1), keys) if call.get("is_causal") and keys > 1 else None
    values = None if mask is None else known_values(mask, fields)
    if mask is None or values is None:
        return first, mask is not None and mask.dtype is torch.bool and fields(mask) is None
    if queries * keys > MOST_PAIRS:
        return None, True
    seen = values if values.dtype.kind == "b" else values > np.finfo(values.dtype).min / 2
    seen = np.broadcast_to(seen, (*seen.shape[:-2], queries, keys)).reshape(-1, queries, keys)
    shown: npt.NDArray[np.bool_] = np.logical_or.reduce(seen, axis=0)
    if first is not None:
        shown &= np.tri(queries, keys, dtype=bool)
    return None if shown.all() else shown, bool((seen != seen[:1]).any())


def _side(side: TensorField, out: tuple[int, ...], looks: npt.NDArray[Any] | None, *, masked: bool) -> TensorField:
    """Keys or values as a query sees them: their axis is now that of the queries."""
    rank = len(out)
    if looks is None:
        joined = side.reduced([-2, -1], keep=True)
        if masked:
            joined = joined.with_views(lambda v: v.doubted(MASKED, "attention through a mask that is not known"))
        return TensorField(joined.layout, Views(joined.true, joined.true, joined.extent), joined.uneven, joined.shape)
    side = side.reduced([-1], keep=True).fused(rank - 2)
    if masked:
        side = side.doubted(MASKED, "attention through a mask that differs between heads")
    ((uid, keys),) = side.layout[rank - 2]
    sizes = side.sizes()

    def change(view: AxisView) -> AxisView:
        if uid not in view.atoms:
            return view
        if view.atoms != (uid,):
            return view.projected({uid}, sizes).doubted(
                MASKED, "masked attention over positions that also differ otherwise"
            )
        return settled(AxisView(view.atoms, view.sight.looked(looks), view.doubt, mixed=True, why=view.why))

    views = side.views.changed(change)
    moved = TensorField(side.layout, Views(views.true, views.true, views.extent), side.uneven, side.shape)
    if keys != out[-2]:
        resized = TensorField.blind((*side.shape[:-2], out[-2], 1), side.extent)
        names = {uid: resized.layout[rank - 2][0].uid}
        layout = (*side.layout[:-2], resized.layout[rank - 2], side.layout[-1])
        renamed = moved.views.changed(lambda v: v.moved(tuple(names.get(u, u) for u in v.atoms), v.sight))
        moved = TensorField(layout, renamed, moved.uneven - {uid})
    return moved


def _seen_by(query: TensorField, side: TensorField, shape: tuple[int, ...]) -> TensorField:
    """What queries see when they see another tensor as well; locally nothing is added."""
    joined = merged([query, side], shape)
    if joined.true == query.true:
        return query
    if joined.layout != query.layout:
        return joined
    return TensorField(query.layout, Views(joined.true, query.local, query.extent), joined.uneven, shape)


TABLE: dict[str, Rule] = {"aten.scaled_dot_product_attention": _attention}
