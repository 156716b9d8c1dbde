"""Operators that pick and place elements: lookups, gathers, scatters, masks, sorting.

Places that are known (constants of the model) are followed exactly. Where values decide, every position may be read:
"data-dependent".
"""

from math import prod
from typing import Any

import numpy as np
import torch

from profiler.aten.call import Call
from profiler.receptive.field import TensorField
from profiler.receptive.merge import merged
from profiler.receptive.pick import Places, anywhere, paired, sliced, taken
from profiler.receptive.reshape import expanded_to, reshaped
from profiler.receptive.rules.base import (
    Fields,
    Result,
    Rule,
    drawn,
    known_values,
    merge,
    outlined,
    present,
    same,
    shapes,
    unary,
)  # fmt: skip
from profiler.receptive.view import BOUNDED, DEPENDENT, EXACT

VALUES_SAY_WHICH = "values say which positions are read"


def _embedding(call: Call, fields: Fields) -> Result:
    """Each index becomes a vector that depends on it alone."""
    table, field = fields(call["weight"]), fields(call["indices"])
    parts = [] if field is None else [expanded_to(reshaped(field, (*field.shape, 1)), call.out)]
    if table is not None:
        parts.append(table.like(call.out, DEPENDENT, VALUES_SAY_WHICH))
    return [merged(parts, call.out) if parts else None]


def _embedding_bag(call: Call, fields: Fields) -> Result:
    """Bags of known places, one row each, become one vector; else any index may lie in any bag."""
    field = fields(call["indices"])
    if field is None:
        return drawn(VALUES_SAY_WHICH)(call, fields)
    out = call.out
    if len(field.layout) == 2:
        field = expanded_to(field.reduced([1], keep=True), out)
        return [field] + [None] * (len(call.outputs) - 1)
    return [field.like(out, BOUNDED, "bags of different sizes")] + [None] * (len(call.outputs) - 1)


def _one_hot(call: Call, field: TensorField) -> TensorField:
    return expanded_to(reshaped(field, (*field.shape, 1)), call.out)


# Lookups ------------------------------------------------------------------------------------------------------------


def named_fields(call: Call, fields: Fields, *names: str) -> list[TensorField | None]:
    """The fields of the arguments of these names, None for one that is no tensor or that the input does not reach."""
    return [fields(call[name]) if name in call and isinstance(call[name], torch.Tensor) else None for name in names]


def places_of(index: Any, fields: Fields, size: int) -> Places | None:  # noqa: ANN401  # a tensor
    """Known places along an axis of some size, none negative."""
    values = known_values(index, fields)
    if values is None or values.dtype.kind not in "iu":
        return None
    return values.astype(np.int64) % max(size, 1)


def _index_select(call: Call, fields: Fields) -> Result:
    field, chooser = fields(call["self"]), fields(call["index"])
    out = call.out
    axis = call["dim"] % max(len(out), 1)
    parts = [] if chooser is None else [outlined(reshaped(chooser, (prod(chooser.shape),)), out, [axis])]
    if field is not None:
        places = places_of(call["index"], fields, field.shape[axis])
        if places is None:
            parts.append(anywhere(field, axis, out[axis], DEPENDENT, VALUES_SAY_WHICH))
        else:
            parts.append(taken(field, axis, places))
    return [merged(parts, out) if parts else None]


def _index(call: Call, fields: Fields) -> Result:
    """`x[a, :, b]`: some axes are looked up, together where there are several."""
    field = fields(call["self"])
    found = [None if i is None else fields(i) for i in call["indices"]]
    if any(f is not None for f in found):
        return _chosen(call, fields)
    if field is None:
        return [None]
    known: list[tuple[int, Places]] = []
    axis = 0
    for index in call["indices"]:
        if index is None:
            axis += 1
            continue
        values = known_values(index, fields)
        if values is None:
            return _chosen(call, fields)
        if values.dtype.kind == "b":
            known += [(axis + n, places) for n, places in enumerate(np.nonzero(values))]
            axis += values.ndim
        else:
            known.append((axis, values.astype(np.int64) % max(field.shape[axis], 1)))
            axis += 1
    return [_looked_up(field, known, call.out)]


def _looked_up(field: TensorField, known: list[tuple[int, Places]], shape: tuple[int, ...]) -> TensorField:
    axes = [axis for axis, _ in known]
    broadcast = np.broadcast_shapes(*[places.shape for _, places in known])
    if len(known) == 1:
        axis, places = known[0]
        return reshaped(taken(field, axis, places), shape)
    together = axes == list(range(axes[0], axes[-1] + 1))
    apart = [tuple(n for n, size in enumerate(p.shape[::-1]) if size != 1) for _, p in known]
    if together and len({n for own in apart for n in own}) == sum(map(len, apart)) and apart == sorted(apart)[::-1]:
        for axis, places in known:  # as numpy.ix_: each axis on its own
            field = taken(field, axis, places)
        return reshaped(field, shape)
    field = paired(field, axes, [np.broadcast_to(p, broadcast) for _, p in known], broadcast)
    if together:
        rank = len(broadcast)
        rest = len(field.layout) - rank
        field = field.permuted([*range(rank, rank + axes[0]), *range(rank), *range(rank + axes[0], rank + rest)])
    return reshaped(field, shape)


