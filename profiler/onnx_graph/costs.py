"""What each node of an ONNX graph computes, and how many bytes each of its tensors has: `analyze_onnx` by node.

The rows of a profile bear the names of layers; whoever has measured the nodes themselves needs the figures by node.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx
from onnx import NodeProto

from profiler.onnx_graph.inputs import Given, bind_inputs, declared_shape
from profiler.onnx_graph.names import Names
from profiler.onnx_graph.prepare import Program, initializers
from profiler.onnx_graph.step import Scope, Step
from profiler.onnx_graph.walk import Walk
from profiler.onnx_graph.weights import Kinds
from profiler.onnx_ops.value import Value


@dataclass(frozen=True, slots=True)
class NodeCosts:
    """Figures of the nodes of a graph; what a node holds inside (branches, bodies, functions) counts as its own.

    Attributes:
        macs: multiply-accumulates, by the name of the node's first output.
        tensor_bytes: of every tensor of the main graph, by name; 0 where the size is not known.
        views: first outputs of the nodes that move nothing.
        uncounted: operator -> how many nodes have no formula or no known size.
    """

    macs: Mapping[str, int]
    tensor_bytes: Mapping[str, int]
    views: frozenset[str]
    uncounted: Mapping[str, int]


@dataclass(slots=True)
class _Walk(Walk):
    """Remembers in which node of the main graph it is."""

    outer: str = ""
    sizes: dict[str, int] = field(default_factory=dict)

    def node(self, node: NodeProto, scope: Scope) -> list[Value]:
        main = self.depth == 0
        if main:
            self.outer = first_output(node)
        values = Walk.node(self, node, scope)  # a class with slots is made anew: super() would not find it
        if main:
            self.sizes.update((name, value.bytes) for name, value in zip(node.output, values, strict=False))
        return values


def first_output(node: NodeProto) -> str:
    """The name that stands for a node: of the first tensor that it writes, which no other node writes."""
    return next((name for name in node.output if name), "")


def node_costs(model: onnx.ModelProto, inputs: Given = (), *, dims: Mapping[str, int] | None = None) -> NodeCosts:
    """Count what each node of a graph computes, as `analyze_onnx` does; arguments and errors are its."""
    program, kinds, sizes = Program.of(model), Kinds.of_model(model), dict(dims or {})
    values = bind_inputs(model.graph, inputs, sizes)
    macs: Counter[str] = Counter()
    uncounted: Counter[str] = Counter()
    views: set[str] = set()
    declared = {v.name: shape for v in model.graph.value_info if (shape := declared_shape(v.type, sizes)) is not None}

    def visit(step: Step) -> None:
        macs[walk.outer] += step.macs
        if step.operator is not None and step.operator.view:
            views.add(walk.outer)
        if step.status == "uncounted":
            uncounted[step.call.op] += step.times

    walk = _Walk(program, visit, (), declared, kinds, names=Names())
    for value in values.values():
        value.reached, value.memory = False, walk.memory.allocate(value.bytes)
    known = {**initializers(model.graph, kinds), **values}
    walk.sizes.update((name, value.bytes) for name, value in known.items())
    walk.body(model.graph.node, [o.name for o in model.graph.output], Scope(known, program.opsets))
    return NodeCosts(dict(macs), dict(walk.sizes), frozenset(views), dict(uncounted))


def node_layers(nodes: Sequence[NodeProto]) -> list[str]:
    """The layer that each node belongs to, by the names of `analyze_onnx`'s rows; a node's own name in the root."""
    names = Names()
    return [names.of(node).name or node.name or first_output(node) for node in nodes]
