"""Receptive fields behind operators that move data."""

from collections.abc import Iterator
from math import prod

import numpy as np

from profiler.onnx_ops.call import Fields, NodeCall
from profiler.onnx_ops.fields import unknown
from profiler.receptive.concat import concatenated
from profiler.receptive.field import TensorField
from profiler.receptive.index_map import Border, shifted
from profiler.receptive.merge import merged
from profiler.receptive.pick import anywhere, sliced, taken
from profiler.receptive.reshape import expanded_to, reshaped
from profiler.receptive.view import DEPENDENT

MOST_REPEATS = 64


def reshape(call: NodeCall, field: TensorField) -> TensorField:
    """Atoms are grouped anew."""
    return reshaped(field, call.out)


def expand(call: NodeCall, field: TensorField) -> TensorField:
    """Axes of size one are repeated."""
    return expanded_to(field, call.out)


def transpose(call: NodeCall, field: TensorField) -> TensorField:
    """Axes in another order."""
    return field.permuted(call.attr("perm") or range(len(field.layout) - 1, -1, -1))


def first_only(call: NodeCall) -> Fields:
    """The first input's; the others say only how."""
    return [call.input(0).field, *unknown(call)[1:]]


def dropout(call: NodeCall) -> Fields:
    """In inference the mask lets everything through."""
    return [call.input(0).field, *([None] * (len(call.outputs) - 1))]


def concat(call: NodeCall) -> Fields:
    """One after the other along an axis."""
    found = call.fields()
    axis = int(call.attr("axis", 1)) % max(len(call.out), 1)
    present = [v for v in call.tensors if v.shape and v.shape[axis]]
    if not found or not present:
        return unknown(call)
    filled = [v.field or TensorField.blind(v.shape or (), found[0].extent) for v in present]
    return [concatenated(filled, axis, call.out)]


def slices(call: NodeCall) -> Iterator[tuple[int, int, int, int]]:
    """(axis, start, end, step) of a slice, as Python counts them; sizes and values must be known."""
    rank = len(call.shape())
    starts, ends = call.listed("starts", 1) or (), call.listed("ends", 2) or ()
    axes = call.listed("axes", 3) or tuple(range(len(starts)))
    steps = call.listed("steps", 4) or (1,) * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        axis %= rank  # noqa: PLW2901  # the same axis, not negative
        size = call.shape()[axis]
        yield axis, *_clamped(start, end, step, size)


def _clamped(start: int, end: int, step: int, size: int) -> tuple[int, int, int]:
    """ONNX' rule: an end below -size means "before the first"; Python's slice would take it from the end again."""
    start, end = (n + size if n < 0 else n for n in (start, end))
    if step > 0:
        return max(min(start, size), 0), max(min(end, size), 0), step
    return max(min(start, size - 1), 0), (end if end >= 0 else -size - 1), step


def slice_(call: NodeCall, field: TensorField) -> TensorField:
    """A window of one tap that starts later and may skip."""
    for axis, start, _, step in slices(call):
        if call.out[axis] != field.shape[axis] or step != 1:
            field = sliced(field, axis, start, call.out[axis], step)
    return field


def paddings(call: NodeCall) -> Iterator[tuple[int, int, int]]:
    """(axis, before, after); negative ones cut off."""
    rank = len(call.shape())
    pads = call.listed("pads", 1) or call.attr("paddings") or ()
    axes = call.integers(3) if call.has(3) else tuple(range(rank))
    n = len(axes)
    for position, axis in enumerate(axes):
        yield axis % rank, pads[position], pads[position + n]


_BORDERS: dict[str, Border] = {"constant": "drop", "edge": "clamp", "reflect": "reflect", "wrap": "wrap"}


def pad(call: NodeCall, field: TensorField) -> TensorField:
    """A window of one tap that starts before the axis."""
    border = _BORDERS[call.attr("mode", "constant")]
    for axis, before, after in paddings(call):
        if before or after:
            field = field.moved(axis, shifted(-before, border), call.out[axis])
    return field


