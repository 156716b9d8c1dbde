"""One node that is neither control flow nor a function: its sizes, cost, receptive field and bytes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onnx import TensorProto

from profiler.onnx_graph.fold import Array, evaluate
from profiler.onnx_graph.infer import Inferred, check, infer
from profiler.onnx_graph.prepare import stored
from profiler.onnx_graph.weights import carried, used
from profiler.onnx_ops import OPERATORS, UNCOUNTED, Operator, UncountedError, UnknownValueError
from profiler.onnx_ops.call import NodeCall
from profiler.onnx_ops.fields import unknown
from profiler.onnx_ops.value import Shape, Value
from profiler.receptive.field import TensorField

if TYPE_CHECKING:
    from profiler.onnx_graph.walk import Walk

_SIZES = frozenset(("Shape", "Size"))  # sizes are settled before the graph runs
_RANDOM = frozenset(
    ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli")
)
_NO_FORMULA = "no formula is known for it"


def plain(walk: "Walk", call: NodeCall, domain: str) -> list[Value]:
    """Run one node and show it to the visitor."""
    operator = OPERATORS.get(call.op)
    inferred = infer(call, domain)
    shapes, reason = _shapes(call, operator, inferred)
    arrays = evaluate(call, domain, shapes)
    if operator is None or not operator.bound:
        arrays = _trusted(arrays, shapes)
    fixed = call.op in _SIZES or (all(v.constant for v in call.tensors) and call.op not in _RANDOM)
    weights = carried(call.op, call.inputs) if fixed and call.op not in _SIZES else ()
    outputs = []
    for n, name in enumerate(call.node.output):
        array = arrays[n] if arrays is not None and n < len(arrays) else None
        shape = tuple(array.shape) if array is not None else shapes[n]
        value = Value(shape if shape is not None else walk.declared.get(name), _dtype(call, operator, inferred[n]))
        value.array, value.constant, value.weights = array, fixed, weights
        value.reached = any(v.reached for v in call.tensors)
        outputs.append(value)
    call.outputs = tuple(outputs)
    _see(walk, call, operator)
    _hold(walk, call, operator)
    _count(walk, call, operator, reason)
    return outputs


def constant(walk: "Walk", call: NodeCall) -> list[Value]:
    """A `Constant` node: a stored tensor, as an initializer is."""
    tensor = call.attr("value")
    if isinstance(tensor, TensorProto):
        name = call.node.output[0]
        value = stored(tensor, name, walk.kinds.of(name), literal=walk.program.literals)
    else:
        call_shapes = infer(call, "")
        array = evaluate(call, "", [i.known for i in call_shapes])
        value = Value(call_shapes[0].known, call_shapes[0].dtype, array[0] if array else None, constant=True)
    call.outputs = (value,)
    walk.report(call, OPERATORS[call.op], "free", (0, 0), (), "")
    return [value]


def _shapes(call: NodeCall, operator: Operator | None, inferred: Sequence[Inferred]) -> tuple[list[Shape | None], str]:
    """Sizes of the outputs, and why one is not known."""
    documented: Sequence[Shape | None] = ()
    reason = ""
    if operator is not None and operator.shapes is not None:
        try:
            documented = operator.shapes(call)
        except UnknownValueError as unknown_value:
            reason = _open_size(call, unknown_value.position)
        check(call.op, documented, inferred)
    shapes = [
        documented[n] if n < len(documented) and documented[n] is not None else given.known
        for n, given in enumerate(inferred)
    ]
    if operator is None and not any(i.dtype for i in inferred):
        reason = f"nothing is known of {call.op}"
    return shapes, reason


def _trusted(arrays: list[Array] | None, shapes: Sequence[Shape | None]) -> list[Array] | None:
    """Elements, unless the reference implementation bends a rule and comes to another size."""
    if arrays is None or any(s is not None and a.shape != s for a, s in zip(arrays, shapes, strict=False)):
        return None
    return arrays


def _open_size(call: NodeCall, position: int) -> str:
    name = call.node.input[position]
    if call.input(position).shape is None:
        return f"the size of {name!r} is not known"
    if call.input(position).constant:
        return (
            f"its size depends on the values of {name!r}, which were not read: tensors in other files stay closed; "
            "save small ones in the graph (size_threshold of onnx.save)"
        )
    return f"its size depends on the values of {name!r}, which are not known before the graph runs"


def _dtype(call: NodeCall, operator: Operator | None, given: Inferred) -> int:
    if given.dtype:
        return given.dtype
    if operator is not None and operator.dtype is not None:
        return operator.dtype(call)
    return call.tensors[0].dtype if call.tensors else 0


def _see(walk: "Walk", call: NodeCall, operator: Operator | None) -> None:
    """Give the outputs their receptive fields."""
    if not walk.extent or not any(v.reached for v in call.tensors):
        return
    lost = any(v.reached and v.field is None for v in call.tensors)
    if lost or operator is None or operator.field is None or any(not o.elements for o in call.outputs):
        fields: Sequence[TensorField | None] = [
            TensorField.unknown(o.shape, walk.extent) if o.shape is not None else None for o in call.outputs
        ]
    else:
        try:
            fields = operator.field(call)
        except UnknownValueError:
            fields = unknown(call)
    for out, seen in zip(call.outputs, fields, strict=False):
        out.field = seen
        # Sizes and types alone reach nothing.
        out.reached = seen is not None or out.shape is None


def _hold(walk: "Walk", call: NodeCall, operator: Operator | None) -> None:
    """Allocate the outputs. What is computed from constants alone is stored with the weights when a graph is loaded."""
    for n, out in enumerate(call.outputs):
        if out.constant or not call.node.output[n]:
            continue
        if n == 0 and operator is not None and operator.view and call.tensors[0].memory:
            out.memory = walk.memory.share(call.tensors[0].memory)
        else:
            out.memory = walk.memory.allocate(out.bytes)


def _count(walk: "Walk", call: NodeCall, operator: Operator | None, reason: str) -> None:
    constant = bool(call.outputs) and call.outputs[0].constant
    weights = () if constant else used(call)
    status, macs, flops = "free", 0, 0
    if operator is None:
        status, reason = "uncounted", UNCOUNTED.get(call.op, reason or _NO_FORMULA)
    elif operator.cost is not None and _floats(call, operator):
        try:
            macs, flops = _cost(call, operator)
            status = "counted"
        except UnknownValueError as unknown_value:
            status, reason = "uncounted", _open_size(call, unknown_value.position)
        except UncountedError as why:
            status, reason = "uncounted", reason or str(why)
    if constant:
        walk.folded += macs
        status, macs, flops = ("free" if status == "counted" else status), 0, 0
    elif operator is not None and operator.bound and call.outputs[0].array is None:
        reason = "how many come out depends on the data; the most possible are assumed"
    walk.report(call, operator, status, (macs, flops), weights, reason)


def _floats(call: NodeCall, operator: Operator) -> bool:
    """Work on integers and truth values alone is no floating-point work."""
    return operator.integers or any(v.floating for v in (*call.tensors, *call.outputs))


def _cost(call: NodeCall, operator: Operator) -> tuple[int, int]:
    for position, value in enumerate(call.inputs):
        if value is not None and value.shape is None and value.items is None:
            raise UnknownValueError(position)
    if call.outputs[0].shape is None:
        raise UncountedError("the size of its result is not known")
    return operator.cost(call) if operator.cost else (0, 0)
