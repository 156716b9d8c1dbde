"""Operators that are free by convention: they allocate, move, reinterpret or look up, and compute nothing."""

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from profiler.errors import ModelError
from profiler.formulas.dense import broadcast_shape
from profiler.formulas.movement import concat_shape, permute_shape, reshape_shape, slice_length
from profiler.onnx_ops import movement_fields as fields
from profiler.onnx_ops.call import NodeCall, Operator
from profiler.onnx_ops.fields import Rule, looked_up, nothing, pointwise, unary
from profiler.onnx_ops.normalization import same
from profiler.onnx_ops.value import Shape


def _reshape(call: NodeCall) -> Sequence[Shape]:
    x = call.shape()
    wanted = call.listed("shape", 1) or ()
    if not call.attr("allowzero", 0):
        wanted = tuple(x[n] if size == 0 and n < len(x) else size for n, size in enumerate(wanted))
    out = reshape_shape(x, wanted)
    if prod(out) != prod(x):
        raise ModelError(f"an input of size {x} cannot become {wanted}")
    return [out]


def _flatten(call: NodeCall) -> Sequence[Shape]:
    """Two axes: those before `axis` joined, and the rest."""
    x = call.shape()
    axis = int(call.attr("axis", 1))
    axis = axis + len(x) if axis < 0 else axis
    return [(prod(x[:axis]), prod(x[axis:]))]


def _transpose(call: NodeCall) -> Sequence[Shape]:
    x = call.shape()
    return [permute_shape(x, call.attr("perm") or range(len(x) - 1, -1, -1))]


def _squeeze(call: NodeCall) -> Sequence[Shape]:
    x, axes = call.shape(), call.listed("axes", 1)
    if axes is None:
        return [tuple(n for n in x if n != 1)]
    gone = {a % len(x) for a in axes}
    return [tuple(n for axis, n in enumerate(x) if axis not in gone)]


def _unsqueeze(call: NodeCall) -> Sequence[Shape]:
    x, axes = call.shape(), call.listed("axes", 1) or ()
    rank = len(x) + len(axes)
    new, rest = {a % rank for a in axes}, iter(x)
    return [tuple(1 if axis in new else next(rest) for axis in range(rank))]


def joined_shape(shapes: Sequence[Shape], axis: int) -> Shape:
    """Tensors one after the other.

    Raises:
        ModelError: they do not fit.
    """
    out = concat_shape(shapes, axis)
    if out is None:
        raise ModelError(f"sizes {', '.join(map(str, shapes))} do not join along axis {axis}")
    return out


def _concat(call: NodeCall) -> Sequence[Shape]:
    shapes = [call.shape(n) for n in range(len(call.inputs))]
    return [joined_shape(shapes, int(call.attr("axis", 1)))]


def _slice(call: NodeCall) -> Sequence[Shape]:
    x = list(call.shape())
    for axis, start, end, step in fields.slices(call):
        x[axis] = slice_length(x[axis], start, end, step)
    return [tuple(x)]


def _pad(call: NodeCall) -> Sequence[Shape]:
    x = list(call.shape())
    for axis, before, after in fields.paddings(call):
        x[axis] += before + after
    return [tuple(x)]


def _split(call: NodeCall) -> Sequence[Shape]:
    x = call.shape()
    axis = int(call.attr("axis", 0)) % len(x)
    return [(*x[:axis], n, *x[axis + 1 :]) for n in fields.piece_sizes(call)]


def _gather(call: NodeCall) -> Sequence[Shape]:
    x = call.shape()
    axis = int(call.attr("axis", 0)) % len(x)
    return [(*x[:axis], *call.shape(1), *x[axis + 1 :])]


def _gather_nd(call: NodeCall) -> Sequence[Shape]:
    x, index = call.shape(), call.shape(1)
    return [(*index[:-1], *x[int(call.attr("batch_dims", 0)) + index[-1] :])]


def _expand(call: NodeCall) -> Sequence[Shape]:
    return [broadcast_shape(call.shape(), call.integers(1))]


def _tile(call: NodeCall) -> Sequence[Shape]:
    if not call.has(1):
        return [tuple(n * r for n, r in zip(call.shape(), call.attr("repeats"), strict=True))]
    return [tuple(n * r for n, r in zip(call.shape(), call.integers(1), strict=True))]