def piece_sizes(call: NodeCall) -> tuple[int, ...]:
    """How the axis is cut: as given, or in equal parts of which the last may be smaller."""
    x = call.shape()
    size = x[int(call.attr("axis", 0)) % len(x)]
    given = call.listed("split", 1)
    if given:
        return given
    parts = int(call.attr("num_outputs") or len(call.node.output))
    each = -(-size // parts)
    return tuple(max(min(each, size - n * each), 0) for n in range(parts))


def split(call: NodeCall) -> Fields:
    """The pieces lie one after the other along an axis."""
    field = call.input(0).field
    if field is None:
        return unknown(call)
    axis = int(call.attr("axis", 0)) % len(field.layout)
    pieces: list[TensorField | None] = []
    at = 0
    for size in piece_sizes(call):
        pieces.append(sliced(field, axis, at, size))
        at += size
    return pieces


def gather(call: NodeCall) -> Fields:
    """An embedding keeps the positions of its indices; a lookup at known places takes those, any other may take all."""
    table, index = call.input(0), call.input(1)
    axis = int(call.attr("axis", 0)) % max(len(table.shape or ()), 1)
    own = None
    if index.field is not None:
        size = len(call.out) - axis - len(index.field.layout)
        own = expanded_to(reshaped(index.field, (*(1,) * axis, *index.field.shape, *(1,) * size)), call.out)
    if table.field is None:
        return [own]
    places = None if index.array is None else np.asarray(index.array % max(table.field.shape[axis], 1))
    if places is None:
        length = prod(call.shape(1))
        found = reshaped(anywhere(table.field, axis, length, DEPENDENT, "data decide which places are read"), call.out)
    elif places.ndim == 0:
        found = table.field.selected(axis, int(places))
    else:
        found = reshaped(taken(table.field, axis, places), call.out)
    return [found if own is None else merged([found, own], call.out)]


def sorted_along(call: NodeCall) -> Fields:
    """Any place along the axis may come to any other."""
    field = call.input(0).field
    if field is None:
        return unknown(call)
    axis = int(call.attr("axis", -1)) % len(field.layout)
    seen = anywhere(field, axis, call.out[axis], DEPENDENT, "data decide the order")
    return [seen] * len(call.outputs)


def tile(call: NodeCall) -> Fields:
    """Repetition along each axis."""
    field = call.input(0).field
    if field is None:
        return unknown(call)
    for axis, (size, wanted) in enumerate(zip(call.shape(), call.out, strict=True)):
        repeats = wanted // max(size, 1)
        shape = (*field.shape[:axis], wanted, *field.shape[axis + 1 :])
        if size == 1:
            field = expanded_to(field, shape)
        elif repeats > MOST_REPEATS or not wanted:
            return unknown(call)
        elif repeats > 1:
            field = concatenated([field] * repeats, axis, shape)
    return [field]


def depth_to_space(call: NodeCall, field: TensorField) -> TensorField:
    """Blocks of r * r channels become r by r pixels; in DCR order the block is the slower part of the channels."""
    b, c, h, w = field.shape
    r = int(call.attr("blocksize"))
    if call.attr("mode", "DCR") == "DCR":
        field = reshaped(field, (b, r, r, c // (r * r), h, w)).permuted([0, 3, 4, 1, 5, 2])
    else:
        field = reshaped(field, (b, c // (r * r), r, r, h, w)).permuted([0, 1, 4, 2, 5, 3])
    return reshaped(field, call.out)


def space_to_depth(call: NodeCall, field: TensorField) -> TensorField:
    """An r by r block of pixels becomes r * r channels."""
    b, c, h, w = field.shape
    r = int(call.attr("blocksize"))
    field = reshaped(field, (b, c, h // r, r, w // r, r)).permuted([0, 3, 5, 1, 2, 4])
    return reshaped(field, call.out)


def one_hot(call: NodeCall) -> Fields:
    """Each index becomes a vector that depends on it alone."""
    field = call.input(0).field
    if field is None or len(call.fields()) > 1:
        return unknown(call)
    axis = int(call.attr("axis", -1)) % len(call.out)
    return [expanded_to(reshaped(field, (*call.out[:axis], 1, *call.out[axis + 1 :])), call.out)]
