"""ONNX Runtime's convolutions and pools on channels in blocks (`com.microsoft.nchwc`): what its last pass writes.

Sizes are those of the graph, in which the weights' channels are filled up to whole blocks; so are the counts.
"""

from collections.abc import Sequence
from math import floor

from profiler.formulas.convolution import conv_macs, conv_output_size
from profiler.onnx_ops.call import Cost, NodeCall, Operator
from profiler.onnx_ops.contrib import activated
from profiler.onnx_ops.convolution import fitting, per_axis, window_pads
from profiler.onnx_ops.pooling import TABLE as POOLS
from profiler.onnx_ops.resampling import interpolation_flops
from profiler.onnx_ops.value import Shape


def _conv_shape(call: NodeCall) -> Sequence[Shape]:
    x, w = call.shape(), call.shape(1)
    axes = len(w) - 2
    stride, dilation = per_axis(call, "strides", axes), per_axis(call, "dilations", axes)
    per = zip(x[2:], w[2:], stride, window_pads(call, x[2:], w[2:], stride, dilation), dilation, strict=True)
    return [(x[0], w[0], *fitting(x[2:], [conv_output_size(*numbers) for numbers in per]))]


def _conv_cost(call: NodeCall) -> Cost:
    w, groups = call.shape(1), int(call.attr("group", 1))
    macs = conv_macs(call.out[0], call.out[2:], w[2:], w[1] * groups, w[0], groups)
    added = (call.has(2) + call.has(3)) * call.out_elements
    return macs, 2 * macs + added + activated(call)


def _reordered(call: NodeCall) -> Sequence[Shape]:
    """Blocks of channels made of an input in the usual order, or with channels last."""
    x = call.shape()
    return [(x[0], x[-1], *x[1:-1])] if call.attr("channels_last", 0) else [x]


def _restored(call: NodeCall) -> Sequence[Shape]:
    """The usual order, without what filled up the last block."""
    x, channels = call.shape(), int(call.attr("channels"))
    return [(x[0], *x[2:], channels)] if call.attr("channels_last", 0) else [(x[0], channels, *x[2:])]


def _upsampled(call: NodeCall) -> Sequence[Shape]:
    return [tuple(floor(n * s) for n, s in zip(call.shape(), call.attr("scales"), strict=True))]


def _upsample_cost(call: NodeCall) -> Cost:
    return 0, interpolation_flops(str(call.attr("mode", "nearest")), 2) * call.out_elements


_OPERATORS = {
    "Conv": Operator("convolution", "Convolution", _conv_cost, _conv_shape),
    "ReorderInput": Operator("permute", "Data movement", None, _reordered),
    "ReorderOutput": Operator("permute", "Data movement", None, _restored),
    "Upsample": Operator("interpolation", "Interpolation", _upsample_cost, _upsampled),
    **{name: POOLS[name] for name in ("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool")},
}

TABLE = {f"com.microsoft.nchwc.{name}": operator for name, operator in _OPERATORS.items()}
