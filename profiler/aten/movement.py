"""Operators that are free by convention: they allocate, move, reinterpret or look up, and compute nothing.

Where the size that comes out follows from a documented rule it is stated, so that every size can be checked.
"""

import torch

from profiler.aten.allocate import FLOATS, channels, empty, first_type, like_first, pointwise, rows
from profiler.aten.call import Call, Operator, Shape
from profiler.formulas.dense import broadcast_shape
from profiler.formulas.movement import (
    concat_shape,
    flatten_shape,
    index_shape,
    pad_shape,
    permute_shape,
    reshape_shape,
    slice_length,
)


def _same(call: Call) -> Shape:
    return tuple(call.first.shape)


def _transposed(call: Call) -> Shape:
    order = list(range(call.first.dim()))
    a, b = call["dim0"], call["dim1"]
    order[a], order[b] = order[b], order[a]
    return permute_shape(tuple(call.first.shape), order)


def _sliced(call: Call) -> Shape:
    x, axis = list(call.shape("self")), call["dim"]
    x[axis] = slice_length(x[axis], call["start"], call["end"], call["step"])
    return tuple(x)


def _selected(call: Call) -> Shape:
    x, axis = call.shape("self"), call["dim"] % call.first.dim()
    return x[:axis] + x[axis + 1 :]


def _unsqueezed(call: Call) -> Shape:
    x = call.shape("self")
    axis = call["dim"] % (len(x) + 1)
    return (*x[:axis], 1, *x[axis:])


def _reshape(name: str) -> Operator:
    return Operator("reshape", "Data movement", None, lambda call: reshape_shape(tuple(call.first.shape), call[name]))


def _movement(op: str = "movement") -> Operator:
    return Operator(op, "Data movement", None)


def _cloned(call: Call, shape: Shape) -> torch.Tensor | None:
    asked = call["memory_format"]
    if asked is torch.contiguous_format:
        return rows(call, shape)
    return like_first(call, shape) if asked in (None, torch.preserve_format) else None


def _dropped(call: Call, shape: Shape) -> torch.Tensor | None:
    """In evaluation the very same tensor comes out."""
    return like_first(call, shape) if call["train"] and call["p"] > 0 else call.first


def _concat_shape(call: Call) -> Shape | None:
    shapes = [tuple(t.shape) for t in call["tensors"]]
    return concat_shape(shapes, call["dim"])


def _concatenated(call: Call, shape: Shape) -> torch.Tensor | None:
    tensors = call.tensors
    last = len(shape) == 4 and not any(t.is_contiguous() for t in tensors)
    if last and all(t.is_contiguous(memory_format=torch.channels_last) for t in tensors):
        return channels(call, shape)
    return rows(call, shape)


def _padded(call: Call, shape: Shape) -> torch.Tensor | None:
    if min(shape) < 1:
        return None
    return rows(call, shape) if call["mode"] == "circular" else channels(call, shape)


