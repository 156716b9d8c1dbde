"""One table from ATen operator to what it does to receptive fields.

A rule takes the call and the field of each of its tensor arguments (None for parameters and constants, which the input
does not reach) and gives the field of each output. An operator without a rule makes its outputs unknown.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from profiler.aten import elementwise, find
from profiler.aten.call import Call, per_axis, tensors_of
from profiler.aten.convolution import geometry
from profiler.aten.elementwise import reduced_axes
from profiler.aten.pooling import axes_of
from profiler.aten.pooling import window as pool_window
from profiler.receptive.field import TensorField
from profiler.receptive.index_map import Border, IndexMap, adaptive, resampled, shifted, spread, window
from profiler.receptive.merge import concatenated, merged
from profiler.receptive.reshape import expanded_to, reshaped

Fields = Callable[[Any], TensorField | None]
Rule = Callable[[Call, Fields], Sequence[TensorField | None]]


def _present(call: Call, fields: Fields) -> list[TensorField]:
    return [f for f in (fields(t) for t in tensors_of((call.args, call.kwargs))) if f is not None]


def _merge(call: Call, fields: Fields) -> Sequence[TensorField | None]:
    present = _present(call, fields)
    return [merged(present, tuple(out.shape)) for out in call.outputs] if present else [None]


def _unary(rule: Callable[[Call, TensorField], TensorField]) -> Rule:
    """A rule for operators on one tensor: nothing is asked where the input does not reach it."""

    def apply(call: Call, fields: Fields) -> Sequence[TensorField | None]:
        field = fields(call.first)
        return [None if field is None else rule(call, field)] * len(call.outputs)

    return apply


def _windows(field: TensorField, maps: Sequence[IndexMap], outputs: Sequence[int]) -> TensorField:
    axes = len(maps)
    rank = len(field.layout)
    for axis, index_map, size in zip(range(rank - axes, rank), maps, outputs, strict=True):
        field = field.moved(axis, index_map, size)
    return field


def _convolution(call: Call, field: TensorField) -> TensorField:
    g = geometry(call)
    per = zip(g.kernel, g.stride, g.padding, g.dilation, strict=True)
    maps = [spread(k, s, p[0], d) if g.transposed else window(k, s, p[0], d) for k, s, p, d in per]
    channel = len(field.layout) - len(maps) - 1
    uneven = bool(field.uneven & field.uids([channel]))
    field = expanded_to(field.reduced([channel], keep=True), _with(field.shape, channel, call.out[channel]))
    if uneven and g.groups > 1:
        field = replace(field, uneven=field.uneven | field.uids([channel]))
    return _windows(field, maps, call.out[-len(maps) :])


def _with(shape: tuple[int, ...], axis: int, size: int) -> tuple[int, ...]:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _pool(call: Call, field: TensorField) -> TensorField:
    w = pool_window(call)
    maps = [window(k, s, p, d) for k, s, p, d in zip(w.kernel, w.stride, w.padding, w.dilation, strict=True)]
    return _windows(field, maps, call.out[-len(maps) :])


def _adaptive_pool(call: Call, field: TensorField) -> TensorField:
    axes = axes_of(call)
    sizes = list(zip(field.shape[-axes:], call.out[-axes:], strict=True))
    for n, (inputs, outputs) in enumerate(sizes):
        axis = len(field.layout) - axes + n
        if outputs == 1 and inputs > 1:  # a global pool: everything is joined
            field = field.reduced([axis], keep=True)
        else:
            field = field.moved(axis, adaptive(inputs, outputs), outputs)
    return field


_MODES = {"nearest": "nearest", "_nearest_exact": "nearest-exact", "cubic": "cubic"}


def _interpolation(call: Call, field: TensorField) -> TensorField:
    mode = next((m for key, m in _MODES.items() if key in call.packet), "linear")
    if "_nearest_exact" in call.packet:
        mode = "nearest-exact"
    align = bool(call.get("align_corners"))
    axes = call.first.dim() - 2
    scales = call.get("scale_factors")
    maps = []
    for n in range(axes):
        inputs, outputs = field.shape[n + 2], call.out[n + 2]
        if align:
            ratio = Fraction(inputs - 1, outputs - 1) if outputs > 1 else Fraction(0)
        elif scales is not None and scales[n]:
            ratio = 1 / Fraction(scales[n]).limit_denominator(1 << 16)
        else:
            ratio = Fraction(inputs, outputs)
        maps.append(resampled(outputs, ratio, mode, align_corners=align))
    return _windows(field, maps, call.out[2:])


def _linear(call: Call, field: TensorField) -> TensorField:
    return expanded_to(field.reduced([len(field.layout) - 1], keep=True), call.out)


def _matmul(call: Call, fields: Fields) -> Sequence[TensorField | None]:
    """A product with a constant mixes one axis; a product of two activations joins what their axes see."""
    operands = tensors_of(call.args)[-2:]
    left, right = fields(operands[0]), fields(operands[1])
    if left is None and right is None:
        return [None]
    rank = len(call.out)
    if left is not None and right is None and operands[0].dim() >= 2 and rank == operands[0].dim():
        return [expanded_to(left.reduced([rank - 1], keep=True), call.out)]
    if min(operands[0].dim(), operands[1].dim()) < 2:
        return [TensorField.unknown(call.out, (left or right).extent)]  # type: ignore[union-attr]  # one is there
    parts = []
    if left is not None:
        parts.append(left.reduced([operands[0].dim() - 1], keep=True))
    if right is not None:
        parts.append(right.reduced([operands[1].dim() - 2], keep=True))
    return [merged(parts, call.out)]


def _attention(call: Call, fields: Fields) -> Sequence[TensorField | None]:
    """Every query sees all keys and values; locally, its own position."""
    query, key, value = (fields(call[name]) for name in ("query", "key", "value"))
    present = [f for f in (query, key, value) if f is not None]
    if not present:
        return [None]
    rank = len(call.out)
    sides = [f.reduced([rank - 2, rank - 1], keep=True) for f in (key, value) if f]
    if query is None:
        return [merged(sides, call.out)]
    own = query.reduced([rank - 1], keep=True)
    joined = merged([own, *sides], call.out)
    return [replace(joined, local=merged([own], call.out).local) if joined.layout[:-1] == own.layout[:-1] else joined]


def _recurrence(call: Call, fields: Fields) -> Sequence[TensorField | None]:
    field = fields(call["input"]) if "input" in call else None
    if field is None or len(field.layout) != 3:
        present = _present(call, fields)
        return [TensorField.unknown(tuple(o.shape), present[0].extent) if present else None for o in call.outputs]
    steps = 1 if call["batch_first"] else 0
    out = expanded_to(field.reduced([2], keep=True), call.out)
    out = out.running(steps, both_ways=bool(call["bidirectional"]))
    final = out.selected(steps, out.shape[steps] - 1)
    final = reshaped(final, (1, *final.shape))
    return [out, *(expanded_to(final, tuple(state.shape)) for state in call.outputs[1:])]


def _cumulative(call: Call, field: TensorField) -> TensorField:
    return field.running(call["dim"] % len(field.layout), both_ways=False)


def _norm(axes: Callable[[Call], Sequence[int]]) -> Rule:
    """Statistics over some axes: every position along them comes to depend on all, through the statistics alone."""
    return _unary(lambda call, field: field.mixed(axes(call)))


def _batch_norm_axes(call: Call) -> Sequence[int]:
    trains = call["training"] or call["running_mean"] is None
    return [a for a in range(call.first.dim()) if a != 1] if trains else []


def _reduce(call: Call, field: TensorField) -> TensorField:
    keep = bool(call.get("keepdim"))
    return field.reduced(reduced_axes(call), keep=keep)


def _softmax(call: Call, field: TensorField) -> TensorField:
    return field.mixed([call["dim"]])


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


RULES: dict[str, Rule] = {
    **{f"aten.{name}{n}d": _unary(_convolution) for name in ("conv", "conv_transpose") for n in (1, 2, 3)},
    **{f"aten.{name}{n}d": _unary(_pool) for name in ("max_pool", "avg_pool") for n in (1, 2, 3)},
    **{f"aten.max_pool{n}d_with_indices": _unary(_pool) for n in (1, 2, 3)},
    **{f"aten.adaptive_{name}_pool{n}d": _unary(_adaptive_pool) for name in ("avg", "max") for n in (1, 2, 3)},
    **{name: _unary(_interpolation) for name in elementwise.TABLE if "upsample" in name},
    "aten.linear": _unary(_linear),
    "aten.matmul": _matmul,
    "aten.mm": _matmul,
    "aten.bmm": _matmul,
    "aten.addmm": _matmul,
    "aten.baddbmm": _matmul,
    "aten.scaled_dot_product_attention": _attention,
    **{f"aten.{name}": _recurrence for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
    "aten.cumsum": _unary(_cumulative),
    "aten.batch_norm": _norm(_batch_norm_axes),
    "aten.instance_norm": _norm(lambda call: range(2, call.first.dim())),
    "aten.group_norm": _norm(lambda call: range(1, call.first.dim())),
    "aten.layer_norm": _norm(lambda call: range(-len(call["normalized_shape"]), 0)),
    "aten.rms_norm": _norm(lambda call: range(-len(call["normalized_shape"]), 0)),
    **{f"aten.{name}": _unary(_softmax) for name in ("softmax", "log_softmax", "_softmax", "_log_softmax")},
    **{f"aten.{name}": _unary(_reduce) for name in ("sum", "mean", "amax", "amin", "max", "min", "var", "std")},
    **{f"aten.{name}": _unary(_reduce) for name in ("argmax", "argmin", "any", "all")},
    **{f"aten.{name}": _unary(_permute) for name in ("permute", "transpose", "t", "numpy_T", "swapaxes")},
    **{f"aten.{name}": _unary(_reshape) for name in ("view", "_unsafe_view", "reshape", "flatten", "unflatten")},
    **{f"aten.{name}": _unary(_reshape) for name in ("squeeze", "unsqueeze", "view_as", "reshape_as", "ravel")},
    **{f"aten.{name}": _unary(_expand) for name in ("expand", "expand_as", "broadcast_to")},
    "aten.cat": _concat,
    "aten.slice": _unary(_slice),
    "aten.select": _unary(_select),
    "aten.unbind": _unbind,
    **{f"aten.{name}": _pieces for name in ("chunk", "split", "split_with_sizes", "tensor_split")},
    "aten.pad": _unary(_pad),
    "aten.constant_pad_nd": _unary(_pad),
    "aten.roll": _unary(_roll),
    "aten.flip": _unary(_flip),
    "aten.pixel_shuffle": _unary(_shuffle),
    **{f"aten.{name}": _merge for name in ("where", "masked_fill", "to", "_to_copy", "type_as", "addcmul", "lerp")},
}

_POINTWISE = ("Element by element", "Activations")


def output_fields(call: Call, fields: Fields) -> Sequence[TensorField | None]:
    """The field of each output of a call.

    Args:
        call: the operator call, with its outputs.
        fields: from a tensor to its field, None for one that the input does not reach.
    """
    present = _present(call, fields)
    if not present:
        return [None] * len(call.outputs)
    packet = call.packet
    rule = RULES.get(packet) or RULES.get(packet.rstrip("_"))
    if rule is None:
        operator = find(packet)
        pointwise = operator is not None and (operator.formula in _POINTWISE or operator.op == "copy")
        rule = _merge if pointwise else None
    if rule is None:
        return [TensorField.unknown(tuple(out.shape), present[0].extent) for out in call.outputs]
    return rule(call, fields)


__all__ = ["RULES", "output_fields"]
