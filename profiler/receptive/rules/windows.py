"""Operators that move a window along the spatial axes: convolutions and pools."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from profiler.aten.call import Call, per_axis
from profiler.aten.convolution import Geometry, geometry
from profiler.receptive.field import TensorField
from profiler.receptive.index_map import IndexMap, adaptive, spread, window
from profiler.receptive.layout import Atom
from profiler.receptive.merge import merged
from profiler.receptive.reshape import expanded_to, reshaped
from profiler.receptive.rules.base import Fields, Result, Rule, drawn, merge

Numbers = int | tuple[int, ...]


def each(value: Numbers, axes: int) -> tuple[int, ...]:
    """One number per axis."""
    return per_axis(value if isinstance(value, int) else list(value), axes)


def hashable(value: Any) -> Any:  # noqa: ANN401  # an argument: numbers or a word
    """The argument as a key."""
    return tuple(value) if isinstance(value, list) else value


def slid(field: TensorField, maps: Sequence[IndexMap], outputs: Sequence[int]) -> TensorField:
    """Windows along the last axes."""
    return field.slid(len(field.layout) - len(maps), maps, outputs)


@lru_cache(maxsize=4096)
def _taps(g: Geometry) -> tuple[IndexMap, ...]:
    make = spread if g.transposed else window
    before = [p[0] for p in g.padding]
    return tuple(make(k, s, p, d) for k, s, p, d in zip(g.kernel, g.stride, before, g.dilation, strict=True))


def _convolution(call: Call, fields: Fields) -> Result:
    tensors = call.tensors
    field = fields(tensors[0])
    if field is None or (len(tensors) > 1 and fields(tensors[1]) is not None):
        return _made_kernel(call, fields)
    g = geometry(call)
    maps = _taps(g)
    out = call.outputs[0].shape
    axes = len(maps)
    channel = len(field.layout) - axes - 1
    return [channels_mixed(field, channel, out[-axes - 1], g.groups).slid(channel + 1, maps, out[-axes:])]


def _made_kernel(call: Call, fields: Fields) -> Result:
    """A kernel that was computed from the input: every output sees all that the kernel sees."""
    kernel, out = fields(call["weight"]), call.out
    if kernel is None:
        return merge(call, fields)  # at most the bias sees anything
    parts = [kernel.reduced(range(len(kernel.layout)), keep=True).like(out, 0)]
    if fields(call.tensors[0]) is not None:
        parts += [f for f in _convolution_of(call, fields) if f is not None]
    return [merged(parts, out)]


def _convolution_of(call: Call, fields: Fields) -> Result:
    weight = call["weight"]
    return TABLE[call.packet](call, lambda t: None if t is weight else fields(t))


def channels_mixed(field: TensorField, channel: int, channels: int, groups: int = 1) -> TensorField:
    """Every output channel depends on all input channels of its group."""
    layout, shape = field.layout, field.shape
    old = layout[channel]
    if groups > 1:
        if groups == channels == shape[channel]:
            return field
        if field.moves_along(old):
            return _groups_mixed(field, channel, channels, groups)
    field = field.mixed((channel,), local=True)
    if channels == shape[channel] and len(old) == 1:
        return field
    return TensorField(
        (*layout[:channel], (Atom(old[0].uid, channels),), *layout[channel + 1 :]),
        field.views,
        field.uneven,
        (*shape[:channel], channels, *shape[channel + 1 :]),
    )


def _groups_mixed(field: TensorField, channel: int, channels: int, groups: int) -> TensorField:
    """Channels see different things, and only those of a group come together."""
    before, after = field.shape[:channel], field.shape[channel + 1 :]
    field = reshaped(field, (*before, groups, field.shape[channel] // groups, *after))
    field = expanded_to(field.reduced([channel + 1], keep=True), (*before, groups, channels // groups, *after))
    return reshaped(field, (*before, channels, *after))


@lru_cache(maxsize=4096)
def _pool_taps(
    kernel: Numbers, stride: Numbers, padding: Numbers, dilation: Numbers, axes: int
) -> tuple[IndexMap, ...]:
    kernels = each(kernel, axes)
    steps = each(stride, axes) if stride else kernels
    rest = zip(kernels, steps, each(padding, axes), each(dilation, axes), strict=True)
    return tuple(window(k, s, p, d) for k, s, p, d in rest)


def _pool(axes: int) -> Rule:
    def apply(call: Call, fields: Fields) -> Result:
        field = fields(call.tensors[0])
        if field is None:
            return [None] * len(call.outputs)
        maps = _pool_taps(
            hashable(call["kernel_size"]), hashable(call["stride"]), hashable(call["padding"]),
            hashable(call["dilation"]) if "dilation" in call else 1, axes,
        )  # fmt: skip
        return [slid(field, maps, call.outputs[0].shape[-axes:])] * len(call.outputs)

    return apply


def _adaptive_pool(axes: int) -> Rule:
    def apply(call: Call, fields: Fields) -> Result:
        field = fields(call.tensors[0])
        if field is None:
            return [None] * len(call.outputs)
        rank = len(field.layout)
        outputs = call.outputs[0].shape[-axes:]
        joined = [a for a, o in zip(range(rank - axes, rank), outputs, strict=True) if o == 1 and field.shape[a] > 1]
        if joined:  # a global pool: everything is joined
            field = field.reduced(joined, keep=True)
        if len(joined) < axes:
            maps = [adaptive(i, o) for i, o in zip(field.shape[-axes:], outputs, strict=True)]
            field = slid(field, maps, outputs)
        return [field] * len(call.outputs)

    return apply


TABLE: dict[str, Rule] = {
    **{f"aten.conv{n}d": _convolution for n in (1, 2, 3)},
    **{f"aten.conv_transpose{n}d": _convolution for n in (1, 2, 3)},
    **{f"aten.{name}": _convolution for name in ("convolution", "_convolution")},
    **{f"aten.{name}_pool{n}d": _pool(n) for name in ("max", "avg") for n in (1, 2, 3)},
    **{f"aten.max_pool{n}d_with_indices": _pool(n) for n in (1, 2, 3)},
    **{f"aten.adaptive_{name}_pool{n}d": _adaptive_pool(n) for name in ("avg", "max") for n in (1, 2, 3)},
    **{f"aten._adaptive_avg_pool{n}d": _adaptive_pool(n) for n in (2, 3)},
    **{f"aten.fractional_max_pool{n}d": drawn("where the windows lie is drawn at random") for n in (2, 3)},
    **{f"aten.max_unpool{n}d": drawn("values say where each goes") for n in (2, 3)},
}
