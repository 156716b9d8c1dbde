"""Rewriting operators that have no int8 kernel into ones that have, with the same result in float.

* mean over all spatial axes -> GlobalAveragePool (torch's exporter writes adaptive_avg_pool2d(1) as a mean)
* AveragePool -> depthwise Conv, all of whose weights are 1 / window: there is an integer average pool, but it is slower
  than the float one
* ConvTranspose -> Conv, see `quant.place.phases`
* HardSwish(x) -> x HardSigmoid(x), and HardSigmoid(x) -> Clip(alpha x + beta, 0, 1), of which the integer grid absorbs
  alpha and the Clip
* BatchNormalization that no convolution precedes -> depthwise 1x1 Conv
* Relu or Clip behind MaxPool, Reshape and the like -> before them, where a convolution's integer grid absorbs it
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from quant.graph import constant, is_float, is_private, name_of
from quant.place.editor import Editor
from quant.place.phases import lower_conv_transpose

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def lower(model: ir.Model) -> ir.Model:
    """A copy of a model, its nodes rewritten where that opens an int8 kernel."""
    copy = model.clone()
    editor = Editor(copy.graph)
    for op_types in LOWERINGS:
        for node in list(copy.graph):
            if node.op_type in op_types and node.domain == "" and is_float(node.outputs[0]):
                op_types[node.op_type](editor, node)
    copy.graph.sort()
    ir.passes.common.RemoveUnusedNodesPass()(copy)
    return copy


def _mean(editor: Editor, node: ir.Node) -> None:
    x, rank = node.inputs[0], _rank(node.inputs[0])
    axes = constant(node.inputs[1]) if len(node.inputs) > 1 else node.attributes.get_ints("axes")
    if rank < 3 or axes is None or sorted(int(axis) % rank for axis in axes) != list(range(2, rank)):
        return
    name = name_of(node.outputs[0])
    pooled = editor.node("GlobalAveragePool", [x], f"{name}_pooled", shape=_shape(x, 2, [1] * (rank - 2)), like=node)
    if not node.attributes.get_int("keepdims", 1):
        pooled = editor.node("Flatten", [pooled], f"{name}_flat", attributes={"axis": 1}, like=node)
    editor.replace(node, pooled)


def _average_pool(editor: Editor, node: ir.Node) -> None:
    x, attributes = node.inputs[0], node.attributes
    kernel = list(attributes.get_ints("kernel_shape", []))
    padded = any(attributes.get_ints("pads", [0])) or attributes.get_string("auto_pad", "NOTSET") != "NOTSET"
    counts_padding = attributes.get_int("count_include_pad", 0) != 0 or not padded
    channels = x.shape[1] if x is not None and x.shape is not None and len(x.shape) == 4 else None
    if not isinstance(channels, int) or not counts_padding or attributes.get_int("ceil_mode", 0) != 0:
        return
    name = name_of(node.outputs[0])
    weight = editor.initializer(f"{name}_average", np.full((channels, 1, *kernel), 1 / prod(kernel), np.float32))
    kept = {key: attributes[key] for key in ("strides", "pads", "dilations", "auto_pad") if key in attributes}
    editor.replace(
        node, editor.node("Conv", [x, weight], f"{name}_averaged", attributes={**kept, "group": channels}, like=node)
    )


def _hard_swish(editor: Editor, node: ir.Node) -> None:
    x, shape, name = node.inputs[0], node.outputs[0].shape, name_of(node.outputs[0])
    attributes = {"alpha": 1 / 6, "beta": 0.5}
    gate = editor.node("HardSigmoid", [x], f"{name}_gate", shape=shape, attributes=attributes, like=node)
    editor.replace(node, editor.node("Mul", [x, gate], f"{name}_gated", like=node))


def _hard_sigmoid(editor: Editor, node: ir.Node) -> None:
    alpha = node.attributes.get_float("alpha", 0.2)
    beta = node.attributes.get_float("beta", 0.5)
    if alpha <= 0:
        return
    x, shape, name = node.inputs[0], node.outputs[0].shape, name_of(node.outputs[0])
    number = {
        what: editor.initializer(f"{name}_{what}", np.array(value, np.float32))
        for what, value in (("alpha", alpha), ("beta", beta), ("low", 0.0), ("high", 1.0))
    }
    scaled = editor.node("Mul", [x, number["alpha"]], f"{name}_scaled", shape=shape, like=node)
    shifted = editor.node("Add", [scaled, number["beta"]], f"{name}_shifted", shape=shape, like=node)
    editor.replace(node, editor.node("Clip", [shifted, number["low"], number["high"]], f"{name}_clipped", like=node))


def _batch_norm(editor: Editor, node: ir.Node) -> None:
    parameters = [constant(value) for value in node.inputs[1:5]]
    rank = _rank(node.inputs[0])
    if rank != 4 or any(value is None for value in parameters) or node.attributes.get_int("training_mode", 0) != 0:
        return
    gain, shift, mean, variance = (np.asarray(value, np.float64) for value in parameters)
    factor = gain / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
    name = name_of(node.outputs[0])
    weight = editor.initializer(f"{name}_factor", factor.astype(np.float32).reshape(-1, 1, 1, 1))
    bias = editor.initializer(f"{name}_shift", (shift - mean * factor).astype(np.float32))
    attributes = {"group": len(factor)}
    editor.replace(
        node, editor.node("Conv", [node.inputs[0], weight, bias], f"{name}_normal", attributes=attributes, like=node)
    )


def _hoist(editor: Editor, node: ir.Node) -> None:
    """Move a Relu or Clip before the nodes that only move or select values: it does the same to each value there."""
    value, moves = node.inputs[0], 0
    while value is not None and is_private(value) and (mover := value.producer()) is not None and _moves(mover):
        value, moves = mover.inputs[0], moves + 1
    if value is None or not moves or not is_private(value):
        return
    (use,) = value.uses()
    hoisted = editor.node(
        node.op_type, [value, *node.inputs[1:]], f"{name_of(value)}_hoisted", shape=value.shape, like=node
    )
    use.node.replace_input_with(use.idx, hoisted)
    moved = node.inputs[0]
    if moved is not None:
        editor.replace(node, moved)


def _moves(node: ir.Node) -> bool:
    return node.op_type in _MOVERS and node.domain == "" and len(node.outputs) == 1


_MOVERS = {"MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "DepthToSpace", "Slice"}

# In order: HardSwish leaves HardSigmoids behind, and all may leave a Relu behind what moves values.
LOWERINGS: tuple[Mapping[str, Callable[[Editor, ir.Node], None]], ...] = (
    {
        "AveragePool": _average_pool,
        "BatchNormalization": _batch_norm,
        "ConvTranspose": lower_conv_transpose,
        "HardSwish": _hard_swish,
        "ReduceMean": _mean,
    },
    {"HardSigmoid": _hard_sigmoid},
    {"Relu": _hoist, "Clip": _hoist},
)


def _rank(value: ir.Value | None) -> int:
    """The number of axes, 0 where it is not known."""
    return len(value.shape) if value is not None and value.shape is not None else 0


def _shape(value: ir.Value | None, kept: int, added: list[int]) -> ir.Shape | None:
    return ir.Shape([*value.shape[:kept], *added]) if value is not None and value.shape is not None else None
