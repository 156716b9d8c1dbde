"""ONNX' own inference of one node's outputs, from the sizes in hand; our formulas are held against it."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import onnx
from onnx import NodeProto, TensorProto, TypeProto, helper, shape_inference

from profiler.errors import FormulaError, ModelError
from profiler.onnx_ops.call import NodeCall
from profiler.onnx_ops.value import Shape

# Elements handed to the inference: it asks for sizes, axes and the like.
_MOST_ELEMENTS = 1024


class Inferred(NamedTuple):
    """What ONNX says of an output: a size with None where it does not know, or None altogether; and the type."""

    shape: tuple[int | None, ...] | None
    dtype: int

    @property
    def known(self) -> Shape | None:
        """The size, where all of it is known."""
        if self.shape is None or None in self.shape:
            return None
        return tuple(n for n in self.shape if n is not None)


NOTHING = Inferred(None, 0)
_REFUSALS = (shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError)


@cache
def schema(op_type: str, opset: int, domain: str) -> onnx.defs.OpSchema | None:
    """The standard's definition of an operator at an opset; None where it has none."""
    try:
        return onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return None


def infer(call: NodeCall, domain: str) -> list[Inferred]:
    """What ONNX says of the outputs; nothing where the operator is not one of the standard's.

    Raises:
        ModelError: the inputs do not fit the operator.
    """
    names = list(call.node.output)
    definition = schema(call.node.op_type, call.opset, domain)
    if definition is None:
        return [NOTHING] * len(names)
    given = [(name, value) for name, value in zip(call.node.input, call.inputs, strict=True) if value is not None]
    types = {name: value.type_proto for name, value in given}
    data = {
        name: tensor
        for name, value in given
        if value.array is not None and value.array.size <= _MOST_ELEMENTS and (tensor := value.tensor_proto)
    }
    found = _asked(call, definition, types, data)
    return [_of(found[name]) if name in found else NOTHING for name in names]


def _spelled_out(call: NodeCall) -> NodeProto:
    """The node; onnx 1.23 forgets that an STFT is one-sided unless it says otherwise."""
    if call.op != "STFT" or "onesided" in call.attributes:
        return call.node
    node = NodeProto()
    node.CopyFrom(call.node)
    node.attribute.append(helper.make_attribute("onesided", 1))
    return node


def _asked(
    call: NodeCall,
    definition: onnx.defs.OpSchema,
    types: dict[str, TypeProto],
    data: dict[str, TensorProto],
) -> dict[str, TypeProto]:
    try:
        return shape_inference.infer_node_outputs(definition, _spelled_out(call), types, data)
    except _REFUSALS as error:
        if data:  # with the elements at hand it is stricter than any runtime
            return _asked(call, definition, types, {})
        reason = " ".join(str(error).split())
        raise ModelError(f"its inputs do not fit the operator: {reason[:200]}") from error


def _of(kind: TypeProto) -> Inferred:
    tensor = kind.tensor_type if kind.HasField("tensor_type") else kind.sequence_type.elem_type.tensor_type
    if kind.HasField("sequence_type") or not tensor.HasField("shape"):
        return Inferred(None, tensor.elem_type)
    return Inferred(tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim), tensor.elem_type)


def check(op: str, documented: Sequence[Shape | None], inferred: Sequence[Inferred]) -> None:
    """Hold our sizes against ONNX'.

    Raises:
        FormulaError: they disagree.
    """
    for ours, theirs in zip(documented, inferred, strict=False):
        if ours is None or theirs.shape is None:
            continue
        same = len(ours) == len(theirs.shape) and all(
            n is None or n == o for o, n in zip(ours, theirs.shape, strict=True)
        )
        if not same:
            raise FormulaError(
                f"{op}: the documented formula gives the size {ours}, ONNX' inference {theirs.shape}. "
                "This is a defect of netgauge; please report it with the node's attributes and input sizes."
            )
