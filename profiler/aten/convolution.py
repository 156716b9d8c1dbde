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


@dataclass(frozen=True, slots=True, eq=False)  # one object for equal calls: a cache's key by identity
class Geometry:
    """A convolution's window, per spatial axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    output_padding: tuple[int, ...]
    transposed: bool
    groups: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A convolution on an input of one size.

    Attributes:
        geometry: its window.
        shape: output size; None where input and weight do not fit together.
        macs: multiply-accumulates.
    """

    geometry: Geometry
    shape: Shape | None
    macs: int


@lru_cache(maxsize=4096)
def _planned(
    x: Shape,
    weight: Shape,
    stride: tuple[int, ...],
    padding: tuple[int, ...] | str,
    dilation: tuple[int, ...],
    groups: int,
    output_padding: tuple[int, ...] = (0,),
    transposed: bool = False,  # noqa: FBT001, FBT002  # one entry of a cache's key
) -> Plan:
    kernel = weight[2:]
    axes = len(kernel)
    dilation = per_axis(dilation, axes)
    if padding == "same":
        pairs = tuple(same_padding(k, d) for k, d in zip(kernel, dilation, strict=True))
    elif isinstance(padding, str):
        pairs = ((0, 0),) * axes
    else:
        pairs = tuple((p, p) for p in per_axis(padding, axes))
    g = Geometry(kernel, per_axis(stride, axes), pairs, dilation, per_axis(output_padding, axes), transposed, groups)
    batch = x[: len(x) - axes - 1]
    c_in, sizes = x[-axes - 1], x[-axes:]
    c_out = weight[1] * groups if transposed else weight[0]
    expected = weight[0] if transposed else weight[1] * groups
    per = zip(sizes, kernel, g.stride, pairs, g.output_padding, dilation, strict=True)
    if transposed:
        spatial = tuple(conv_transpose_output_size(i, k, s, p[0], o, d) for i, k, s, p, o, d in per)
    else:
        spatial = tuple(conv_output_size(i, k, s, p, d) for i, k, s, p, _, d in per)
    macs = conv_macs(prod(batch), sizes if transposed else spatial, kernel, c_in, c_out, groups)
    fits = len(batch) < 2 and c_in == expected and min(spatial) > 0
    return Plan(g, (*batch, c_out, *spatial) if fits else None, macs)


def _plan(call: Call) -> Plan:
    plan: Plan | None = call.plan
    if plan is None:
        args = call.args
        if call.packet in _DIRECT and len(args) == 7:
            # All arguments in their places, as modules pass them: every lookup by name would cost as much as the rest.
            padding = args[4]
            plan = _planned(
                tuple(args[0].shape),
                tuple(args[1].shape),
                tuple(args[3]),
                padding if isinstance(padding, str) else tuple(padding),
                tuple(args[5]),
                args[6],
            )
        else:
            padding = call["padding"]
            plan = _planned(
                tuple(call["input"].shape),
                tuple(call["weight"].shape),
                tuple(call["stride"]),
                padding if isinstance(padding, str) else tuple(padding),
                tuple(call["dilation"]),
                call["groups"],
                tuple(call.get("output_padding") or (0,)),
                "transpose" in call.packet or bool(call.get("transposed")),
            )
        call.plan = plan
    return plan


def geometry(call: Call) -> Geometry:
    """The window of a convolution call, whichever of ATen's convolution operators it is."""
    return _plan(call).geometry


def _shape(call: Call) -> Shape | None:
    return _plan(call).shape


def channels_out(call: Call) -> int:
    """Output channels; a transposed weight is (C_in, C_out / groups, ...)."""
    shape = call.shape("weight")
    g = geometry(call)
    return shape[1] * g.groups if g.transposed else shape[0]


def _cost(call: Call) -> Cost:
    macs = _plan(call).macs
    return Cost(macs, 2 * macs + (0 if call["bias"] is None else call.outputs[0].numel()))


_DIRECT = frozenset(("aten.conv1d", "aten.conv2d", "aten.conv3d"))
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
