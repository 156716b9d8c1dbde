"""The float model in float16: half the bytes, and on a GPU the arithmetic of its tensor cores.

Inputs and outputs stay float32, so that the file takes the place of the float one; Casts stand where the types meet.
float16 ends at 65504: nodes that were seen to read or write anything near that stay float32, and what goes from one of
them to the next never passes through float16. (The converters of ONNX Runtime and onnxconverter-common make it do so,
which turns it into infinity.) So do operators that ONNX does not define for float16, or that compute nothing in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from profiler.errors import ModelError
from quant.graph import is_float, name_of, to_bytes, values_of, without_traces
from quant.half_types import Slots, slots_of
from quant.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    Batches = Callable[[], Iterable[Mapping[str, NDArray[np.float32]]]]

LARGEST = float(np.finfo(np.float16).max)  # 65504
SMALLEST = float(np.finfo(np.float16).smallest_subnormal)  # 6e-8
MARGIN = 2.0  # what may come that the samples did not show


@dataclass(frozen=True)
class Half:
    """A model in float16.

    Attributes:
        file: the model as an ONNX file; its inputs and outputs are float32.
        kept: names of the nodes that stay float32 because their values would overflow.
    """

    file: bytes = field(repr=False)
    kept: tuple[str, ...]


def to_float16(model: ir.Model, batches: Batches, *, threads: int = 1) -> Half:
    """Bring a float graph to float16.

    Args:
        model: as `quant.graph.prepare` gives it.
        batches: gives a few batches of its inputs, to see which values are too large.
        threads: that one operator may use.

    Raises:
        ModelError: it fails on these batches.
    """
    kept = overflowing(model, batches, threads=threads)
    copy = without_traces(model)
    _Halver(copy, kept).apply()
    return Half(to_bytes(copy), tuple(sorted(kept)))


def overflowing(model: ir.Model, batches: Batches, *, threads: int = 1) -> set[str]:
    """Names of the nodes that read or write finite values beyond float16, or near its end, on these batches."""
    copy = model.clone()
    shown = {name_of(value) for value in (*copy.graph.outputs, *copy.graph.inputs)}
    copy.graph.outputs.extend(v for name, v in values_of(copy.graph).items() if is_float(v) and name not in shown)
    session = open_session(to_bytes(copy), threads=threads)
    large = {
        name for name, value in model.graph.initializers.items() if is_float(value) and _extent(_array(value)) > LARGEST
    }
    for feed in batches():
        found = {**dict(zip(session.output_names, session.run(feed), strict=True)), **feed}
        large |= {name for name, array in found.items() if _extent(array) * MARGIN > LARGEST}
    return {
        node.name or ""
        for node in model.graph
        if large & {name_of(value) for value in (*node.inputs, *node.outputs) if value is not None}
    }


def _extent(array: object) -> float:
    """The largest finite magnitude; infinities, of which masks are made, are the same in float16."""
    if not isinstance(array, np.ndarray) or array.dtype != np.float32:
        return 0.0
    finite = np.abs(array[np.isfinite(array)])
    return float(finite.max()) if finite.size else 0.0


def _array(value: ir.Value) -> NDArray[np.float32]:
    if value.const_value is None:
        raise ModelError(f"constant {value.name!r} has no content")
    return value.const_value.numpy()


def rounded(array: NDArray[np.float32]) -> NDArray[np.float16]:
    """An array in float16, in which what is not zero stays so: an epsilon that became zero would divide by it."""
    half = array.astype(np.float16)
    lost = (half == 0) & (array != 0)
    return np.where(lost, np.copysign(np.float16(SMALLEST), array), half).astype(np.float16)


class _Halver:
    """Turns a graph to float16 in place."""

    def __init__(self, model: ir.Model, kept: set[str]) -> None:
        self.graph = model.graph
        opset = model.opset_imports.get("", 0)
        self.slots = {node: slots_of(node, opset, kept=(node.name or "") in kept) for node in model.graph}
        self.casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}

    def apply(self) -> None:
        nodes = list(self.graph)
        for node in nodes:
            for position, value in enumerate(node.outputs):
                if is_float(value) and self.slots[node].gives_half(position):
                    value.type = ir.TensorType(ir.DataType.FLOAT16)  # a copy's type is the original's own object
        for node in nodes:
            for reader, position, value, wanted in _reads(node, self.slots[node]):
                if value.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16) and value.dtype != wanted:
                    reader.replace_input_with(position, self._cast(value, wanted, node))
        self._outputs()
        for value in list(self.graph.initializers.values()):
            if not value.uses() and not value.is_graph_output():
                del self.graph.initializers[name_of(value)]

    def _cast(self, value: ir.Value, wanted: ir.DataType, reader: ir.Node) -> ir.Value:
        """The value in another type: made once, where it is first read."""
        key = (value, wanted)
        if key not in self.casts:
            name = f"{name_of(value)}_{wanted.name.lower()}"
            if value.is_initializer() and not value.is_graph_input():
                self.casts[key] = _constant(name, rounded(_array(value)))
                self.graph.register_initializer(self.casts[key])
            else:
                cast = _cast_node(value, name, wanted)
                self.graph.insert_before(reader, cast)
                self.casts[key] = cast.outputs[0]
        return self.casts[key]

    def _outputs(self) -> None:
        """Give the graph's outputs in float32, under their own names."""
        for position, value in enumerate(self.graph.outputs):
            if value.dtype == ir.DataType.FLOAT16:
                name = name_of(value)
                value.name = f"{name}_half"
                cast = _cast_node(value, name, ir.DataType.FLOAT)
                self.graph.append(cast)
                self.graph.outputs[position] = cast.outputs[0]


def _reads(node: ir.Node, slots: Slots) -> Iterator[tuple[ir.Node, int, ir.Value, ir.DataType]]:
    """What a node reads and in which type: itself, and in the graphs inside it, which stay float32."""
    for position, value in enumerate(node.inputs):
        if value is not None:
            yield node, position, value, ir.DataType.FLOAT16 if slots.takes_half(position) else ir.DataType.FLOAT
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            for inner in attribute.as_graph().all_nodes():
                for position, value in enumerate(inner.inputs):
                    if value is not None and value.dtype == ir.DataType.FLOAT16:
                        yield inner, position, value, ir.DataType.FLOAT


def _constant(name: str, array: NDArray[np.float16]) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    return ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(ir.DataType.FLOAT16), const_value=tensor)


def _cast_node(value: ir.Value, name: str, wanted: ir.DataType) -> ir.Node:
    output = ir.Value(name=name, shape=value.shape, type=ir.TensorType(wanted))
    return ir.node("Cast", [value], attributes={"to": wanted}, outputs=[output], name=f"{name}_cast")
