"""Operators that rearrange data: reshapes, permutations, concatenation, slices, padding, repetition."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import torch

from profiler.aten.call import Call, per_axis
from profiler.receptive.field import TensorField, new_atom
from profiler.receptive.index_map import BORDERS, Border, shifted
from profiler.receptive.merge import concatenated, merged
from profiler.receptive.pick import paired, sliced, taken
from profiler.receptive.reshape import expanded_to, reshaped
from profiler.receptive.rules.base import (
    Fields,
    Result,
    Rule,
    drawn,
    known_values,
    merge,
    nothing,
    same,
    unary,
    unknown,
)
from profiler.receptive.view import BOUNDED, MASKED

# Order of axes ------------------------------------------------------------------------------------------------------


def _permute(call: Call, field: TensorField) -> TensorField:
    order = list(range(len(field.layout)))
    if "dims" in call:
        order = [d % len(order) for d in call["dims"]]
    elif "source" in call:
        return field.permuted(_moved(call, len(order)))
    else:
        a, b = next((call[x], call[y]) for x, y in (("dim0", "dim1"), ("axis0", "axis1")) if x in call)
        order[a], order[b] = order[b], order[a]
    return field.permuted(order)


def _moved(call: Call, rank: int) -> list[int]:
    source, destination = ([d % rank for d in per_axis(call[name], 1)] for name in ("source", "destination"))
    to = dict(zip(destination, source, strict=True))
    rest = iter(axis for axis in range(rank) if axis not in source)
    return [to[axis] if axis in to else next(rest) for axis in range(rank)]


def _reversed(_call: Call, field: TensorField) -> TensorField:
    return field.permuted(range(len(field.layout) - 1, -1, -1))


def _last_two(_call: Call, field: TensorField) -> TensorField:
    rank = len(field.layout)
    return field.permuted([*range(rank - 2), rank - 1, rank - 2])


# Sizes --------------------------------------------------------------------------------------------------------------


def _reshape(call: Call, field: TensorField) -> TensorField:
    return reshaped(field, call.out)


def _reshape_each(call: Call, fields: Fields) -> Result:
    """One tensor or a list of them, each on its own."""
    pairs = zip(call.tensors, call.outputs, strict=True)
    return [None if (f := fields(t)) is None else reshaped(f, tuple(out.shape)) for t, out in pairs]


def _expand(call: Call, field: TensorField) -> TensorField:
    return expanded_to(field, call.out)


def _expand_each(call: Call, fields: Fields) -> Result:
    pairs = zip(call.tensors, call.outputs, strict=True)
    return [None if (f := fields(t)) is None else expanded_to(f, tuple(out.shape)) for t, out in pairs]


def _grid(call: Call, fields: Fields) -> Result:
    """Meshgrid: vector n varies along axis n alone; with indexing "xy" the first two change places."""
    rank = len(call.outputs)
    order = list(range(rank))
    if call.get("indexing") == "xy" and rank > 1:
        order[:2] = 1, 0
    found: list[TensorField | None] = []
    for axis, tensor, out in zip(order, call.tensors, call.outputs, strict=True):
        field = fields(tensor)
        own = tuple(prod(tensor.shape) if n == axis else 1 for n in range(rank))
        found.append(None if field is None else expanded_to(reshaped(field, own), tuple(out.shape)))
    return found


def _as_strided(call: Call, field: TensorField) -> TensorField:
    """Where it is a reshape of a contiguous tensor it is treated as one."""
    first = call.first
    size = tuple(call["size"])
    plain = list(call["stride"]) == list(torch.empty(size, device="meta").stride())
    if plain and first.is_contiguous() and prod(size) == first.numel() and not call["storage_offset"]:
        return reshaped(field, size)
    return field.like(size, BOUNDED, "as_strided rearranges in a way that is not followed")


def _two_parts(call: Call, field: TensorField) -> TensorField:
    """A complex number as two real ones, in a new last axis."""
    return expanded_to(reshaped(field, (*field.shape, 1)), call.out)


def _one_number(_call: Call, field: TensorField) -> TensorField:
    return field.reduced([-1], keep=False)


# One after the other ------------------------------------------------------------------------------------------------


def joined(
    call: Call, fields: Fields, tensors: Sequence[Any], axis: int, shape: Callable[[Any], Sequence[int]]
) -> Result:
    """Tensors, each first brought to the size `shape` gives, one after the other along `axis`."""
    found = [fields(t) for t in tensors]
    known = next((f for f in found if f is not None), None)
    if known is None:
        return [None]
    parts = [
        TensorField.blind(tuple(shape(t)), known.extent) if f is None else reshaped(f, tuple(shape(t)))
        for f, t in zip(found, tensors, strict=True)
    ]
    return [parts[0] if len(parts) == 1 else concatenated(parts, axis % len(call.out), call.out)]


def _concat(call: Call, fields: Fields) -> Result:
    tensors = call.tensors
    full = [t for t in tensors if t.dim() > 1 or t.shape[0]]
    dim = call["dim"] if "dim" in call else call["axis"]
    return joined(call, fields, full, dim, lambda t: t.shape) if full else [None]


def _stack(call: Call, fields: Fields) -> Result:
    axis = call["dim"] % len(call.out)
    return joined(call, fields, call.tensors, axis, lambda t: (*t.shape[:axis], 1, *t.shape[axis:]))


def _side_by_side(axis: int) -> Rule:
    """hstack, vstack, dstack, column_stack: the tensors get the result's rank first."""

    def apply(call: Call, fields: Fields) -> Result:
        rank = len(call.out)
        along = 0 if rank == 1 else axis

        def shape(tensor: Any) -> Sequence[int]:  # noqa: ANN401  # a tensor
            own = list(tensor.shape)
            sizes = list(call.out)
            sizes[along] = prod(own) // max(prod(n for a, n in enumerate(call.out) if a != along), 1)
            return sizes

        return joined(call, fields, call.tensors, along, shape)

    return apply


