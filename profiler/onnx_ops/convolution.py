"""Convolutions: attributes of the nodes to the formulas of `formulas.convolution`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from onnx import TensorProto

from profiler.errors import ModelError
from profiler.formulas.auto_pad import Pads, conv_transpose_padding, same_size_padding
from profiler.formulas.convolution import conv_macs, conv_output_size, conv_transpose_output_size
from profiler.onnx_ops.call import Cost, NodeCall, Operator
from profiler.onnx_ops.fields import Rule, looked_up, unary
from profiler.onnx_ops.value import Shape
from profiler.receptive.field import TensorField
from profiler.receptive.index_map import spread, window
from profiler.receptive.reshape import expanded_to


@dataclass(frozen=True, slots=True)
class Slots:
    """At which inputs an operator has its data, weights and bias."""

    x: int = 0
    w: int = 1
    bias: int = 2


@dataclass(frozen=True, slots=True)
class Geometry:
    """A convolution's window, per spatial axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pads: tuple[Pads, ...]
    dilation: tuple[int, ...]
    output_padding: tuple[int, ...]
    groups: int


def per_axis(call: NodeCall, name: str, axes: int, default: int = 1) -> tuple[int, ...]:
    """An attribute with one number per spatial axis.

    Raises:
        ModelError: a number is too small, or there are too few or too many.
    """
    numbers = tuple(call.attr(name) or (default,) * axes)
    if len(numbers) != axes or any(n < default for n in numbers):
        raise ModelError(f"its {name} {numbers} are no {axes} numbers from {default} on")
    return numbers


def explicit_pads(call: NodeCall, axes: int) -> tuple[Pads, ...]:
    """The attribute `pads`: all the befores, then all the afters."""
    pads = tuple(call.attr("pads") or (0,) * (2 * axes))
    return tuple(zip(pads[:axes], pads[axes:], strict=True))