def _depth_to_space(call: NodeCall) -> Sequence[Shape]:
    b, c, h, w = call.shape()
    r = int(call.attr("blocksize"))
    return [(b, c // (r * r), h * r, w * r)]


def _space_to_depth(call: NodeCall) -> Sequence[Shape]:
    b, c, h, w = call.shape()
    r = int(call.attr("blocksize"))
    return [(b, c * r * r, h // r, w // r)]


def _from_values(call: NodeCall) -> Sequence[Shape]:
    """A size that is given as a tensor."""
    return [call.integers(0)]


def _range(call: NodeCall) -> Sequence[Shape]:
    start, limit, delta = (np.ravel(call.array(n))[0].item() for n in range(3))
    if not delta:
        raise ModelError("its step is zero")
    return [(max(int(-((start - limit) // delta)), 0),)]


def _one_hot(call: NodeCall) -> Sequence[Shape]:
    x, depth = call.shape(), call.integers(1)[0]
    axis = int(call.attr("axis", -1)) % (len(x) + 1)
    return [(*x[:axis], depth, *x[axis:])]


def _top_k(call: NodeCall) -> Sequence[Shape]:
    x, k = list(call.shape()), call.listed("k", 1)
    axis = int(call.attr("axis", -1)) % len(x)
    x[axis] = k[0] if k else int(call.attr("k"))
    return [tuple(x)] * 2


def _col2im(call: NodeCall) -> Sequence[Shape]:
    x, image, block = call.shape(), call.integers(1), call.integers(2)
    return [(x[0], x[1] // prod(block), *image)]


def _non_zero(call: NodeCall) -> Sequence[Shape]:
    x = call.shape()
    return [(max(len(x), 1), prod(x))]


def _unique(call: NodeCall) -> Sequence[Shape]:
    x, axis = call.shape(), call.attr("axis")
    n = prod(x) if axis is None else x[int(axis) % len(x)]
    values = (n,) if axis is None else x
    return [values, (n,), (n,), (n,)]


def _compress(call: NodeCall) -> Sequence[Shape]:
    x, axis = call.shape(), call.attr("axis")
    return [(min(prod(x), call.shape(1)[0]),) if axis is None else x]


def _non_max_suppression(call: NodeCall) -> Sequence[Shape]:
    batch, boxes, _ = call.shape()
    most = call.integers(2)[0] if call.has(2) else 0
    return [(batch * call.shape(1)[1] * min(max(most, 0), boxes), 3)]


Shapes = Callable[[NodeCall], Sequence[Shape]]
MOVE = "Data movement"


def _move(
    op: str, shapes: Shapes | None, field: Rule | None = None, *, view: bool = False, bound: bool = False
) -> Operator:
    return Operator(op, MOVE, None, shapes, field, view=view, bound=bound)


TABLE = {
    "Identity": _move("copy", same, pointwise, view=True),
    "Dropout": _move("copy", lambda call: [call.shape()] * 2, fields.dropout, view=True),
    "Cast": _move("copy", same, pointwise),
    "CastLike": _move("copy", same, fields.first_only),
    "BitCast": _move("copy", same, pointwise, view=True),
    "Trilu": _move("copy", same, fields.first_only),
    "Reshape": _move("reshape", _reshape, unary(fields.reshape), view=True),
    "Flatten": _move("reshape", _flatten, unary(fields.reshape), view=True),
    "Squeeze": _move("reshape", _squeeze, unary(fields.reshape), view=True),
    "Unsqueeze": _move("reshape", _unsqueeze, unary(fields.reshape), view=True),
    "Transpose": _move("permute", _transpose, unary(fields.transpose)),
    "Concat": _move("concat", _concat, fields.concat),
    "Slice": _move("slice", _slice, unary(fields.slice_)),
    "Pad": _move("pad", _pad, unary(fields.pad)),
    "Split": _move("split", _split, fields.split),
    "Gather": _move("lookup", _gather, fields.gather),
    "GatherElements": _move("lookup", lambda call: [call.shape(1)], looked_up),
    "GatherND": _move("lookup", _gather_nd, looked_up),
    "Scatter": _move("movement", same, looked_up),
    "ScatterElements": _move("movement", same, looked_up),
    "ScatterND": _move("movement", same, looked_up),
    "TensorScatter": _move("movement", same, looked_up),
    "ReverseSequence": _move("movement", same, looked_up),
    "Expand": _move("expand", _expand, unary(fields.expand)),
    "Tile": _move("expand", _tile, fields.tile),
    "DepthToSpace": _move("pixel shuffle", _depth_to_space, unary(fields.depth_to_space)),
    "SpaceToDepth": _move("pixel unshuffle", _space_to_depth, unary(fields.space_to_depth)),
    "Col2Im": _move("movement", _col2im),
    "OneHot": _move("lookup", _one_hot, fields.one_hot),
    "TopK": _move("sort", _top_k, fields.sorted_along),
    "NonZero": _move("search", _non_zero, looked_up, bound=True),
    "Unique": _move("search", _unique, looked_up, bound=True),
    "Compress": _move("search", _compress, looked_up, bound=True),
    "NonMaxSuppression": _move("search", _non_max_suppression, looked_up, bound=True),
    "Shape": _move("size", None, nothing),
    "Size": _move("size", lambda _: [()], nothing),
    "Constant": _move("constant", None, nothing),
    "ConstantOfShape": _move("creation", _from_values, nothing),
    "Range": _move("creation", _range, nothing),
    "EyeLike": _move("creation", same, nothing),
    **{name: _move("creation", None, nothing) for name in ("RandomNormal", "RandomUniform")},
    **{name: _move("creation", same, nothing) for name in ("RandomNormalLike", "RandomUniformLike")},
    "Bernoulli": _move("creation", same, pointwise),
    "Multinomial": _move("creation", lambda call: [(call.shape()[0], int(call.attr("sample_size", 1)))]),
}
