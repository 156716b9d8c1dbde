"""The shapes that most receptive-field rules of ONNX operators have."""

from collections.abc import Callable, Sequence

from profiler.onnx_ops.call import Fields, NodeCall
from profiler.receptive.field import TensorField
from profiler.receptive.index_map import IndexMap, shifted
from profiler.receptive.merge import fused, merged

Rule = Callable[[NodeCall], Fields]


def pointwise(call: NodeCall) -> Fields:
    """What any operand sees, element by element."""
    found = call.fields()
    return [merged(found, out.shape) if out.shape is not None else None for out in call.outputs]


def unary(rule: Callable[[NodeCall, TensorField], TensorField], position: int = 0) -> Rule:
    """A rule for one tensor among the inputs; where another one is reached as well, the result is not known."""

    def apply(call: NodeCall) -> Fields:
        field = call.input(position).field
        if field is None or len(call.fields()) > 1:
            return unknown(call)
        return [rule(call, field), *unknown(call)[1:]]

    return apply


def unknown(call: NodeCall) -> Fields:
    """Only the sizes are known of the outputs."""
    found = call.fields()
    return [
        TensorField.unknown(out.shape, found[0].extent) if found and out.shape is not None else None
        for out in call.outputs
    ]


def nothing(call: NodeCall) -> Fields:
    """The result takes no more than sizes and types from the inputs."""
    return [None] * len(call.outputs)


def windows(field: TensorField, maps: Sequence[IndexMap], outputs: Sequence[int], first: int = 2) -> TensorField:
    """Windows moving along neighbouring axes."""
    for axis in range(first, first + len(maps)):
        if not maps[axis - first].same:
            field = fused(field, axis)
    return field.slid(first, maps, outputs)


def moved(field: TensorField, axis: int, index_map: IndexMap, outputs: int) -> TensorField:
    """A window moving along one axis, whatever that axis is made of."""
    return windows(field, (index_map,), (outputs,), axis)


def backwards(field: TensorField, axis: int) -> TensorField:
    """The other end of an axis first."""
    size = field.shape[axis]
    return moved(field, axis, shifted(size - 1, step=-1), size)
