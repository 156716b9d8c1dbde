"""Sequences of tensors: what is in them, as far as positions and lengths are known."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from profiler.onnx_ops import OPERATORS, UnknownValueError
from profiler.onnx_ops.call import NodeCall
from profiler.onnx_ops.movement import joined_shape
from profiler.onnx_ops.movement_fields import concat
from profiler.onnx_ops.value import Shape, Value
from profiler.receptive.pick import sliced

if TYPE_CHECKING:
    from profiler.onnx_graph.walk import Walk

MOST_ITEMS = 1 << 12


def run(walk: "Walk", call: NodeCall) -> list[Value]:
    """The result of an operator on sequences."""
    try:
        out = _RULES[call.op](call)
        reason = ""
    except UnknownValueError as unknown:
        out = Value(None, call.tensors[0].dtype if call.tensors else 0, reached=any(v.reached for v in call.tensors))
        reason = f"its size depends on {call.node.input[unknown.position]!r}, which is not known before the graph runs"
    out.constant = all(v.constant for v in call.tensors)
    call.outputs = (out,)
    if not out.constant:
        out.memory = walk.memory.allocate(out.bytes)
    walk.report(call, OPERATORS[call.op], "free", (0, 0), (), reason)
    return [out]


def _of(items: tuple[Value, ...], dtype: int) -> Value:
    return Value(None, dtype, items=items, reached=any(i.reached for i in items))


def _copy(value: Value) -> Value:
    return Value(
        value.shape, value.dtype, value.array, value.field, value.reached, value.constant, value.weights, value.items
    )


def _items(call: NodeCall) -> tuple[Value, ...]:
    items = call.input(0).items
    if items is None:
        raise UnknownValueError(0)
    return items


def _position(call: NodeCall, at: int, length: int) -> int:
    index = call.integers(at)[0]
    if not -length <= index < length:
        raise IndexError(f"a sequence of {length} tensors has none at {index}")
    return index % length


def _construct(call: NodeCall) -> Value:
    return _of(call.tensors, call.tensors[0].dtype)


def _empty(call: NodeCall) -> Value:
    return _of((), int(call.attr("dtype", 1)))


def _insert(call: NodeCall) -> Value:
    items = list(_items(call))
    at = call.integers(2)[0] if call.has(2) else len(items)
    items.insert(at, call.input(1))
    return _of(tuple(items), call.input(1).dtype)


def _erase(call: NodeCall) -> Value:
    items = list(_items(call))
    del items[_position(call, 1, len(items)) if call.has(1) else -1]
    return _of(tuple(items), call.input(0).dtype)


def _at(call: NodeCall) -> Value:
    items = _items(call)
    return _copy(items[_position(call, 1, len(items))])


def _length(call: NodeCall) -> Value:
    import numpy as np

    return Value((), 7, np.array(len(_items(call)), dtype=np.int64))


def _split(call: NodeCall) -> Value:
    x = call.input(0)
    shape = call.shape()
    axis = int(call.attr("axis", 0)) % len(shape)
    sizes = _split_sizes(call, shape[axis])
    squeeze = not call.has(1) and not call.attr("keepdims", 1)
    pieces, at = [], 0
    for size in sizes:
        piece: Shape = (*shape[:axis], size, *shape[axis + 1 :])
        seen = x.field
        if seen is not None:
            seen = seen.selected(axis, at) if squeeze else sliced(seen, axis, at, size)
        pieces.append(Value(piece[:axis] + piece[axis + 1 :] if squeeze else piece, x.dtype, None, seen, x.reached))
        at += size
    return _of(tuple(pieces), x.dtype)


def _split_sizes(call: NodeCall, length: int) -> tuple[int, ...]:
    if not call.has(1):
        each = 1
    elif call.shape(1):
        return call.integers(1)
    else:
        each = call.integers(1)[0]
    if each < 1 or length // each > MOST_ITEMS:
        raise UnknownValueError(1 if call.has(1) else 0)
    return tuple(min(each, length - at) for at in range(0, length, each))


def _concatenated(call: NodeCall) -> Value:
    items = _items(call)
    axis = int(call.attr("axis"))
    shapes = [i.shape for i in items if i.shape is not None]
    if len(shapes) < len(items) or not items:
        raise UnknownValueError(0)
    if call.attr("new_axis", 0):
        axis %= len(shapes[0]) + 1
        shape: Shape = (*shapes[0][:axis], len(items), *shapes[0][axis:])
        return Value(shape, items[0].dtype, reached=any(i.reached for i in items))
    out = Value(joined_shape(shapes, axis), items[0].dtype, reached=any(i.reached for i in items))
    whole = NodeCall(call.node, "Concat", call.opset, items, (out,))
    out.field = concat(whole)[0]
    return out


def _optional(call: NodeCall) -> Value:
    if not call.tensors:
        raise UnknownValueError(0)
    return _copy(call.input(0))


def _has(call: NodeCall) -> Value:
    import numpy as np

    return Value((), 9, np.array(bool(call.tensors)))


_RULES: dict[str, Callable[[NodeCall], Value]] = {
    "SequenceConstruct": _construct,
    "SequenceEmpty": _empty,
    "SequenceInsert": _insert,
    "SequenceErase": _erase,
    "SequenceAt": _at,
    "SequenceLength": _length,
    "SplitToSequence": _split,
    "ConcatFromSequence": _concatenated,
    "Optional": _optional,
    "OptionalGetElement": _optional,
    "OptionalHasElement": _has,
}
