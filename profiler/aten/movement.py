"""Operators that are free by convention: they allocate, move, reinterpret or look up, and compute nothing.

Where the size that comes out follows from a documented rule it is stated, so that every size can be checked.
"""

from profiler.aten.call import Call, Operator, Shape
from profiler.formulas.movement import (
    concat_shape,
    flatten_shape,
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


SAME = Operator("copy", "Data movement", None, _same)

_SAME = (
    "contiguous", "clone", "detach", "alias", "dropout", "feature_dropout", "alpha_dropout", "native_dropout",
    "lift_fresh", "lift_fresh_copy", "fill_", "zero_", "copy_", "requires_grad_", "roll", "flip", "channel_shuffle",
)  # fmt: skip
_OTHER = (
    "to", "_to_copy", "type_as", "_local_scalar_dense", "item", "empty", "empty_like", "empty_strided", "new_empty",
    "zeros", "zeros_like", "new_zeros", "ones", "ones_like", "new_ones", "full", "full_like", "new_full", "arange",
    "linspace", "eye", "scalar_tensor", "tensor", "expand", "expand_as", "repeat", "tile", "repeat_interleave",
    "squeeze", "unbind", "chunk", "split", "split_with_sizes", "tensor_split", "unflatten", "t", "numpy_T", "movedim",
    "moveaxis", "swapaxes", "narrow", "index", "index_select", "gather", "take_along_dim", "embedding", "where",
    "masked_fill", "masked_fill_", "tril", "triu", "stack", "hstack", "vstack", "atleast_1d", "atleast_2d", "ravel",
    "pixel_shuffle", "pixel_unshuffle", "unfold", "im2col", "as_strided", "broadcast_to", "broadcast_tensors",
    "meshgrid", "one_hot", "scatter", "index_put", "index_put_", "rand", "randn", "rand_like", "randn_like",
    "bernoulli", "bernoulli_", "normal_", "uniform_", "constant_pad_nd", "diagonal", "real", "imag", "view_as",
    "reshape_as", "resolve_conj", "resolve_neg", "logical_and", "logical_or", "logical_not", "bitwise_and",
    "bitwise_or", "bitwise_not", "isnan", "isinf", "any", "all", "numel", "sort", "topk", "argsort", "nonzero",
)  # fmt: skip

TABLE = {
    **{f"aten.{name}": _movement() for name in _OTHER},
    **{f"aten.{name}": SAME for name in _SAME},
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
    "aten.cat": Operator(
        "concat",
        "Data movement",
        None,
        lambda call: concat_shape([tuple(t.shape) for t in call["tensors"]], call["dim"]),
    ),
    "aten.pad": Operator("pad", "Data movement", None, lambda call: pad_shape(call.shape("self"), call["pad"])),
    "aten.slice": Operator("slice", "Data movement", None, _sliced),
    "aten.select": Operator("select", "Data movement", None, _selected),
    "aten.unsqueeze": Operator("reshape", "Data movement", None, _unsqueezed),
}
