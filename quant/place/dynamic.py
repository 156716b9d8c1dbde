"""Writing dynamic nodes: products and recurrences that find the grid of their input anew in every run.

A MatMul becomes DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul (-> Add), all standard ONNX, which ONNX Runtime
fuses into one DynamicQuantizeMatMul. An LSTM becomes ONNX Runtime's own DynamicQuantizeLSTM, for which there is no
standard form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from quant.correct.weights import max_scale, round_weight
from quant.graph import has_input, name_of, required_constant
from quant.place.editor import Editor
from quant.place.plan import Mode

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from quant.affine import Floats
    from quant.place.integers import Integers, QuantizedWeight
    from quant.place.plan import Plan

CONTRIB = "com.microsoft"


def write(graph: ir.Graph, plan: Plan, weights: Mapping[str, QuantizedWeight]) -> bool:
    """Replace a plan's dynamic nodes in place; whether the result needs ONNX Runtime's own operators."""
    writer = _Writer(Editor(graph))
    modes = {node: plan.decision(node).mode for node in graph}
    dynamic = [node for node, mode in modes.items() if mode is Mode.DYNAMIC]
    for node in dynamic:
        if node.op_type == "LSTM":
            writer.recurrence(node)
        else:
            writer.product(node, weights[node.name or ""].weight)
    return any(node.op_type == "LSTM" for node in dynamic)


class _Writer:
    """Writes into one graph; tensors that several products read are quantized once."""

    def __init__(self, editor: Editor) -> None:
        self.editor = editor
        self.quantized: dict[ir.Value | None, list[ir.Value]] = {}

    def product(self, node: ir.Node, weight: Integers) -> None:
        """Replace a MatMul or Gemm: y = x_scale w_scale ((q_x - z_x) q_w) + bias."""
        name, editor = name_of(node.outputs[0]), self.editor
        x, x_scale, x_zero_point = self._quantize(node.inputs[0], node)
        transposed = node.op_type == "Gemm" and node.attributes.get_int("transB", 0) != 0
        integers = np.ascontiguousarray(weight.values.T) if transposed else weight.values
        weight_name = name_of(node.inputs[1])
        w = editor.initializer(f"{weight_name}_quantized", integers)
        w_zero_point = editor.initializer(f"{weight_name}_zero_point", weight.zero_point)
        w_scale = editor.initializer(f"{weight_name}_scale", weight.scale)
        inputs = [x, w, x_zero_point, w_zero_point]
        summed = editor.node("MatMulInteger", inputs, f"{name}_integer", dtype=ir.DataType.INT32, like=node)
        cast = editor.node("Cast", [summed], f"{name}_cast", attributes={"to": int(ir.DataType.FLOAT)}, like=node)
        scale = editor.node("Mul", [x_scale, w_scale], f"{name}_scale", like=node)
        result = editor.node("Mul", [cast, scale], f"{name}_scaled", like=node)
        if has_input(node, 2):
            result = editor.node("Add", [result, node.inputs[2]], f"{name}_biased", like=node)
        editor.replace(node, result)

    def recurrence(self, node: ir.Node) -> None:
        """Replace an LSTM. Its weights have scales per gate and hidden unit."""
        names = [name_of(value) for value in node.inputs]
        inputs = [*node.inputs, *[None] * (8 - len(node.inputs))]
        grids = []
        for position in (1, 2):
            values, scale = _lstm_weight(required_constant(node, position))
            inputs[position] = self.editor.initializer(f"{names[position]}_quantized", values)
            grids.append(self.editor.initializer(f"{names[position]}_scale", scale))
            grids.append(self.editor.initializer(f"{names[position]}_zero_point", np.zeros(scale.shape, np.int8)))
        outputs = [
            ir.Value(name=self.editor.fresh(f"{name_of(old)}_int8"), shape=old.shape, type=old.type)
            for old in node.outputs
        ]
        attributes = {name: value for name, value in node.attributes.items() if name != "layout"}
        self.editor.nodes(
            "DynamicQuantizeLSTM", [*inputs, *grids], outputs, domain=CONTRIB, attributes=attributes, like=node
        )
        self.editor.replace(node, *outputs)

    def _quantize(self, value: ir.Value | None, like: ir.Node) -> list[ir.Value]:
        """The integers, scale and zero point of a tensor."""
        if value not in self.quantized:
            name = name_of(value)
            outputs = [
                ir.Value(name=self.editor.fresh(f"{name}_{what}"), type=ir.TensorType(dtype))
                for what, dtype in (
                    ("quantized", ir.DataType.UINT8),
                    ("scale", ir.DataType.FLOAT),
                    ("zero_point", ir.DataType.UINT8),
                )
            ]
            self.editor.nodes("DynamicQuantizeLinear", [value], outputs, like=like)
            self.quantized[value] = outputs
        return self.quantized[value]


def _lstm_weight(weight: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """Weights (directions, 4 hidden, inputs) as integers (directions, inputs, 4 hidden), and a scale per output."""
    directions, gates, inputs = weight.shape
    rows = weight.reshape(directions * gates, inputs)
    scale = max_scale(rows, 0)
    integers = round_weight(rows, scale, 0).reshape(weight.shape)
    return np.ascontiguousarray(integers.transpose(0, 2, 1)), scale.reshape(directions, gates)
