"""Rewriting operators that have no int8 kernel into ones that have, with the same result in float.

* mean over all spatial axes -> GlobalAveragePool (torch's exporter writes adaptive_avg_pool2d(1) as a mean)
* AveragePool -> depthwise Conv, all of whose weights are 1 / window: there is an integer average pool, but it is slower
  than the float one
* ConvTranspose of stride s -> Conv with s^2 as many channels, one set for each phase of the output, which are then
  spread in space; the windows of each phase are s times smaller, so the multiply-accumulates are the same
* HardSwish(x) -> x HardSigmoid(x), and HardSigmoid(x) -> Clip(alpha x + beta, 0, 1), of which the integer grid absorbs
  alpha and the Clip
* BatchNormalization that no convolution precedes -> depthwise 1x1 Conv
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from quant.graph import constant, has_input, is_float, name_of
from quant.place.editor import Editor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from quant.affine import Floats


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


def _conv_transpose(editor: Editor, node: ir.Node) -> None:
    x, weight = node.inputs[0], constant(node.inputs[1])
    bias = constant(node.inputs[2]) if has_input(node, 2) else None
    size = x.shape[2:] if x is not None and x.shape is not None else ()
    if weight is None or weight.ndim != 4 or (has_input(node, 2) and bias is None) or not _plain_transpose(node):
        return
    if not all(isinstance(extent, int) for extent in size):
        return
    axes = _phases(node, size, weight.shape[2:])
    if any(axis.crop + axis.output > axis.stride * axis.positions for axis in axes):
        return
    high, wide = axes
    channels = weight.shape[1]
    name = name_of(node.outputs[0])
    inputs = [x, editor.initializer(f"{name_of(node.inputs[1])}_phases", _phase_weights(weight, high, wide))]
    if bias is not None:
        inputs.append(editor.initializer(f"{name_of(node.inputs[2])}_phases", np.tile(bias, high.stride * wide.stride)))
    pads = [high.taps - 1, wide.taps - 1] * 2
    value = editor.node("Conv", inputs, f"{name}_phases", attributes={"pads": pads}, like=node)
    # Channels come in the order (i, j, c) and are spread with the channels last: ONNX Runtime runs int8 convolutions that
    # way, so the outer two transpositions cancel against its own and the inner one moves whole rows of channels.
    for op_type, argument in (
        ("Transpose", [0, 2, 3, 1]),
        ("Reshape", [0, high.positions, wide.positions, high.stride, wide.stride, channels]),
        ("Transpose", [0, 1, 3, 2, 4, 5]),
        ("Reshape", [0, high.positions * high.stride, wide.positions * wide.stride, channels]),
    ):
        if op_type == "Transpose":
            value = editor.node(op_type, [value], f"{name}_spread", attributes={"perm": argument}, like=node)
        else:
            shape = editor.initializer(f"{name}_shape", np.array(argument, np.int64))
            value = editor.node(op_type, [value, shape], f"{name}_spread", like=node)
    if any(axis.output < axis.stride * axis.positions for axis in axes):
        bounds = [[axis.crop for axis in axes], [axis.crop + axis.output for axis in axes], [1, 2]]
        cuts = [editor.initializer(f"{name}_cut", np.array(bound, np.int64)) for bound in bounds]
        value = editor.node("Slice", [value, *cuts], f"{name}_cropped", like=node)
    editor.replace(
        node, editor.node("Transpose", [value], f"{name}_first", attributes={"perm": [0, 3, 1, 2]}, like=node)
    )


@dataclass(frozen=True)
class _Phases:
    """One axis of a transposed convolution: which outputs take which taps.

    Output o has phase r = (o + crop) mod stride and position q = (o + crop) div stride, and is a convolution of the inputs
    q, q - 1, ... with the weights r, r + stride, ...
    """

    stride: int
    taps: int
    positions: int
    crop: int
    output: int


def _phases(node: ir.Node, size: Sequence[int], kernel: tuple[int, ...]) -> list[_Phases]:
    strides = node.attributes.get_ints("strides", [1, 1])
    pads = node.attributes.get_ints("pads", [0, 0, 0, 0])
    extra = node.attributes.get_ints("output_padding", [0, 0])
    return [
        _Phases(
            stride=strides[axis],
            taps=-(-kernel[axis] // strides[axis]),
            positions=size[axis] + -(-kernel[axis] // strides[axis]) - 1,
            crop=pads[axis],
            output=(size[axis] - 1) * strides[axis] + kernel[axis] - pads[axis] - pads[axis + 2] + extra[axis],
        )
        for axis in (0, 1)
    ]


def _phase_weights(weight: Floats, high: _Phases, wide: _Phases) -> Floats:
    """Weights (in, out, kernel) of a transposed convolution as those (phases out, in, taps) of a convolution."""
    inputs, outputs, *kernel = weight.shape
    full = np.zeros((inputs, outputs, high.taps * high.stride, wide.taps * wide.stride), np.float32)
    full[:, :, : kernel[0], : kernel[1]] = weight
    split = full.reshape(inputs, outputs, high.taps, high.stride, wide.taps, wide.stride)[:, :, ::-1, :, ::-1, :]
    phases = split.transpose(3, 5, 1, 0, 2, 4).reshape(-1, inputs, high.taps, wide.taps)
    return np.ascontiguousarray(phases)


def _plain_transpose(node: ir.Node) -> bool:
    attributes = node.attributes
    return (
        set(attributes.get_ints("dilations", [1])) == {1}
        and attributes.get_int("group", 1) == 1
        and "output_shape" not in attributes
        and attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
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


# In order: HardSwish leaves HardSigmoids behind.
LOWERINGS: tuple[Mapping[str, Callable[[Editor, ir.Node], None]], ...] = (
    {
        "AveragePool": _average_pool,
        "BatchNormalization": _batch_norm,
        "ConvTranspose": _conv_transpose,
        "HardSwish": _hard_swish,
        "ReduceMean": _mean,
    },
    {"HardSigmoid": _hard_sigmoid},
)


def _rank(value: ir.Value | None) -> int:
    """The number of axes, 0 where it is not known."""
    return len(value.shape) if value is not None and value.shape is not None else 0


def _shape(value: ir.Value | None, kept: int, added: list[int]) -> ir.Shape | None:
    return ir.Shape([*value.shape[:kept], *added]) if value is not None and value.shape is not None else None
