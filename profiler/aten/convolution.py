"""Convolutions: arguments of the ATen calls to the formulas of `formulas.convolution`."""

from dataclasses import dataclass
from math import prod

from profiler.aten.call import Call, Cost, Operator, Shape, per_axis
from profiler.formulas.convolution import (
    conv_macs,
    conv_output_size,
    conv_transpose_output_size,
    same_padding,
)


@dataclass(frozen=True, slots=True)
class Geometry:
    """A convolution's window, per spatial axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    output_padding: tuple[int, ...]
    transposed: bool
    groups: int


def geometry(call: Call) -> Geometry:
    """The window of a convolution call, whichever of ATen's convolution operators it is."""
    kernel = call.shape("weight")[2:]
    axes = len(kernel)
    dilation = per_axis(call["dilation"], axes)
    transposed = "transpose" in call.packet or bool(call.get("transposed"))
    padding = call["padding"]
    if padding == "same":
        pairs = tuple(same_padding(k, d) for k, d in zip(kernel, dilation, strict=True))
    elif padding == "valid":
        pairs = ((0, 0),) * axes
    else:
        pairs = tuple((p, p) for p in per_axis(padding, axes))
    output_padding = per_axis(call["output_padding"], axes) if "output_padding" in call else (0,) * axes
    return Geometry(kernel, per_axis(call["stride"], axes), pairs, dilation, output_padding, transposed, call["groups"])


def channels_out(call: Call) -> int:
    """Output channels; a transposed weight is (C_in, C_out / groups, ...)."""
    shape = call.shape("weight")
    g = geometry(call)
    return shape[1] * g.groups if g.transposed else shape[0]


def _shape(call: Call) -> Shape:
    g = geometry(call)
    x = call.shape("input")
    batched = len(x) == len(g.kernel) + 2
    sizes = x[2:] if batched else x[1:]
    if g.transposed:
        spatial = tuple(
            conv_transpose_output_size(i, k, s, p[0], o, d)
            for i, k, s, p, o, d in zip(sizes, g.kernel, g.stride, g.padding, g.output_padding, g.dilation, strict=True)
        )
    else:
        spatial = tuple(
            conv_output_size(i, k, s, p, d)
            for i, k, s, p, d in zip(sizes, g.kernel, g.stride, g.padding, g.dilation, strict=True)
        )
    return (x[:1] if batched else ()) + (channels_out(call), *spatial)


def _cost(call: Call) -> Cost:
    g = geometry(call)
    axes = len(g.kernel)
    x = call.shape("input")
    batch = x[0] if len(x) == axes + 2 else 1
    positions = x[-axes:] if g.transposed else call.out[-axes:]
    macs = conv_macs(batch, positions, g.kernel, x[-axes - 1], channels_out(call), g.groups)
    return Cost(macs, 2 * macs + (prod(call.out) if call["bias"] is not None else 0))


CONVOLUTION = Operator("convolution", "Convolution", _cost, _shape)
TRANSPOSED = Operator("transposed convolution", "Transposed convolution", _cost, _shape)

TABLE = {
    "aten.conv1d": CONVOLUTION,
    "aten.conv2d": CONVOLUTION,
    "aten.conv3d": CONVOLUTION,
    "aten.convolution": CONVOLUTION,
    "aten._convolution": CONVOLUTION,
    "aten.conv_transpose1d": TRANSPOSED,
    "aten.conv_transpose2d": TRANSPOSED,
    "aten.conv_transpose3d": TRANSPOSED,
}
