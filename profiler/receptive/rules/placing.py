"""Operators that write elements into places of another tensor: scatters, masked and indexed writes."""

from collections.abc import Sequence
from math import prod

import numpy as np

from profiler.aten.call import Call
from profiler.receptive.field import TensorField
from profiler.receptive.merge import merged
from profiler.receptive.pick import Places, anywhere, placed
from profiler.receptive.reshape import expanded_to, reshaped
from profiler.receptive.rules.base import (
    Fields,
    Result,
    Rule,
    drawn,
    known_values,
    merge,
)  # fmt: skip
from profiler.receptive.rules.selection import named_fields, places_of
from profiler.receptive.view import BOUNDED, DEPENDENT, MASKED


def filled(field: TensorField | None, shape: Sequence[int], like: TensorField) -> TensorField:
    """The field, or that of a constant."""
    return TensorField.blind(tuple(shape), like.extent) if field is None else field


def _placed(call: Call, fields: Fields, source: str, axis: int, places: Places, *, adds: bool = False) -> Result:
    base, value = named_fields(call, fields, "self", source)
    known = base if base is not None else value
    if known is None:
        return [None]
    out = call.out
    shape = (*out[:axis], len(places), *out[axis + 1 :])
    part = TensorField.blind(shape, known.extent) if value is None else expanded_to(reshaped_to(value, shape), shape)
    return [placed(filled(base, out, known), part, axis, places, adds=adds)]


def reshaped_to(value: TensorField, shape: Sequence[int]) -> TensorField:
    """A value written to a place of this size: as it is where it broadcasts, else the same elements in that size."""
    if prod(value.shape) == prod(shape):
        return reshaped(value, tuple(shape))
    return value


def _slice_scatter(call: Call, fields: Fields) -> Result:
    axis = call["dim"] % len(call.out)
    run = range(*slice(call["start"], call["end"], call["step"]).indices(call.out[axis]))
    return _placed(call, fields, "src", axis, np.array(run, dtype=np.int64))


def _select_scatter(call: Call, fields: Fields) -> Result:
    axis = call["dim"] % len(call.out)
    return _placed(call, fields, "src", axis, np.array([call["index"] % call.out[axis]]))


def _index_write(source: str, *, adds: bool = False) -> Rule:
    """index_copy, index_add, index_fill: whole slices to places along an axis."""

    def apply(call: Call, fields: Fields) -> Result:
        axis = call["dim"] % max(len(call.out), 1)
        places = places_of(call["index"], fields, call.out[axis] if call.out else 1)
        if places is None or not call.out:
            return _strewn(call, fields)
        return _placed(call, fields, source, axis, places.reshape(-1), adds=adds)

    return apply


def _index_put(call: Call, fields: Fields) -> Result:
    """`x[..., places] = v` along one axis; else anything may be written anywhere."""
    used = [n for n, i in enumerate(call["indices"]) if i is not None]
    if len(used) == 1:
        axis = used[0]
        index = call["indices"][axis]
        value = known_values(index, fields)
        if value is not None and value.ndim == 1:
            places = np.nonzero(value)[0] if value.dtype.kind == "b" else value.astype(np.int64) % call.out[axis]
            return _placed(call, fields, "values", axis, places, adds=bool(call.get("accumulate")))
    return _strewn(call, fields)


def _strewn(call: Call, fields: Fields) -> Result:
    """Written to places that values decide: any element may stay, or be any of what is written."""
    base = fields(call["self"])
    rest = [f for t in call.tensors if t is not call["self"] and (f := fields(t)) is not None]
    if not rest:
        return [None if base is None else base.doubted(BOUNDED, "part of it is overwritten with constants")]
    out = call.out
    written = [f.like(out, DEPENDENT, "values say where it is written") for f in rest]
    return [merged([base, *written] if base is not None else written, out)]


def _scattered(call: Call, fields: Fields) -> Result:
    """`out[index[i, j], j] = src[i, j]`: along one axis values decide, along the others everything keeps its place."""
    out = call.out
    axis = call["dim"] % max(len(out), 1)
    base, index, source = named_fields(call, fields, "self", "index", "src")
    parts = [] if base is None else [base]
    for field in (index, source):
        if field is None:
            continue
        sizes = zip(field.shape, out, strict=True)
        if any(own != whole for n, (own, whole) in enumerate(sizes) if n != axis):
            return _strewn(call, fields)
        parts.append(anywhere(field, axis, out[axis], DEPENDENT, "values say where it is written"))
    if index is None and source is None:
        return _strewn(call, fields)
    return [merged(parts, out)]


# Masks --------------------------------------------------------------------------------------------------------------


def _masked_fill(call: Call, fields: Fields) -> Result:
    """What a constant mask hides is not seen; a mask that depends on the input is seen itself."""
    field, mask = fields(call["self"]), fields(call["mask"])
    if field is None or mask is not None:
        return merge(call, fields)
    hides = known_values(call["mask"], fields)
    found = merge(call, fields)
    if hides is not None and not hides.any():
        return found
    if hides is not None and hides.all():
        return [None] * len(call.outputs)
    return [None if f is None else f.doubted(MASKED, "a mask hides part of it") for f in found]


def _where(call: Call, fields: Fields) -> Result:
    if "self" not in call:  # where(condition) alone: places of what is true
        return drawn("values say how many there are")(call, fields)
    condition = call["condition"]
    first, second = named_fields(call, fields, "self", "other")
    if fields(condition) is not None or (first is None and second is None):
        return merge(call, fields)
    out = call.out
    picks = known_values(condition, fields)
    if picks is not None and (picks.all() or not picks.any()):
        chosen = first if picks.all() else second
        return [None if chosen is None else expanded_to(chosen, out)]
    joined = merged([f for f in (first, second) if f is not None], out)
    return [joined.doubted(MASKED, "a mask hides part of it")]


TABLE: dict[str, Rule] = {
    "aten.slice_scatter": _slice_scatter,
    "aten.select_scatter": _select_scatter,
    "aten.diagonal_scatter": _strewn,
    "aten.index_copy": _index_write("source"),
    "aten.index_add": _index_write("source", adds=True),
    "aten.index_fill": _index_write("value"),
    **{f"aten.{name}": _index_put for name in ("index_put", "_unsafe_index_put", "_index_put_impl")},
    **{f"aten.{name}": _scattered for name in ("scatter", "scatter_add", "scatter_reduce")},
    **{f"aten.{name}": _strewn for name in ("masked_scatter", "put")},
    "aten.masked_fill": _masked_fill,
    "aten.where": _where,
}  # fmt: skip