def _chosen(call: Call, fields: Fields) -> Result:
    """A lookup whose places are computed: what the places see, and all along the axes that are looked up."""
    out = call.out
    axes: list[int] = []
    axis, first = 0, None
    for index in call["indices"]:
        if index is not None:
            first = axis if first is None else first
            count = index.dim() if index.dtype in (torch.bool, torch.uint8) else 1
            axes += range(axis, axis + count)
            axis += count
        else:
            axis += 1
    field = fields(call["self"])
    kept = [] if field is None else [n for n in range(len(field.layout)) if n not in axes]
    together = axes == list(range(axes[0], axes[-1] + 1))
    inner = len(out) - (call["self"].dim() - len(axes))  # axes of the places in the result
    start = first if together and first is not None else 0
    own = range(start, start + inner)
    parts = [
        outlined(f, out, list(own)[inner - len(f.layout) :])
        for i in call["indices"]
        if i is not None and (f := fields(i)) is not None and len(f.layout) <= inner and i.dtype is not torch.bool
    ]
    if field is not None:
        gone = field.uids(axes)
        sizes = field.sizes()
        moved = field.with_views(
            lambda v: v if gone.isdisjoint(v.atoms) else v.projected(gone, sizes).doubted(DEPENDENT, VALUES_SAY_WHICH)
        ).reduced(axes, keep=False)
        parts.append(outlined(moved, out, [n for n in range(len(out)) if n not in own][: len(kept)]))
    masks = [f for i in call["indices"] if i is not None and i.dtype is torch.bool and (f := fields(i)) is not None]
    parts += [f.like(out, DEPENDENT, VALUES_SAY_WHICH) for f in masks]
    return [merged(parts, out) if parts else None]


def _gather(call: Call, fields: Fields) -> Result:
    """`out[i, j] = x[index[i, j], j]`."""
    index = call["index"] if "index" in call else call["indices"]
    field, chooser = fields(call["self"]), fields(index)
    out, dim = call.out, call["dim"]
    if dim is None or field is None or len(field.layout) != len(out):
        return drawn(VALUES_SAY_WHICH)(call, fields) if field is not None else merge(call, fields)
    axis = dim % max(len(out), 1)
    parts = [] if chooser is None else [expanded_to(chooser, out)]
    for n, (old, new) in enumerate(zip(field.shape, out, strict=True)):
        if n != axis and new < old:
            field = sliced(field, n, 0, new)
    places = places_of(index, fields, field.shape[axis])
    line = None if places is None else np.moveaxis(places, axis, 0).reshape(places.shape[axis], -1)
    if line is not None and line.size and (line == line[:, :1]).all():
        parts.append(expanded_to(taken(field, axis, line[:, 0]), out))
    else:
        known = line is not None
        why = "looked up at places that differ from row to row" if known else VALUES_SAY_WHICH
        parts.append(expanded_to(anywhere(field, axis, out[axis], BOUNDED if known else DEPENDENT, why), out))
    return [merged(parts, out)]


def _take(call: Call, fields: Fields) -> Result:
    field = fields(call["self"])
    places = None if field is None else places_of(call["index"], fields, prod(field.shape))
    if field is None or places is None:
        return drawn(VALUES_SAY_WHICH)(call, fields)
    return [reshaped(taken(reshaped(field, (prod(field.shape),)), 0, places), call.out)]


def _ordered(call: Call, fields: Fields) -> Result:
    """Sorting and its kind along an axis: any position may come to any place, all of them decide."""
    field = fields(call.first)
    if field is None:
        return [None] * len(call.outputs)
    rank = len(field.layout)
    dim = call.get("dim")
    axis = (-1 if dim is None else dim) % max(rank, 1)
    if not rank:
        return [field] * len(call.outputs)
    keeps = len(call.out) == rank
    found = anywhere(field, axis, call.out[axis] if keeps else 1, DEPENDENT, "values say in which order")
    return [found if keeps else found.reduced([axis], keep=False)] * len(call.outputs)


# Writing ------------------------------------------------------------------------------------------------------------


def _searched(call: Call, fields: Fields) -> Result:
    """Between which of sorted constants each value lies."""
    found = named_fields(call, fields, "sorted_sequence", "boundaries")
    if any(f is not None for f in found):
        return drawn(VALUES_SAY_WHICH)(call, fields)
    return [None if not (p := present(call, fields)) else expanded_to(p[0], call.out)]


def _counted(call: Call, fields: Fields) -> Result:
    """Histograms: every bin depends on all values."""
    found = present(call, fields)
    return [merged([f.reduced(range(len(f.layout)), keep=True).like(s, EXACT) for f in found], s) if found else None
            for s in shapes(call)]  # fmt: skip


TABLE: dict[str, Rule] = {
    "aten.embedding": _embedding,
    "aten.one_hot": unary(_one_hot),
    **{f"aten.{name}": _embedding_bag for name in ("embedding_bag", "_embedding_bag")},
    "aten.index_select": _index_select,
    **{f"aten.{name}": _index for name in ("index", "_unsafe_index")},
    **{f"aten.{name}": _gather for name in ("gather", "take_along_dim")},
    "aten.take": _take,
    **{f"aten.{name}": _ordered for name in ("sort", "topk", "argsort", "msort", "kthvalue", "mode")},
    **{f"aten.{name}": drawn("values say how many there are")
       for name in ("nonzero", "nonzero_static", "masked_select", "_unique2", "unique_consecutive", "unique_dim")},
    "aten.multinomial": drawn("drawn at random"),
    **{f"aten.{name}": _searched for name in ("searchsorted", "bucketize")},
    **{f"aten.{name}": _counted for name in ("bincount", "histc")},
    "aten.rrelu": same,
}  # fmt: skip