def window_pads(
    call: NodeCall, sizes: Shape, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[Pads, ...]:
    """Padding of a convolution or pool, automatic or not."""
    mode = call.attr("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        per = zip(sizes, kernel, stride, dilation, strict=True)
        return tuple(same_size_padding(i, k, s, d, upper=mode == "SAME_UPPER") for i, k, s, d in per)
    return ((0, 0),) * len(kernel) if mode == "VALID" else explicit_pads(call, len(kernel))


def geometry(call: NodeCall, slots: Slots = Slots()) -> Geometry:
    """The window of a convolution."""
    x, w = call.shape(slots.x), call.shape(slots.w)
    axes = len(w) - 2
    if len(x) != len(w) or axes < 1:
        raise ModelError(f"an input of {len(x)} axes and weights of {len(w)} axes are no convolution")
    if tuple(call.attr("kernel_shape") or w[2:]) != w[2:]:
        raise ModelError(f"its kernel_shape {call.attr('kernel_shape')} is not that of its weights, {w[2:]}")
    stride, dilation = per_axis(call, "strides", axes), per_axis(call, "dilations", axes)
    pads = window_pads(call, x[2:], w[2:], stride, dilation)
    return Geometry(
        w[2:], stride, pads, dilation, per_axis(call, "output_padding", axes, 0), int(call.attr("group", 1))
    )


def transposed_geometry(call: NodeCall) -> Geometry:
    """The window of a transposed convolution; its padding may follow from the size that is wanted."""
    g = geometry(call)
    mode = call.attr("auto_pad", "NOTSET")
    sizes = call.shape()[2:]
    wanted = call.attr("output_shape")
    if wanted is None and not str(mode).startswith("SAME"):
        return g
    # Automatic padding never adds: a kernel that leaves gaps gives fewer than i * s.
    least = 0 if wanted is None else -(1 << 62)
    goal = [i * s for i, s in zip(sizes, g.stride, strict=True)] if wanted is None else wanted[-len(sizes) :]
    per = zip(sizes, g.kernel, g.stride, goal, g.output_padding, g.dilation, strict=True)
    cuts = [conv_transpose_padding(*numbers, upper=mode == "SAME_UPPER") for numbers in per]
    return replace(g, pads=tuple(cut if sum(cut) > least else (0, 0) for cut in cuts))


def fitting(inputs: Sequence[int], outputs: Sequence[int]) -> Sequence[int]:
    """The outputs' sizes.

    Raises:
        ModelError: a window does not fit into its axis.
    """
    for axis, (i, o) in enumerate(zip(inputs, outputs, strict=True)):
        if o < 0 or (i and not o):
            raise ModelError(f"its window does not fit into spatial axis {axis} of size {i}")
    return outputs


def _check_channels(call: NodeCall, slots: Slots, groups: int) -> None:
    x, w = call.shape(slots.x), call.shape(slots.w)
    if x[1] != w[1] * groups or w[0] % groups:
        raise ModelError(f"its weights {w} in {groups} groups do not fit an input of {x[1]} channels")


def conv_shape(call: NodeCall, slots: Slots = Slots()) -> Sequence[Shape]:
    """Size of a convolution's output."""
    g, x, w = geometry(call, slots), call.shape(slots.x), call.shape(slots.w)
    _check_channels(call, slots, g.groups)
    per = zip(x[2:], g.kernel, g.stride, g.pads, g.dilation, strict=True)
    return [(x[0], w[0], *fitting(x[2:], [conv_output_size(*numbers) for numbers in per]))]


def conv_cost(call: NodeCall, slots: Slots = Slots()) -> Cost:
    """MACs and FLOPs of a convolution."""
    x, w = call.shape(slots.x), call.shape(slots.w)
    macs = conv_macs(x[0], call.out[2:], w[2:], x[1], w[0], int(call.attr("group", 1)))
    return macs, 2 * macs + (call.out_elements if call.has(slots.bias) else 0)


def _transposed_shape(call: NodeCall) -> Sequence[Shape]:
    g, x, w = transposed_geometry(call), call.shape(), call.shape(1)
    if x[1] != w[0]:
        raise ModelError(f"its weights {w} do not fit an input of {x[1]} channels")
    per = zip(x[2:], g.kernel, g.stride, g.output_padding, g.dilation, g.pads, strict=True)
    sizes = [conv_transpose_output_size(i, k, s, 0, extra, d) - sum(p) for i, k, s, extra, d, p in per]
    return [(x[0], w[1] * g.groups, *fitting(x[2:], sizes))]


def _transposed_cost(call: NodeCall) -> Cost:
    x, w = call.shape(), call.shape(1)
    groups = int(call.attr("group", 1))
    macs = conv_macs(x[0], x[2:], w[2:], x[1], w[1] * groups, groups)
    return macs, 2 * macs + (call.out_elements if call.has(2) else 0)


def _deformable_cost(call: NodeCall) -> Cost:
    """As a convolution, with a bilinear sample (9) and its weight by the mask (1) for every value it reads."""
    x, w = call.shape(), call.shape(1)
    macs = conv_macs(x[0], call.out[2:], w[2:], x[1], w[0], int(call.attr("group", 1)))
    samples = x[0] * x[1] * prod(call.out[2:]) * prod(w[2:])
    bias = call.out_elements if call.has(3) else 0
    return macs, 2 * macs + bias + samples * (10 if call.has(4) else 9)


def mixed_channels(field: TensorField, channels: int, groups: int) -> TensorField:
    """Every output channel sees all input channels, or those of its group."""
    uneven = bool(field.uneven & field.uids([1]))
    shape = field.shape
    mixed = expanded_to(field.reduced([1], keep=True), (shape[0], channels, *shape[2:]))
    return mixed.with_uneven(mixed.uids([1])) if uneven and groups > 1 else mixed


def conv_field(slots: Slots = Slots()) -> Rule:
    """The receptive field of a convolution."""

    def rule(call: NodeCall, field: TensorField) -> TensorField:
        g = geometry(call, slots)
        per = zip(g.kernel, g.stride, g.pads, g.dilation, strict=True)
        maps = [window(k, s, p[0], d) for k, s, p, d in per]
        return mixed_channels(field, call.out[1], g.groups).slid(2, maps, call.out[2:])

    return unary(rule, slots.x)


def _transposed_field(call: NodeCall, field: TensorField) -> TensorField:
    g = transposed_geometry(call)
    per = zip(g.kernel, g.stride, g.pads, g.dilation, strict=True)
    maps = [spread(k, s, p[0], d) for k, s, p, d in per]
    return mixed_channels(field, call.out[1], g.groups).slid(2, maps, call.out[2:])


QUANTIZED = Slots(x=0, w=3, bias=8)
UNBIASED = Slots(x=0, w=1, bias=4)


def _int32(_call: NodeCall) -> int:
    return int(TensorProto.INT32)


TABLE = {
    "Conv": Operator("convolution", "Convolution", conv_cost, conv_shape, conv_field()),
    "ConvTranspose": Operator(
        "transposed convolution",
        "Transposed convolution",
        _transposed_cost,
        _transposed_shape,
        unary(_transposed_field),
    ),
    "QLinearConv": Operator(
        "convolution",
        "Convolution",
        lambda call: conv_cost(call, QUANTIZED),
        lambda call: conv_shape(call, QUANTIZED),
        conv_field(QUANTIZED),
        integers=True,
    ),
    "ConvInteger": Operator(
        "convolution",
        "Convolution",
        lambda call: conv_cost(call, UNBIASED),
        conv_shape,
        conv_field(),
        dtype=_int32,
        integers=True,
    ),
    "DeformConv": Operator("deformable convolution", "Convolution", _deformable_cost, conv_shape, looked_up),
}
