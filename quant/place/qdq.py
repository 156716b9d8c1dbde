"""Writing a plan into a graph as QuantizeLinear / DequantizeLinear pairs.

The result is a standard ONNX file that any runtime can execute; ONNX Runtime replaces every pattern DQ -> node -> Q
that it has an int8 kernel for. Weights are stored as int8 and biases as int32 with scale x_scale * w_scale, which is
what the kernels accumulate in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from quant.affine import Range, activation_grid, quantize
from quant.graph import constant, name_of, values_of
from quant.place import dynamic
from quant.place.editor import Editor
from quant.place.integers import Integers, QuantizedWeight, activation_grids, quantize_weights
from quant.place.plan import Mode, Operands, Plan, Quantized

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quant.affine import Floats, Grid
    from quant.correct.weights import WeightScale


def apply(
    plan: Plan, model: ir.Model, ranges: Mapping[str, Range], *, weight_scale: WeightScale | None = None
) -> ir.Model:
    """Quantize a model as planned.

    Args:
        plan: from `quant.place.cpu`.
        model: the float model that the plan was made for; it is left as it is.
        ranges: of every tensor in `plan.observed`.
        weight_scale: how the scales of the weights are chosen; `quant.correct.weights.max_scale` if None.
    """
    grids = activation_grids(plan, ranges)
    return insert(plan, model, grids, quantize_weights(plan, model.graph, grids, scale=weight_scale))


def insert(plan: Plan, model: ir.Model, grids: Mapping[str, Grid], weights: Mapping[str, QuantizedWeight]) -> ir.Model:
    """A copy of a model that computes with these integers."""
    copy = model.clone()
    _Writer(copy.graph, plan).write(grids, weights)
    if dynamic.write(copy.graph, plan, weights):
        copy.opset_imports[dynamic.CONTRIB] = 1
    copy.graph.sort()
    RemoveUnusedNodesPass()(copy)
    return copy


class _Writer:
    """Puts a plan's grids into one graph."""

    def __init__(self, graph: ir.Graph, plan: Plan) -> None:
        self.graph = graph
        self.plan = plan
        self.editor = Editor(graph)
        self.quantized: dict[str, ir.Value] = {}
        self.stored: dict[tuple[str, bytes, bytes], ir.Value] = {}

    def write(self, grids: Mapping[str, Grid], weights: Mapping[str, QuantizedWeight]) -> None:
        nodes, values = list(self.graph), values_of(self.graph)
        for name, tensor in self.plan.tensors.items():
            if tensor.factor is None:
                self._pair(values[name], grids[name])
            else:
                self._rescale(values[name], tensor, grids[name])
        for node in nodes:
            decision = self.plan.decision(node)
            if decision.mode is Mode.STATIC and decision.operands is not None:
                self._constants(node, decision.operands, weights.get(node.name or ""))

    def _pair(self, value: ir.Value, grid: Grid) -> None:
        """Put Q and DQ behind a tensor; all its readers then read the DQ, or the int8 ones if float wrote it."""
        name = name_of(value)
        producer = value.producer()
        from_int8 = self.plan.decision(producer).mode in {Mode.STATIC, Mode.ABSORBED}
        readers = [(use.node, use.idx) for use in value.uses() if from_int8 or self._reads_int8(use.node, use.idx)]
        scale, zero_point = self._grid(name, grid)
        inputs = [value, scale, zero_point]
        quantized = self.editor.node(
            "QuantizeLinear", inputs, f"{name}_quantized", dtype=ir.DataType.UINT8, shape=value.shape, like=producer
        )
        restored = self._dequantize(quantized, scale, zero_point, f"{name}_dequantized", producer)
        for user, position in readers:
            channels = 0 if self.plan.decision(user).kernel == "int8" or position else _channels_read(user)
            shielded = self._shielded(quantized, grid, channels, name) if channels else None
            user.replace_input_with(position, shielded or restored)
        if from_int8 and value.is_graph_output():
            self.graph.outputs[self.graph.outputs.index(value)] = restored
            value.name = self.editor.fresh(f"{name}_float")
            restored.name = name
        self.quantized[name] = quantized

    def _shielded(self, quantized: ir.Value, grid: Grid, channels: int, name: str) -> ir.Value:
        """A DQ for a float node that ONNX Runtime must leave float.

        A Conv, ConvTranspose or Gemm with float weights between a DQ and a Q gets its weights quantized while the file
        loads, with one scale for all channels; but not behind a DQ with a scale per channel, though all be the same.
        """
        scale = self.editor.initializer(f"{name}_scales", np.full(channels, grid.scale, np.float32))
        zero_point = self.editor.initializer(f"{name}_zero_points", np.full(channels, grid.zero_point, np.uint8))
        return self._dequantize(quantized, scale, zero_point, f"{name}_float_copy", None, axis=1)

    def _rescale(self, value: ir.Value, tensor: Quantized, grid: Grid) -> None:
        """Replace a multiplication by reading its input's integers on a scaled grid."""
        quantized = self.quantized[tensor.like]
        scale, zero_point = self._grid(tensor.name, grid)
        name = f"{tensor.name}_dequantized"
        producer = value.producer()
        restored = self._dequantize(quantized, scale, zero_point, name, producer)
        if producer is not None:
            self.editor.replace(producer, restored)
        self.quantized[tensor.name] = quantized

    def _constants(self, node: ir.Node, operands: Operands, weight: QuantizedWeight | None) -> None:
        for position in operands.activations:
            values = constant(node.inputs[position])
            if values is not None:
                self._store(node, position, _constant_activation(values))
        if weight is not None and operands.weight is not None:
            self._store(node, operands.weight, weight.weight)
            if weight.bias is not None and operands.bias is not None:
                self._store(node, operands.bias, weight.bias)

    def _store(self, node: ir.Node, position: int, integers: Integers) -> None:
        """Replace a constant operand by integers and a DQ, one for all nodes that share them."""
        original = node.inputs[position]
        name = name_of(original)
        key = (name, integers.values.tobytes(), integers.scale.tobytes())
        if key not in self.stored:
            stored = self.editor.initializer(f"{name}_quantized", integers.values)
            scale = self.editor.initializer(f"{name}_scale", integers.scale)
            zero_point = self.editor.initializer(f"{name}_zero_point", integers.zero_point)
            self.stored[key] = self._dequantize(stored, scale, zero_point, f"{name}_dequantized", node, integers.axis)
        node.replace_input_with(position, self.stored[key])

    def _grid(self, name: str, grid: Grid) -> tuple[ir.Value, ir.Value]:
        scale = self.editor.initializer(f"{name}_scale", np.array(grid.scale, np.float32))
        return scale, self.editor.initializer(f"{name}_zero_point", np.array(grid.zero_point, np.uint8))

    def _dequantize(
        self,
        integers: ir.Value,
        scale: ir.Value,
        zero_point: ir.Value,
        name: str,
        like: ir.Node | None,
        axis: int | None = None,
    ) -> ir.Value:
        attributes = {"axis": axis} if axis is not None else None
        inputs = [integers, scale, zero_point]
        return self.editor.node(
            "DequantizeLinear", inputs, name, shape=integers.shape, attributes=attributes, like=like
        )

    def _reads_int8(self, user: ir.Node, position: int) -> bool:
        decision = self.plan.decision(user)
        return (
            decision.mode is Mode.STATIC and decision.operands is not None and position in decision.operands.activations
        )


def _channels_read(node: ir.Node) -> int:
    """How many channels a node with weights reads along axis 1; 0 for nodes that ONNX Runtime leaves as they are."""
    shape = node.inputs[1].shape if len(node.inputs) > 1 and node.inputs[1] is not None else None
    axes = {"Conv": 1, "ConvTranspose": 0, "Gemm": 1 if node.attributes.get_int("transB", 0) else 0}
    size = shape[axes[node.op_type]] if shape is not None and node.op_type in axes else 0
    if not isinstance(size, int) or node.attributes.get_int("transA", 0) != 0:
        return 0
    return size * node.attributes.get_int("group", 1) if node.op_type == "Conv" else size


def _constant_activation(values: Floats) -> Integers:
    grid = activation_grid(Range.around(values.min(), values.max()))
    scale, zero_point = np.array(grid.scale, np.float32), np.array(grid.zero_point, np.uint8)
    return Integers(quantize(values, scale, zero_point, np.uint8), scale, zero_point)
