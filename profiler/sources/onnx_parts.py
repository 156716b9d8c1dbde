"""What an ONNX model is made of, wherever in the file it stands: its graphs, nodes and stored tensors.

Nothing here believes an attribute's declared type: whatever is in the file is found, also where a reader that goes by
the type would pass it over.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto

from profiler.sources.limits import Limits

FunctionKey = tuple[str, str, str]


def _fields(*names: str) -> frozenset[object]:
    return frozenset(AttributeProto.DESCRIPTOR.fields_by_name[name] for name in names)


_TENSORS = _fields("t", "tensors", "sparse_tensor", "sparse_tensors")
_GRAPHS = _fields("g", "graphs")


@dataclass(slots=True)
class Parts:
    """The parts of a model.

    Attributes:
        graphs: every graph with its depth: the main one is at 0, those that its nodes hold at 1.
        bodies: the nodes of the main graph, then those of each function, nodes of inner graphs included.
        attributes: of all these nodes.
        tensors: every stored tensor with its name; the parts of sparse ones and those in attributes included.
    """

    graphs: list[tuple[int, GraphProto]] = field(default_factory=list)
    bodies: list[list[NodeProto]] = field(default_factory=list)
    attributes: list[AttributeProto] = field(default_factory=list)
    tensors: list[tuple[str, TensorProto]] = field(default_factory=list)

    @property
    def nodes(self) -> Iterator[NodeProto]:
        """Every node."""
        return chain.from_iterable(self.bodies)


def parts_of(model: ModelProto, limits: Limits | None = None, where: str = "") -> Parts:
    """Go through a model once.

    Args:
        model: as it was parsed.
        limits: on nodes, tensors and nesting; None for a model that has been checked.
        where: its file, for messages.

    Raises:
        RefusedError: there are more of them.
    """
    parts = Parts()
    count = _Count(limits, where)
    parts.bodies.append(_body(model.graph, 0, parts, count))
    for function in model.functions:
        count.nodes(len(function.node))
        nodes = list(function.node)
        for graph in _found(nodes, parts):
            nodes += _body(graph, 1, parts, count)
        parts.bodies.append(nodes)
        parts.tensors += [(t.name or function.name, t) for a in function.attribute_proto for t in attribute_tensors(a)]
    count.tensors(len(parts.tensors))
    return parts


class _Count:
    """Holds what was found so far against the limits, before anything is done for each of it."""

    def __init__(self, limits: Limits | None, where: str) -> None:
        self._limits, self._where = limits, where
        self._nodes = 0

    def nodes(self, number: int) -> None:
        self._nodes += number
        if self._limits is not None:
            self._limits.check("nodes", self._nodes, self._where)

    def tensors(self, number: int) -> None:
        if self._limits is not None:
            self._limits.check("tensors", number, self._where)

    def nesting(self, depth: int) -> None:
        if self._limits is not None:
            self._limits.check("nesting", depth, self._where)


def _body(graph: GraphProto, depth: int, parts: Parts, count: _Count) -> list[NodeProto]:
    """The nodes of a graph and of those inside it."""
    found: list[NodeProto] = []
    waiting = [(depth, graph)]
    while waiting:
        at, graph = waiting.pop()
        count.nesting(at)
        count.nodes(len(graph.node))
        count.tensors(len(parts.tensors) + len(graph.initializer) + len(graph.sparse_initializer))
        parts.graphs.append((at, graph))
        parts.tensors += [(tensor.name, tensor) for tensor in graph.initializer]
        for sparse in graph.sparse_initializer:
            parts.tensors += [(sparse.values.name, part) for part in (sparse.values, sparse.indices)]
        nodes = list(graph.node)
        found += nodes
        waiting += [(at + 1, inner) for inner in _found(nodes, parts)]
    return found


def _found(nodes: Iterable[NodeProto], parts: Parts) -> list[GraphProto]:
    """Note the attributes of nodes and the tensors in them; the graphs in them."""
    inner: list[GraphProto] = []
    for node in nodes:
        for a in node.attribute:
            parts.attributes.append(a)
            filled = {descriptor for descriptor, _ in a.ListFields()}  # faster than to ask for each
            if not _GRAPHS.isdisjoint(filled):
                inner += [*([a.g] if a.HasField("g") else []), *a.graphs]
            if not _TENSORS.isdisjoint(filled):
                name = next(iter(node.output), "") or node.name
                parts.tensors += [(tensor.name or name, tensor) for tensor in attribute_tensors(a)]
    return inner


def key_of(part: FunctionProto | NodeProto) -> FunctionKey:
    """What a function is called by: domain, name and overload; the same for a node that may call one."""
    domain = "" if part.domain == "ai.onnx" else part.domain
    name = part.op_type if isinstance(part, NodeProto) else part.name
    return domain, name, getattr(part, "overload", "")


def attribute_tensors(attribute: AttributeProto) -> Iterator[TensorProto]:
    """The tensors that an attribute holds."""
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
    for one in (*sparse, *attribute.sparse_tensors):
        yield one.values
        yield one.indices


def is_outside(tensor: TensorProto) -> bool:
    """Whether a tensor's elements are kept in another file."""
    return bool(tensor.data_location == TensorProto.EXTERNAL)
