"""Operators that rearrange data: reshapes, permutations, concatenation, slices, padding, repetition."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import torch

from profiler.aten.call import Call, per_axis
from profiler.receptive.concat import concatenated
from profiler.receptive.field import TensorField
from profiler.receptive.merge import merged
from profiler.receptive.pick import paired, sliced
from profiler.receptive.reshape import expanded_to, reshaped
from profiler.receptive.rules.base import (
    Fields,
    Result,
    Rule,
    drawn,
    known_values,
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
    **{f"aten.{name}": unknown("a tensor is given another's storage") for name in ("set_", "resize_", "resize_as_")},
    "aten.copy_": _copied,
    "aten.fill_": _copied,
    **{f"aten.{name}": drawn("elements are arranged in a way that is not followed", BOUNDED)
       for name in ("diag", "diag_embed", "diagflat", "block_diag", "cartesian_prod", "combinations")},
}  # fmt: skip
