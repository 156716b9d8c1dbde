"""Convolutions: arguments of the ATen calls to the formulas of `formulas.convolution`."""

from dataclasses import dataclass
from functools import lru_cache
from math import prod

from profiler.aten.allocate import channels
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


@lru_cache(maxsize=4096)
def _geometry(
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...] | str,
    dilation: tuple[int, ...],
    output_padding: tuple[int, ...],
    transposed: bool,  # noqa: FBT001  # one entry of a cache's key
    groups: int,
) -> Geometry:
    axes = len(kernel)
    dilation = per_axis(dilation, axes)
    if padding == "same":
        pairs = tuple(same_padding(k, d) for k, d in zip(kernel, dilation, strict=True))
    elif isinstance(padding, str):
        pairs = ((0, 0),) * axes
    else:
        pairs = tuple((p, p) for p in per_axis(padding, axes))
    out = per_axis(output_padding, axes)
    return Geometry(kernel, per_axis(stride, axes), pairs, dilation, out, transposed, groups)


def geometry(call: Call) -> Geometry:
    """The window of a convolution call, whichever of ATen's convolution operators it is."""
    padding = call["padding"]
    return _geometry(
        tuple(call["weight"].shape[2:]),
        tuple(call["stride"]),
        padding if isinstance(padding, str) else tuple(padding),
        tuple(call["dilation"]),
        tuple(call.get("output_padding") or (0,)),
        "transpose" in call.packet or bool(call.get("transposed")),
        call["groups"],
    )


@lru_cache(maxsize=4096)
def _sizes(x: Shape, weight: Shape, g: Geometry) -> tuple[Shape, int] | None:
    """Output size and multiply-accumulates; None where input and weight do not fit together."""
    axes = len(g.kernel)
    batched = len(x) == axes + 2
    c_in, sizes = x[-axes - 1], x[-axes:]
    c_out = weight[1] * g.groups if g.transposed else weight[0]
    expected = weight[0] if g.transposed else weight[1] * g.groups
    if not batched or c_in != expected:
        return None
    per = zip(sizes, g.kernel, g.stride, g.padding, g.output_padding, g.dilation, strict=True)
    if g.transposed:
        spatial = tuple(conv_transpose_output_size(i, k, s, p[0], o, d) for i, k, s, p, o, d in per)
    else:
        spatial = tuple(conv_output_size(i, k, s, p, d) for i, k, s, p, _, d in per)
    if min(spatial) < 1:
        return None
    macs = conv_macs(x[0], sizes if g.transposed else spatial, g.kernel, c_in, c_out, g.groups)
    return (x[0], c_out, *spatial), macs


def _shape(call: Call) -> Shape | None:
    found = _sizes(tuple(call["input"].shape), tuple(call["weight"].shape), geometry(call))
    return found and found[0]


def channels_out(call: Call) -> int:
    """Output channels; a transposed weight is (C_in, C_out / groups, ...)."""
    shape = call.shape("weight")
    g = geometry(call)
    return shape[1] * g.groups if g.transposed else shape[0]


def _cost(call: Call) -> Cost:
    g = geometry(call)
    x, weight = call.shape("input"), call.shape("weight")
    found = _sizes(x if len(x) == len(weight) else (1, *x), weight, g)
    macs = found[1] if found else 0
    return Cost(macs, 2 * macs + (prod(call.out) if call["bias"] is not None else 0))


CONVOLUTION = Operator("convolution", "Convolution", _cost, _shape, channels)
TRANSPOSED = Operator("transposed convolution", "Transposed convolution", _cost, _shape, channels)

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
