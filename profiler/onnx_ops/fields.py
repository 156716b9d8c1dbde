"""The shapes that most receptive-field rules of ONNX operators have."""

from collections.abc import Callable

from profiler.onnx_ops.call import Fields, NodeCall
from profiler.receptive.field import TensorField
from profiler.receptive.index_map import shifted
from profiler.receptive.merge import merged
from profiler.receptive.view import DEPENDENT

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
    why = f"no rule for {call.op}"
    return [
        TensorField.unknown(out.shape, found[0].extent, why=why) if found and out.shape is not None else None
        for out in call.outputs
    ]


def nothing(call: NodeCall) -> Fields:
    """The result takes no more than sizes and types from the inputs."""
    return [None] * len(call.outputs)


def backwards(field: TensorField, axis: int) -> TensorField:
    """The other end of an axis first."""
    size = field.shape[axis]
    return field.moved(axis, shifted(size - 1, step=-1), size)


def looked_up(call: NodeCall) -> Fields:
    """Lookups and writes at places that data decide."""
    why = "data decide which places are read or written"
    shapes = [out.shape or () for out in call.outputs]
    return [merged([f.like(shape, DEPENDENT, why) for f in call.fields()], shape) for shape in shapes]
