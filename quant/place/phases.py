"""Transposed convolutions as convolutions, which have an int8 kernel.

With stride s, output o of a transposed convolution is the sum of x[i] w[o + p - s i]. For all outputs of one phase,
r = (o + p) mod s, those are the same weights w[r], w[r + s], ...: a convolution of stride 1 with a window s times
smaller. One Conv computes all phases, as s^2 sets of channels, with the multiply-accumulates that the transposed one
has; then the phases are spread in space and the padding is cut off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from quant.graph import constant, has_input, name_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx_ir as ir

    from quant.affine import Floats
    from quant.place.editor import Editor


def lower_conv_transpose(editor: Editor, node: ir.Node) -> None:
    """Replace a ConvTranspose; one with groups or dilation, or for pictures of any size, stays as it is."""
    x, weight = node.inputs[0], constant(node.inputs[1])
    bias = constant(node.inputs[2]) if has_input(node, 2) else None
    size = (
        [extent for extent in x.shape[2:] if isinstance(extent, int)] if x is not None and x.shape is not None else []
    )
    if weight is None or weight.ndim != 4 or len(size) != 2 or not _plain(node):
        return
    if has_input(node, 2) and bias is None:
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
    # Channels come in the order (i, j, c) and are spread with the channels last: ONNX Runtime runs int8 convolutions
    # that way, so the outer two transpositions cancel against its own and the inner one moves whole rows of channels.
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

    Output o has phase r = (o + crop) mod stride and position q = (o + crop) div stride, and is a convolution of the
    inputs q, q - 1, ... with the weights r, r + stride, ...
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


def _plain(node: ir.Node) -> bool:
    attributes = node.attributes
    return (
        set(attributes.get_ints("dilations", [1])) == {1}
        and attributes.get_int("group", 1) == 1
        and "output_shape" not in attributes
        and attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
    )
