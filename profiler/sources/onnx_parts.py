"""What an ONNX model is made of, wherever in the file it stands: its graphs, nodes and stored tensors.

Nothing here believes an attribute's declared type: whatever is in the file is found, also where a reader that goes by
the type would pass it over.
"""

from collections.abc import Iterable, Iterator

from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto

FunctionKey = tuple[str, str, str]


def key_of(part: FunctionProto | NodeProto) -> FunctionKey:
    """What a function is called by: domain, name and overload; the same for a node that may call one."""
    domain = "" if part.domain == "ai.onnx" else part.domain
    name = part.op_type if isinstance(part, NodeProto) else part.name
    return domain, name, getattr(part, "overload", "")


def graphs_in(nodes: Iterable[NodeProto], depth: int = 1) -> Iterator[tuple[int, GraphProto]]:
    """The graphs that nodes hold, and those inside these, with their depth."""
    waiting = [(depth, graph) for node in nodes for graph in _held(node)]
    while waiting:
        at, graph = waiting.pop()
        yield at, graph
        waiting += [(at + 1, inner) for node in graph.node for inner in _held(node)]


def graphs_of(model: ModelProto) -> Iterator[tuple[int, GraphProto]]:
    """Every graph of a model, the main one at depth 0, those in functions included."""
    yield 0, model.graph
    yield from graphs_in(model.graph.node)
    for function in model.functions:
        yield from graphs_in(function.node)


def nodes_of(model: ModelProto) -> Iterator[NodeProto]:
    """Every node of a model, those of subgraphs and functions included."""
    for _, graph in graphs_of(model):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def tensors_of(model: ModelProto) -> Iterator[tuple[str, TensorProto]]:
    """Every stored tensor of a model with its name, the parts of sparse ones and those in attributes included."""
    for _, graph in graphs_of(model):
        for tensor in graph.initializer:
            yield tensor.name, tensor
        for sparse in graph.sparse_initializer:
            yield sparse.values.name, sparse.values
            yield sparse.values.name, sparse.indices
    for node in nodes_of(model):
        for a in node.attribute:
            for tensor in attribute_tensors(a):
                yield tensor.name or next(iter(node.output), "") or node.name, tensor
    for function in model.functions:
        for a in function.attribute_proto:
            for tensor in attribute_tensors(a):
                yield tensor.name or function.name, tensor


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


def _held(node: NodeProto) -> Iterator[GraphProto]:
    for a in node.attribute:
        if a.HasField("g"):
            yield a.g
        yield from a.graphs
