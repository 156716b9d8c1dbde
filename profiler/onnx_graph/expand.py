"""Operators that are defined by other operators: the model's own functions, and some of the standard's."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from onnx import AttributeProto, FunctionProto, NodeProto

from profiler.errors import ModelError
from profiler.onnx_graph.infer import schema
from profiler.onnx_graph.prepare import opsets_of
from profiler.onnx_graph.step import Scope
from profiler.onnx_ops.call import NodeCall
from profiler.onnx_ops.value import Value

if TYPE_CHECKING:
    from profiler.onnx_graph.walk import Walk


def function(
    walk: "Walk",
    node: NodeProto,
    definition: FunctionProto,
    inputs: tuple[Value | None, ...],
    defaults: Sequence[AttributeProto] = (),
) -> list[Value]:
    """Run a function's nodes on the inputs of its call."""
    bound = dict(zip(definition.input, inputs, strict=False))
    values = {name: value for name, value in bound.items() if value is not None}
    arguments = {a.name: a for a in (*defaults, *definition.attribute_proto, *node.attribute)}
    left_out = {name for name in definition.input if name not in values}
    nodes = [_instantiated(inner, arguments, left_out) for inner in definition.node]
    wanted = [name for name, used in zip(definition.output, node.output, strict=False) if used]
    with walk.inside(node):
        made = walk.body(nodes, wanted, Scope(values, opsets_of(definition.opset_import)))
    found = dict(zip(wanted, made, strict=True))
    return [found.get(name, Value(None, 0)) for name in definition.output[: len(node.output)]]


def by_definition(walk: "Walk", call: NodeCall) -> list[Value]:
    """Run an operator as the standard defines it.

    Raises:
        ModelError: the standard's definition needs a size or type that is not known.
    """
    definition: Any = schema(call.node.op_type, call.opset, "")  # its type stub lacks what follows
    body = None
    if definition is not None and definition.has_context_dependent_function:
        types = [b"" if v is None else v.type_proto.SerializeToString() for v in call.inputs]
        version = max(definition.context_dependent_function_opset_versions)
        raw = definition.get_context_dependent_function_with_opset_version(
            version, call.node.SerializeToString(), types
        )
        body = FunctionProto.FromString(raw)
    elif definition is not None and definition.has_function:
        body = definition.function_body
    if body is None or not body.node:
        raise ModelError(f"opset {call.opset} does not define it for these inputs")
    defaults = [a.default_value for a in definition.attributes.values() if a.default_value.name]
    return function(walk, call.node, body, call.inputs, defaults)


def _instantiated(node: NodeProto, arguments: dict[str, AttributeProto], left_out: set[str]) -> NodeProto:
    """A node of a function with the call's attributes in place of the function's, and without inputs left out."""
    refers = any(a.ref_attr_name or a.HasField("g") for a in node.attribute)
    if not refers and not left_out.intersection(node.input):
        return node
    copy = NodeProto()
    copy.CopyFrom(node)
    for n, name in enumerate(copy.input):
        if name in left_out:
            copy.input[n] = ""
    del copy.attribute[:]
    for a in node.attribute:
        if not a.ref_attr_name:
            new = copy.attribute.add()
            new.CopyFrom(a)
            if a.HasField("g"):
                inner = [_instantiated(n, arguments, left_out) for n in a.g.node]
                del new.g.node[:]
                new.g.node.extend(inner)
        elif a.ref_attr_name in arguments:
            new = copy.attribute.add()
            new.CopyFrom(arguments[a.ref_attr_name])
            new.name = a.name
    return copy
