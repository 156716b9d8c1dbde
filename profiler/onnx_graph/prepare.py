"""Reads a graph: what it imports, its stored tensors as sizes, its nodes in an order in which they can run."""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, TensorProto, numpy_helper

from profiler.errors import ModelError
from profiler.onnx_graph.names import label
from profiler.onnx_graph.weights import Kinds
from profiler.onnx_ops.value import FLOATS, Value, Weight, bytes_of

# Contents of larger tensors are data, not structure, and are not read.
MOST_INTEGERS = 1 << 16
MOST_FLOATS = 64

FunctionKey = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Program:
    """A model as the walk takes it.

    Attributes:
        model: as it was given.
        opsets: version per domain; the standard domain is "".
        functions: the model's own operators.
        literals: whether `Constant` nodes are numbers in the code: where weights are initializers, they are; some
            exporters write weights as `Constant` nodes too.
    """

    model: onnx.ModelProto
    opsets: Mapping[str, int]
    functions: Mapping[FunctionKey, FunctionProto]
    literals: bool

    @classmethod
    def of(cls, model: onnx.ModelProto) -> "Program":
        """Read a model.

        Raises:
            ModelError: it holds no graph.
        """
        if not model.HasField("graph") or not (model.graph.node or model.graph.output):
            raise ModelError("the ONNX model holds no graph")
        _check_text(model)
        literals = any(t.data_type in FLOATS and prod(t.dims) > 1 for g in graphs(model) for t in g.initializer)
        functions = {(domain_of(f.domain), f.name, f.overload): f for f in model.functions}
        return cls(model, opsets_of(model.opset_import), functions, literals)


def _check_text(model: onnx.ModelProto) -> None:
    """Protobuf hands out bytes where what should be text is none.

    Raises:
        ModelError: a name is no text.
    """
    texts: list[object] = [o.domain for o in model.opset_import]
    for p in (*model.metadata_props, *model.graph.metadata_props):
        texts += [p.key, p.value]
    for graph in graphs(model):
        for named in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
            texts.append(named.name)
        for info in graph.value_info:
            texts += [text for p in info.metadata_props for text in (p.key, p.value)]
    for node in (*(n for g in graphs(model) for n in g.node), *(n for f in model.functions for n in f.node)):
        texts += [node.name, node.op_type, node.domain, *node.input, *node.output, *(a.name for a in node.attribute)]
        texts += [text for p in node.metadata_props for text in (p.key, p.value)]
    if not all(isinstance(text, str) for text in texts):
        raise ModelError("names in the graph are no text; the file is damaged")


def graphs(model: onnx.ModelProto) -> Iterator[GraphProto]:
    """The graph and all those inside it."""
    waiting = [model.graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        waiting += [inner for node in graph.node if node.attribute for inner in subgraphs(node)]


def opsets_of(imports: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    """Version per domain."""
    return {domain_of(o.domain): o.version for o in imports}


def domain_of(domain: str) -> str:
    """The standard domain has two names."""
    return "" if domain == "ai.onnx" else domain


def operator_name(node: NodeProto) -> str:
    """The key in the table of operators."""
    domain = domain_of(node.domain)
    return f"{domain}.{node.op_type}" if domain else node.op_type


def stored(tensor: TensorProto, name: str, kind: str = "", *, literal: bool = False) -> Value:
    """A stored tensor as a value: its size, and its contents where they are small and in the file.

    Args:
        tensor: may lie outside the file.
        name: what the graph calls it.
        kind: what `Kinds` says of it.
        literal: whether it is written into the graph as a number, and is no parameter.
    """
    shape, dtype = tuple(tensor.dims), tensor.data_type
    if any(n < 0 for n in shape):
        raise ModelError(f"tensor {name!r} has the impossible size {shape}")
    elements, floating = prod(shape), dtype in FLOATS
    array = None
    outside = tensor.data_location == TensorProto.EXTERNAL
    if not outside and elements <= (MOST_FLOATS if floating else MOST_INTEGERS):
        try:
            array = np.asarray(numpy_helper.to_array(tensor))
        except (ValueError, TypeError, NotImplementedError, KeyError, AttributeError) as error:
            raise ModelError(f"tensor {name!r}: its contents do not fit its size {shape} ({error})") from error
    weights = () if literal else (Weight(name, elements, bytes_of(elements, dtype), kind, floating),)
    return Value(shape, dtype, array, constant=True, weights=weights)


def initializers(graph: GraphProto, kinds: Kinds) -> dict[str, Value]:
    """The stored tensors of a graph by name."""
    values = {t.name: stored(t, t.name, kinds.of(t.name)) for t in graph.initializer}
    for sparse in graph.sparse_initializer:
        dense = TensorProto(name=sparse.values.name, dims=sparse.dims, data_type=sparse.values.data_type)
        dense.data_location = TensorProto.EXTERNAL  # its contents are not laid out densely
        values[sparse.values.name] = stored(dense, dense.name)
    return values


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs that a node holds."""
    for a in node.attribute:
        if a.type == AttributeProto.GRAPH:
            yield a.g
        elif a.type == AttributeProto.GRAPHS:
            yield from a.graphs


def reads(node: NodeProto) -> set[str]:
    """Names that a node reads: its inputs, and what the graphs inside it take from outside."""
    names = {name for name in node.input if name}
    for graph in subgraphs(node):
        inner = {i.name for i in (*graph.input, *graph.initializer)}
        inner |= {name for n in graph.node for name in n.output}
        wanted = {o.name for o in graph.output}.union(*(reads(n) for n in graph.node))
        names |= wanted - inner
    return names


def ordered(nodes: Sequence[NodeProto], known: Iterable[str]) -> list[NodeProto]:
    """The nodes in an order in which each one's inputs have been made.

    Raises:
        ModelError: an input is made by no node, two nodes make the same, or nodes wait for each other.
    """
    made = set(known)
    _check_once(nodes, made)
    wanted = [reads(node) - made for node in nodes]
    makers = {name: n for n, node in enumerate(nodes) for name in node.output if name}
    missing = [len({makers.get(name, -1) for name in names}) for names in wanted]
    readers: dict[int, list[int]] = {}
    for n, names in enumerate(wanted):
        for maker in {makers.get(name, -1) for name in names}:
            readers.setdefault(maker, []).append(n)
    ready = [n for n, count in enumerate(missing) if not count]  # sorted, and so a heap
    order = []
    while ready:
        n = heapq.heappop(ready)
        order.append(n)
        for reader in readers.get(n, ()):
            missing[reader] -= 1
            if not missing[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(nodes):
        made.update(name for n in order for name in nodes[n].output)
        raise ModelError(_stuck([nodes[n] for n in sorted(set(range(len(nodes))) - set(order))], made))
    return [nodes[n] for n in order]


def _check_once(nodes: Sequence[NodeProto], known: set[str]) -> None:
    seen = set(known)
    for node in nodes:
        for name in node.output:
            if name and name in seen:
                raise ModelError(f"{label(node)} makes {name!r}, which is there already; the graph is damaged")
            seen.add(name)


def _stuck(nodes: Sequence[NodeProto], known: set[str]) -> str:
    makers = {name for node in nodes for name in node.output}
    for node in nodes:
        missing = sorted(reads(node) - known - makers)
        if missing:
            return f"{label(node)} reads {missing[0]!r}, which no node makes and the graph neither takes nor stores"
    return f"{label(nodes[0])} waits for its own result: the graph has a cycle"