# Parts --------------------------------------------------------------------------------------------------------------


def _slice(call: Call, field: TensorField) -> TensorField:
    out = tuple(call.outputs[0].shape)
    if out == field.shape and call["step"] == 1:
        return field
    axis = call["dim"] % len(field.layout)
    start, _, step = slice(call["start"], call["end"], call["step"]).indices(field.shape[axis])
    return sliced(field, axis, start, out[axis], step)


def _narrow(call: Call, fields: Fields) -> Result:
    field, start = fields(call.first), call["start"]
    if field is None:
        return [None]
    axis = call["dim"] % len(field.layout)
    if isinstance(start, torch.Tensor):
        found = known_values(start, fields)
        if found is None:
            return drawn("where the slice begins is computed")(call, fields)
        start = int(found)
    return [sliced(field, axis, start % max(field.shape[axis], 1), call["length"])]


def _pieces(axis: int | None = None) -> Rule:
    """Chunk, split and their kind: the outputs lie one after the other along an axis."""

    def apply(call: Call, fields: Fields) -> Result:
        field = fields(call.first)
        if field is None:
            return [None] * len(call.outputs)
        along = call["dim"] % len(field.layout) if axis is None else min(axis, len(field.layout) - 1)
        pieces, at = [], 0
        for out in call.outputs:
            size = out.shape[along]
            pieces.append(sliced(field, along, at, size))
            at += size
        return pieces

    return apply


def _unbind(call: Call, fields: Fields) -> Result:
    field = fields(call.first)
    if field is None:
        return [None] * len(call.outputs)
    axis = call["dim"] % len(field.layout)
    return [field.selected(axis, n) for n in range(len(call.outputs))]


def _select(call: Call, field: TensorField) -> TensorField:
    axis = call["dim"] % len(field.layout)
    return field.selected(axis, call["index"] % field.shape[axis])


def _diagonal(call: Call, field: TensorField) -> TensorField:
    """Where two axes run together: it becomes the last axis."""
    rank = len(field.layout)
    a, b = (call[name] % rank for name in ("dim1", "dim2"))
    offset, length = call["offset"], call.out[-1]
    run = np.arange(length)
    field = paired(field, [a, b], [run + max(-offset, 0), run + max(offset, 0)], (length,))
    return field.permuted([*range(1, len(field.layout)), 0])


def _triangle(_call: Call, field: TensorField) -> TensorField:
    """Part of a matrix is set to zero; of tensors that differ along it only a bound is left."""
    rows = field.uids((-2, -1))
    return field.with_views(
        lambda v: v if rows.isdisjoint(v.atoms) else v.doubted(MASKED, "a triangle of it is set to zero")
    )


# Borders and order --------------------------------------------------------------------------------------------------


