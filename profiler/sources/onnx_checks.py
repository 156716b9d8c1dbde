"""What an ONNX graph may ask for, checked on the parsed file before anything walks through it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from math import prod
from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, numpy_helper

from profiler.errors import ModelError
from profiler.onnx_ops.value import BITS, bytes_of
from profiler.sources.limits import Limits
from profiler.sources.onnx_parts import FunctionKey, Parts, is_outside, key_of, parts_of

# Operators that make a tensor of a size that the file may state: the input that it is.
_MADE = {"ConstantOfShape": 0, "Expand": 1}
# Those that have it as their attribute `shape`.
_RANDOM = frozenset(("RandomNormal", "RandomUniform"))
_MOST_AXES = 64


def check_graph(model: ModelProto, path: Path | str, limits: Limits) -> Parts:
    """Refuse a graph that is damaged or asks for too much.

    Args:
        model: as it was parsed.
        path: its file, for messages.
        limits: how much it may ask for.

    Returns:
        What the graph is made of.

    Raises:
        ModelError: it holds no graph, names a tensor twice, calls a function inside itself, ...
        RefusedError: it is beyond a limit.
    """
    where = str(path)
    if model.training_info:
        raise ModelError(f"{where}: holds steps of a training (training_info); export the network for inference")
    if not model.graph.node:
        raise ModelError(f"{where}: holds no ONNX graph")
    parts = parts_of(model, limits, where)
    _check_names(model, parts, where, limits)
    if model.functions:
        _check_functions(model, parts, where, limits)
    for _, graph in parts.graphs:
        _check_once(graph, where)
        for maker, sizes in made_sizes(graph):
            _elements(sizes, f"{where}: {maker}", limits)
        for sparse in graph.sparse_initializer:
            _elements(sparse.dims, f"{where}: tensor {sparse.values.name!r}", limits)
    for name, tensor in parts.tensors:
        _check_tensor(name, tensor, where, limits)
    return parts


def _check_names(model: ModelProto, parts: Parts, where: str, limits: Limits) -> None:
    """Names are text, and no longer than anybody would read.

    Protobuf hands out bytes where what should be text is none.
    """
    for name in chain(_names(model, parts), _node_names(parts), _tensor_names(parts)):
        if not isinstance(name, str):
            raise ModelError(f"{where}: names in the graph are no text; the file is damaged")
        if len(name) * 4 > limits.name_bytes:  # else it cannot be too long
            limits.check("name_bytes", len(name.encode()), where)
    if not all(node.op_type for node in parts.nodes):
        raise ModelError(f"{where}: has nodes without an operator; it is damaged, or no ONNX model")


def _names(model: ModelProto, parts: Parts) -> Iterator[object]:
    for imported in model.opset_import:
        yield imported.domain
    for _, graph in parts.graphs:
        yield graph.name
        for info in (*graph.input, *graph.output, *graph.value_info):
            yield from _declared(info)
    for function in model.functions:
        yield from (function.name, function.domain, getattr(function, "overload", ""))
        yield from (*function.input, *function.output, *function.attribute)


def _node_names(parts: Parts) -> Iterator[object]:
    for node in parts.nodes:
        yield from (node.name, node.op_type, node.domain)
        yield from node.input
        yield from node.output
    for a in parts.attributes:
        yield from (a.name, a.ref_attr_name)


def _tensor_names(parts: Parts) -> Iterator[object]:
    for name, tensor in parts.tensors:
        yield from (name, tensor.name)
        for entry in tensor.external_data if is_outside(tensor) else ():
            yield from (entry.key, entry.value)


def _declared(info: ValueInfoProto) -> Iterator[object]:
    yield info.name
    for dim in info.type.tensor_type.shape.dim:
        yield dim.dim_param


def _check_functions(model: ModelProto, parts: Parts, where: str, limits: Limits) -> None:
    """Functions call each other in no circle, and written out they come to no more nodes than a graph may have.

    A few functions that each call the next one twice stand for more nodes than any machine can walk through.
    """
    keys = [key_of(function) for function in model.functions]
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if twice:
        raise ModelError(f"{where}: defines the function {twice[0][1]!r} twice")
    main, *others = parts.bodies
    bodies = dict(zip(keys, others, strict=True))
    calls = {key: Counter(k for n in nodes if (k := key_of(n)) in bodies) for key, nodes in bodies.items()}
    try:
        order: Sequence[FunctionKey] = tuple(TopologicalSorter(calls).static_order())
    except CycleError as error:
        raise ModelError(f"{where}: the function {error.args[1][0][1]!r} calls itself") from error
    size: dict[FunctionKey, int] = {}
    depth: dict[FunctionKey, int] = {}
    for key in order:
        size[key] = len(bodies[key]) + sum(size[called] * times for called, times in calls[key].items())
        depth[key] = 1 + max((depth[called] for called in calls[key]), default=0)
        limits.check("nodes", size[key], f"{where}, its function {key[1]!r} written out")
        limits.check("nesting", depth[key], f"{where}, its function {key[1]!r}")
    whole = len(main) + sum(size.get(key_of(node), 0) for node in main)
    limits.check("nodes", whole, f"{where}, its functions written out")


def _check_once(graph: GraphProto, where: str) -> None:
    """No two inputs, stored tensors or results of a graph share a name; a stored tensor may be an input's default."""
    stored = [*(t.name for t in graph.initializer), *(s.values.name for s in graph.sparse_initializer)]
    made = [name for node in graph.node for name in node.output if name]
    inputs = [i.name for i in graph.input]
    for names in (inputs, stored, [*made, *{*inputs, *stored}]):
        if len(set(names)) < len(names):
            name = Counter(names).most_common(1)[0][0]
            raise ModelError(f"{where}: the graph has two tensors named {name!r}; it is damaged")


