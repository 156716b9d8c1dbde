"""Operators that move data: reshapes, permutations, concatenation, slices, padding."""

from collections.abc import Sequence

from profiler.aten.call import Call, per_axis
from profiler.receptive.field import TensorField
from profiler.receptive.index_map import Border, shifted
from profiler.receptive.merge import concatenated
from profiler.receptive.reshape import expanded_to, reshaped
from profiler.receptive.rules.base import Fields, Rule, merge, unary


def _permute(call: Call, field: TensorField) -> TensorField:
    order = list(range(len(field.layout)))
    if "dims" in call:
        order = [d % len(order) for d in call["dims"]]
    elif "dim0" in call:
        a, b = call["dim0"], call["dim1"]
        order[a], order[b] = order[b], order[a]
    else:
        order.reverse()
    return field.permuted(order)


def _reshape(call: Call, field: TensorField) -> TensorField:
    return reshaped(field, call.out)


def _expand(call: Call, field: TensorField) -> TensorField:
    return expanded_to(field, call.out)


def _embedding(call: Call, fields: Fields) -> Sequence[TensorField | None]:
    """Each index becomes a vector that depends on it alone."""
    field = fields(call["indices"])
    return [None if field is None else expanded_to(reshaped(field, (*field.shape, 1)), call.out)]


def _concat(call: Call, fields: Fields) -> Sequence[TensorField | None]:
    tensors = [t for t in call["tensors"] if tuple(t.shape) != (0,)]
    axis = call["dim"] % len(call.out)
    present = [fields(t) for t in tensors]
    known = next((f for f in present if f is not None), None)
    if known is None:
        return [None]
    filled = [f or TensorField.blind(tuple(t.shape), known.extent) for f, t in zip(present, tensors, strict=True)]
    return [concatenated(filled, axis, call.out)]


def _slice(call: Call, field: TensorField) -> TensorField:
    axis = call["dim"] % len(field.layout)
    start, _, step = slice(call["start"], call["end"], call["step"]).indices(field.shape[axis])
    if call.out == field.shape:
        return field
    return field.cut(axis).moved(axis, shifted(start, step=step), call.out[axis])


def _pieces(call: Call, fields: Fields) -> Sequence[TensorField | None]:
    """Chunk, split and their kind: the outputs lie one after the other along an axis."""
    field = fields(call.first)
    if field is None:
        return [None] * len(call.outputs)
    axis = call["dim"] % len(field.layout)
    pieces, at = [], 0
    for out in call.outputs:
        pieces.append(field.cut(axis).moved(axis, shifted(at), out.shape[axis]))
        at += out.shape[axis]
    return pieces


def _unbind(call: Call, fields: Fields) -> Sequence[TensorField | None]:
    field = fields(call.first)
    if field is None:
        return [None] * len(call.outputs)
    axis = call["dim"] % len(field.layout)
    return [field.selected(axis, n) for n in range(len(call.outputs))]


def _select(call: Call, field: TensorField) -> TensorField:
    axis = call["dim"] % len(field.layout)
    return field.selected(axis, call["index"] % field.shape[axis])


_PADS: dict[str, Border] = {"constant": "drop", "replicate": "clamp", "reflect": "reflect", "circular": "wrap"}


def _pad(call: Call, field: TensorField) -> TensorField:
    pad = call["pad"]
    border = _PADS[call.get("mode") or "constant"]
    for n in range(len(pad) // 2):
        axis = len(field.layout) - 1 - n
        field = field.moved(axis, shifted(-pad[2 * n], border), call.out[axis])
    return field


def _roll(call: Call, field: TensorField) -> TensorField:
    if not call["dims"]:
        return TensorField.unknown(call.out, field.extent)
    for shift, dim in zip(per_axis(call["shifts"], 1), per_axis(call["dims"], 1), strict=True):
        axis = dim % len(field.layout)
        field = field.moved(axis, shifted(-shift, "wrap"), field.shape[axis])
    return field


def _flip(call: Call, field: TensorField) -> TensorField:
    for dim in call["dims"]:
        axis = dim % len(field.layout)
        size = field.shape[axis]
        field = field.moved(axis, shifted(size - 1, step=-1), size)
    return field


def _shuffle(call: Call, field: TensorField) -> TensorField:
    """Pixel shuffle: r * r channels become an r by r block of pixels."""
    r = call["upscale_factor"]
    *lead, c, h, w = field.shape
    n = len(lead)
    field = reshaped(field, (*lead, c // (r * r), r, r, h, w))
    order = [*range(n), n, n + 3, n + 1, n + 4, n + 2]
    return reshaped(field.permuted(order), call.out)


# Operators that take no more than size and type from a tensor: what they make depends on no input.
_CONSTANTS = (
    *("new_empty", "new_zeros", "new_ones", "new_full", "empty_like", "zeros_like", "ones_like", "full_like"),
    *("rand_like", "randn_like"),
)


def _constant(call: Call, _fields: Fields) -> Sequence[TensorField | None]:
    return [None] * len(call.outputs)


TABLE: dict[str, Rule] = {
    **{f"aten.{name}": _constant for name in _CONSTANTS},
    **{f"aten.{name}": unary(_permute) for name in ("permute", "transpose", "t", "numpy_T", "swapaxes")},
    **{f"aten.{name}": unary(_reshape) for name in ("view", "_unsafe_view", "reshape", "flatten", "unflatten")},
    **{f"aten.{name}": unary(_reshape) for name in ("squeeze", "unsqueeze", "view_as", "reshape_as", "ravel")},
    **{f"aten.{name}": unary(_expand) for name in ("expand", "expand_as", "broadcast_to")},
    "aten.embedding": _embedding,
    "aten.cat": _concat,
    "aten.slice": unary(_slice),
    "aten.select": unary(_select),
    "aten.unbind": _unbind,
    **{f"aten.{name}": _pieces for name in ("chunk", "split", "split_with_sizes", "tensor_split")},
    "aten.pad": unary(_pad),
    "aten.constant_pad_nd": unary(_pad),
    "aten.roll": unary(_roll),
    "aten.flip": unary(_flip),
    "aten.pixel_shuffle": unary(_shuffle),
    **{f"aten.{name}": merge for name in ("where", "masked_fill", "to", "_to_copy", "type_as", "addcmul", "lerp")},
}