def _pad(border: Border | None = None) -> Rule:
    def rule(call: Call, field: TensorField) -> TensorField:
        pad = call["pad"] if "pad" in call else call["padding"]
        mode = border or BORDERS[call.get("mode") or "constant"]
        for n in range(len(pad) // 2):
            axis = len(field.layout) - 1 - n
            if pad[2 * n] < 0 or pad[2 * n + 1] < 0:
                field = field.cut(axis)
            field = field.moved(axis, shifted(-pad[2 * n], mode), call.out[axis])
        return field

    return unary(rule)


def _roll(call: Call, field: TensorField) -> TensorField:
    if not call["dims"]:
        flat = reshaped(field, (prod(field.shape),))
        (shift,) = per_axis(call["shifts"], 1)
        return reshaped(flat.moved(0, shifted(-shift, "wrap"), prod(field.shape)), call.out)
    for shift, dim in zip(per_axis(call["shifts"], 1), per_axis(call["dims"], 1), strict=True):
        axis = dim % len(field.layout)
        field = field.moved(axis, shifted(-shift, "wrap"), field.shape[axis])
    return field


def _flipped(field: TensorField, axes: Sequence[int]) -> TensorField:
    for axis in axes:
        size = field.shape[axis]
        field = field.moved(axis % len(field.layout), shifted(size - 1, step=-1), size)
    return field


def _rotate(call: Call, field: TensorField) -> TensorField:
    a, b = (d % len(field.layout) for d in call["dims"])
    order = list(range(len(field.layout)))
    for _ in range(call["k"] % 4):
        order[a], order[b] = b, a
        field = _flipped(field.permuted(order), [a])
        order[a], order[b] = a, b
    return field


def _repeat(call: Call, field: TensorField) -> TensorField:
    """Each axis again and again: a new outer factor along which all is the same."""
    rank = len(call.out)
    field = reshaped(field, (*(1,) * (rank - len(field.layout)), *field.shape))
    shape: list[int] = []
    layout = list(field.layout)
    for axis, (old, new) in enumerate(zip(field.shape, call.out, strict=True)):
        shape.append(new)
        if old != new and old:
            layout[axis] = (new_atom(new // old), *layout[axis])
    return TensorField(tuple(layout), field.views, field.uneven, tuple(shape))


def _repeat_interleave(call: Call, fields: Fields) -> Result:
    """Each position several times in a row: a new inner factor; or as often as known numbers say."""
    if "self" not in call:
        return [None if fields(call.first) is None else drawn("values say how often")(call, fields)[0]]
    field = fields(call["self"])
    if field is None:
        return merge(call, fields)
    if call["dim"] is None:
        field = reshaped(field, (prod(field.shape),))
    axis = (call["dim"] or 0) % len(field.layout)
    often = call["repeats"]
    if isinstance(often, torch.Tensor):
        values = known_values(often, fields)
        if values is None:
            return drawn("values say how often each position is repeated")(call, fields)
        return [taken(field, axis, np.repeat(np.arange(field.shape[axis]), values))]
    atoms = (*field.layout[axis], new_atom(often))
    return [field.with_layout((*field.layout[:axis], atoms, *field.layout[axis + 1 :]))]


# Channels -----------------------------------------------------------------------------------------------------------


def _pixel_shuffle(call: Call, field: TensorField) -> TensorField:
    """R * r channels become an r by r block of pixels."""
    r = call["upscale_factor"]
    *lead, c, h, w = field.shape
    n = len(lead)
    field = reshaped(field, (*lead, c // (r * r), r, r, h, w))
    return reshaped(field.permuted([*range(n), n, n + 3, n + 1, n + 4, n + 2]), call.out)


def _pixel_unshuffle(call: Call, field: TensorField) -> TensorField:
    r = call["downscale_factor"]
    *lead, c, h, w = field.shape
    n = len(lead)
    field = reshaped(field, (*lead, c, h // r, r, w // r, r))
    return reshaped(field.permuted([*range(n), n, n + 2, n + 4, n + 1, n + 3]), call.out)


def _channel_shuffle(call: Call, field: TensorField) -> TensorField:
    g = call["groups"]
    b, c, *rest = field.shape
    field = reshaped(field, (b, g, c // g, *rest))
    return reshaped(field.permuted([0, 2, 1, *range(3, len(field.layout))]), call.out)


def _copied(call: Call, fields: Fields) -> Result:
    """`a.copy_(b)` and `a.fill_(b)`: what was there is gone."""
    source = fields(call.tensors[1]) if len(call.tensors) > 1 else None
    return [None if source is None else merged([source], tuple(out.shape)) for out in call.outputs]


_CONSTANTS = (
    *("empty", "zeros", "ones", "full", "rand", "randn"),
    *(f"{name}_like" for name in ("empty", "zeros", "ones", "full", "rand", "randn", "randint")),
    *(f"new_{name}" for name in ("empty", "zeros", "ones", "full", "empty_strided")),
    *("empty_strided", "arange", "linspace", "logspace", "eye", "scalar_tensor", "tensor", "randint", "randperm"),
    *("tril_indices", "triu_indices", "zero_", "normal_", "uniform_", "exponential_", "cauchy_", "log_normal_"),
    *("geometric_", "random_", "numel", "item", "_local_scalar_dense", "_assert_async", "_assert_tensor_metadata"),
    *("hann_window", "hamming_window", "bartlett_window", "blackman_window", "kaiser_window", "range"),
)
_COPIES = (
    *("contiguous", "clone", "detach", "alias", "lift_fresh", "lift_fresh_copy", "requires_grad_", "to", "_to_copy"),
    *("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "native_dropout", "type_as"),
    *("_conj", "conj", "conj_physical", "resolve_conj", "resolve_neg", "real", "imag", "bernoulli", "poisson"),
    *("view_as_real_copy", "_reshape_alias_copy", "positive", "ravel_copy"),
)
_RESHAPES = (
    *("view", "_unsafe_view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as"),
    *("ravel", "_reshape_alias", "unsqueeze_copy", "view_copy"),
)

TABLE: dict[str, Rule] = {
    **{f"aten.{name}": nothing for name in _CONSTANTS},
    **{f"aten.{name}": same for name in _COPIES},
    **{f"aten.{name}": unary(_reshape) for name in _RESHAPES},
    **{f"aten.{name}": unary(_permute)
       for name in ("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis")},
    **{f"aten.{name}": unary(_reversed) for name in ("t", "numpy_T")},
    **{f"aten.{name}": unary(_last_two) for name in ("mT", "mH", "adjoint", "matrix_H")},
    **{f"aten.{name}": unary(_expand) for name in ("expand", "expand_as", "broadcast_to")},
    **{f"aten.{name}": _reshape_each for name in ("atleast_1d", "atleast_2d", "atleast_3d")},
    "aten.broadcast_tensors": _expand_each,
    "aten.meshgrid": _grid,
    "aten.as_strided": unary(_as_strided),
    "aten.view_as_real": unary(_two_parts),
    "aten.view_as_complex": unary(_one_number),
    **{f"aten.{name}": _concat for name in ("cat", "concat", "concatenate")},
    "aten.stack": _stack,
    "aten.hstack": _side_by_side(1),
    "aten.vstack": _side_by_side(0),
    "aten.dstack": _side_by_side(2),
    "aten.column_stack": _side_by_side(1),
    "aten.slice": unary(_slice),
    "aten.narrow": _narrow,
    "aten.select": unary(_select),
    "aten.unbind": _unbind,
    **{
        f"aten.{name}": _pieces()
        for name in ("chunk", "split", "split_with_sizes", "tensor_split", "unsafe_chunk", "unsafe_split")
    },
    "aten.hsplit": _pieces(1),
    "aten.vsplit": _pieces(0),
    "aten.dsplit": _pieces(2),
    "aten.diagonal": unary(_diagonal),
    "aten.tril": unary(_triangle),
    "aten.triu": unary(_triangle),
    "aten.pad": _pad(),
    "aten.constant_pad_nd": _pad("drop"),
    "aten._pad_circular": _pad("wrap"),
    **{f"aten.reflection_pad{n}d": _pad("reflect") for n in (1, 2, 3)},
    **{f"aten.replication_pad{n}d": _pad("clamp") for n in (1, 2, 3)},
    "aten.roll": unary(_roll),
    "aten.flip": unary(lambda call, field: _flipped(field, call["dims"])),
    "aten.fliplr": unary(lambda _, field: _flipped(field, [1])),
    "aten.flipud": unary(lambda _, field: _flipped(field, [0])),
    "aten.rot90": unary(_rotate),
    "aten.repeat": unary(_repeat),
    "aten.tile": unary(_repeat),
    "aten.repeat_interleave": _repeat_interleave,
    "aten.pixel_shuffle": unary(_pixel_shuffle),
    "aten.pixel_unshuffle": unary(_pixel_unshuffle),
    "aten.channel_shuffle": unary(_channel_shuffle),
    "aten.native_channel_shuffle": unary(_channel_shuffle),
    **{f"aten.{name}": unknown("a tensor is given another's storage") for name in ("set_", "resize_", "resize_as_")},
    "aten.copy_": _copied,
    "aten.fill_": _copied,
    **{f"aten.{name}": drawn("elements are arranged in a way that is not followed", BOUNDED)
       for name in ("diag", "diag_embed", "diagflat", "block_diag", "cartesian_prod", "combinations")},
}  # fmt: skip