def _check_tensor(name: str, tensor: TensorProto, where: str, limits: Limits) -> None:
    what = f"{where}: tensor {name!r}"
    if tensor.data_type not in BITS:
        raise ModelError(f"{what} has elements of the unknown type {tensor.data_type}; is the file damaged?")
    elements = _elements(tensor.dims, what, limits)
    there, wanted = _contents(tensor, elements)
    if there not in (0, wanted):
        raise ModelError(f"{what}: what is stored does not fit its size {tuple(tensor.dims)}; the file is damaged")


def _contents(tensor: TensorProto, elements: int) -> tuple[int, int]:
    """How much a tensor holds in the file, as bytes or numbers, and how much that should be."""
    size = bytes_of(elements, tensor.data_type)
    if is_outside(tensor) or tensor.HasField("segment"):
        return 0, 0
    if tensor.raw_data:
        return len(tensor.raw_data), size
    field = onnx.helper.tensor_dtype_to_field(tensor.data_type)
    bits = BITS[tensor.data_type]
    packed = size if 0 < bits < 8 else elements * 2 if field.startswith(("float", "double")) and bits > 64 else elements
    return len(getattr(tensor, field)), packed


def check_complete(parts: Parts, path: Path | str) -> None:
    """Refuse a graph that cannot run because tensors are left out of it; its sizes may be all there.

    Raises:
        ModelError: one has no contents, neither in the file nor in another.
    """
    for name, tensor in parts.tensors:
        there, wanted = _contents(tensor, prod(tensor.dims))
        if there != wanted or tensor.HasField("segment"):
            raise ModelError(f"{path}: tensor {name!r} has no contents; the file holds the graph without its weights")


def _elements(sizes: Iterable[int], what: str, limits: Limits) -> int:
    """Elements of a size that a file states, which may be anything."""
    sizes = tuple(sizes)
    if len(sizes) > _MOST_AXES or any(n < 0 for n in sizes):
        raise ModelError(f"{what} has the impossible size {sizes[:8]}")
    count = prod(sizes)
    limits.check("elements", count, what)
    return count


def made_sizes(graph: GraphProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Sizes that stand in the file as numbers, and the node that makes a tensor of it.

    A node of a few bytes may ask for terabytes.
    """
    makers = [node for node in graph.node if node.op_type in _MADE or node.op_type in _RANDOM]
    if not makers:
        return
    small = {t.name: t for t in graph.initializer}
    for node in graph.node:
        for a in node.attribute if node.op_type == "Constant" else ():
            if a.HasField("t") and node.output:
                small[node.output[0]] = a.t
    for node in makers:
        at = _MADE.get(node.op_type, len(node.input))
        sizes = _numbers(small.get(node.input[at])) if at < len(node.input) else ()
        for a in node.attribute if node.op_type in _RANDOM else ():
            sizes = tuple(a.ints) if a.name == "shape" else sizes
        if all(n >= 0 for n in sizes):
            name = node.name or next(iter(node.output), "")
            yield f"node {name!r} ({node.op_type})", sizes


def _numbers(tensor: TensorProto | None) -> tuple[int, ...]:
    """Integers of a small tensor that is in the file; nothing for any other."""
    if tensor is None or is_outside(tensor) or tensor.data_type != TensorProto.INT64 or len(tensor.dims) != 1:
        return ()
    if not 0 < tensor.dims[0] <= _MOST_AXES:
        return ()
    try:
        return tuple(int(n) for n in numpy_helper.to_array(tensor))
    except ValueError:
        return ()