def _shuffled(call: Call) -> Shape | None:
    *lead, c, h, w = call.shape("self")
    r = call["upscale_factor"]
    return (*lead, c // (r * r), h * r, w * r) if c % (r * r) == 0 else None


def _repeated(call: Call) -> Shape | None:
    """Each entry of an axis as often as it is told, where that is known; without an axis, of the flattened tensor."""
    repeats = call.get("repeats")
    if "self" not in call or (isinstance(repeats, torch.Tensor) and repeats.is_meta):
        return None
    shape, axis = call.shape("self"), call["dim"]
    if axis is None:
        shape, axis = (call["self"].numel(),), 0
    size = shape[axis]
    if isinstance(repeats, torch.Tensor):
        total = int(repeats.sum()) * (size if repeats.numel() == 1 else 1)
    else:
        total = int(repeats) * size
    axis %= len(shape)
    return (*shape[:axis], total, *shape[axis + 1 :])


def _looked_up(call: Call, shape: Shape) -> torch.Tensor | None:
    return empty(shape, call["weight"].dtype)


def _embedded(call: Call) -> Shape:
    return (*call.shape("indices"), call.shape("weight")[1])


def _filled(call: Call) -> Shape | None:
    x, mask = call.shape("self"), call.shape("mask")
    try:
        return x if broadcast_shape(x, mask) == x else None
    except ValueError:
        return None


def _chosen_shape(call: Call) -> Shape | None:
    if "self" not in call:
        return None
    try:
        return broadcast_shape(*(tuple(t.shape) for t in call.tensors))
    except ValueError:
        return None


def _chosen(call: Call, shape: Shape) -> torch.Tensor | None:
    values = [v for v in (call["self"], call["other"]) if isinstance(v, torch.Tensor)]
    same = values and all(v.dtype is values[0].dtype for v in values) and values[0].dtype in FLOATS
    return pointwise(call, shape, values[0].dtype) if same else None


def _indexed_shape(call: Call) -> Shape | None:
    indices: list[tuple[Shape, int] | None] = []
    for index in call["indices"]:
        masks = index is not None and index.dtype in (torch.bool, torch.uint8)
        if masks and index.is_meta:
            return None
        # A mask is as long as it has true entries, and takes as many axes as it has.
        indices.append(
            index if index is None else ((int(index.sum()),), index.dim()) if masks else (tuple(index.shape), 1)
        )
    return index_shape(call.shape("self"), indices)


SAME = Operator("copy", "Data movement", None, _same)

_SAME = (
    *("contiguous", "detach", "alias", "feature_dropout", "alpha_dropout", "native_dropout", "lift_fresh"),
    *("lift_fresh_copy", "fill_", "zero_", "copy_", "requires_grad_", "flip", "channel_shuffle"),
)
# Made from nothing, or drawn.
_CREATED = (
    "empty", "empty_like", "empty_strided", "new_empty", "zeros", "zeros_like", "new_zeros", "ones", "ones_like",
    "new_ones", "full", "full_like", "new_full", "arange", "linspace", "eye", "scalar_tensor", "tensor", "rand",
    "randn", "rand_like", "randn_like", "bernoulli", "bernoulli_", "normal_", "uniform_", "complex", "multinomial",
    "randint", "randint_like", "randperm", "triu_indices", "tril_indices", "exponential_", "cauchy_", "log_normal_",
    "geometric_", "random_", "poisson",
)  # fmt: skip
# Truth values and integers.
_TESTED = (
    "_local_scalar_dense", "item", "logical_and", "logical_or", "logical_not", "bitwise_and", "bitwise_or",
    "bitwise_not", "isnan", "isinf", "any", "all", "numel", "__and__", "__or__", "__xor__", "__lshift__",
    "__rshift__", "logical_xor", "bitwise_xor", "isfinite", "isposinf", "isneginf", "isclose", "allclose", "equal",
    "is_nonzero", "_assert_async", "_assert_tensor_metadata", "_is_all_true", "_is_any_true",
)  # fmt: skip
# Looked up, ordered, or put in other places.
_PICKED = (
    "index_select", "gather", "take_along_dim", "one_hot", "scatter", "index_put", "sort", "topk", "argsort",
    "nonzero", "masked_scatter", "masked_select", "bucketize", "searchsorted", "_unique2", "unique_consecutive",
    "bincount", "histc", "index_copy", "index_fill", "select_scatter", "slice_scatter", "diagonal_scatter", "take",
    "max_unpool2d", "max_unpool3d", "kthvalue", "mode", "msort", "_unsafe_index", "_unsafe_index_put",
)  # fmt: skip
# Cut, copied, repeated, turned, seen with another size or type.
_REARRANGED = (
    "to", "_to_copy", "type_as", "expand", "expand_as", "repeat", "tile", "squeeze", "unbind",
    "chunk", "split", "split_with_sizes", "tensor_split", "unflatten", "t", "numpy_T", "movedim", "moveaxis",
    "swapaxes", "narrow", "tril", "triu", "stack", "hstack", "vstack", "atleast_1d", "atleast_2d", "ravel",
    "pixel_unshuffle", "unfold", "im2col", "as_strided", "broadcast_to", "broadcast_tensors",
    "meshgrid", "constant_pad_nd", "diagonal", "real", "imag", "view_as", "reshape_as", "resolve_conj",
    "resolve_neg", "view_as_complex", "view_as_real", "diag", "diag_embed", "diagflat", "swapdims", "column_stack",
    "dstack", "block_diag", "rot90", "fliplr", "flipud", "cartesian_prod", "combinations",
    "native_channel_shuffle", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad1d",
    "replication_pad2d", "replication_pad3d", "_pad_circular", "_conj", "conj", "conj_physical", "set_", "resize_",
    "hsplit", "vsplit", "dsplit", "unsafe_chunk", "unsafe_split", "mT", "mH", "adjoint", "matrix_H",
)  # fmt: skip

CONCAT = Operator(
    "concat",
    "Data movement",
    None,
    _concat_shape,
    _concatenated,
)

TABLE = {
    **{f"aten.{name}": _movement() for name in (*_CREATED, *_TESTED, *_PICKED, *_REARRANGED)},
    **{f"aten.{name}": SAME for name in _SAME},
    "aten.clone": Operator("copy", "Data movement", None, _same, _cloned),
    "aten.dropout": Operator("copy", "Data movement", None, _same, _dropped),
    "aten.roll": Operator("copy", "Data movement", None, _same, like_first),
    "aten.embedding": Operator("movement", "Data movement", None, _embedded, _looked_up),
    "aten.masked_fill": Operator("movement", "Data movement", None, _filled, first_type),
    "aten.where": Operator("movement", "Data movement", None, _chosen_shape, _chosen),
    "aten.index": Operator("movement", "Data movement", None, _indexed_shape, first_type),
    "aten.repeat_interleave": Operator("movement", "Data movement", None, _repeated, first_type),
    "aten.view": _reshape("size"),
    "aten._unsafe_view": _reshape("size"),
    "aten.reshape": _reshape("shape"),
    "aten.flatten": Operator(
        "reshape",
        "Data movement",
        None,
        lambda call: (
            flatten_shape(call.shape("self"), call["start_dim"], call["end_dim"]) if "end_dim" in call else None
        ),
    ),
    "aten.permute": Operator(
        "permute", "Data movement", None, lambda call: permute_shape(call.shape("self"), call["dims"])
    ),
    "aten.transpose": Operator("permute", "Data movement", None, _transposed),
    **dict.fromkeys(("aten.cat", "aten.concat", "aten.concatenate"), CONCAT),
    "aten.pad": Operator(
        "pad", "Data movement", None, lambda call: pad_shape(call.shape("self"), call["pad"]), _padded
    ),
    "aten.pixel_shuffle": Operator("movement", "Data movement", None, _shuffled, channels),
    "aten.slice": Operator("slice", "Data movement", None, _sliced),
    "aten.select": Operator("select", "Data movement", None, _selected),
    "aten.unsqueeze": Operator("reshape", "Data movement", None, _unsqueezed),
}
