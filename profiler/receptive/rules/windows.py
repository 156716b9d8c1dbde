"""Operators that move a window along the spatial axes: convolutions, pools, interpolation."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from profiler.aten import elementwise
from profiler.aten.call import Call
from profiler.aten.convolution import geometry
from profiler.aten.pooling import axes_of
from profiler.aten.pooling import window as pool_window
from profiler.receptive.field import TensorField
from profiler.receptive.index_map import IndexMap, adaptive, resampled, spread, window
from profiler.receptive.reshape import expanded_to
from profiler.receptive.rules.base import Rule, unary


def _windows(field: TensorField, maps: Sequence[IndexMap], outputs: Sequence[int]) -> TensorField:
    axes = len(maps)
    rank = len(field.layout)
    for axis, index_map, size in zip(range(rank - axes, rank), maps, outputs, strict=True):
        field = field.moved(axis, index_map, size)
    return field


def _convolution(call: Call, field: TensorField) -> TensorField:
    g = geometry(call)
    per = zip(g.kernel, g.stride, g.padding, g.dilation, strict=True)
    maps = [spread(k, s, p[0], d) if g.transposed else window(k, s, p[0], d) for k, s, p, d in per]
    channel = len(field.layout) - len(maps) - 1
    uneven = bool(field.uneven & field.uids([channel]))
    field = expanded_to(field.reduced([channel], keep=True), _with(field.shape, channel, call.out[channel]))
    if uneven and g.groups > 1:
        field = replace(field, uneven=field.uneven | field.uids([channel]))
    return _windows(field, maps, call.out[-len(maps) :])


def _with(shape: tuple[int, ...], axis: int, size: int) -> tuple[int, ...]:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _pool(call: Call, field: TensorField) -> TensorField:
    w = pool_window(call)
    maps = [window(k, s, p, d) for k, s, p, d in zip(w.kernel, w.stride, w.padding, w.dilation, strict=True)]
    return _windows(field, maps, call.out[-len(maps) :])


def _adaptive_pool(call: Call, field: TensorField) -> TensorField:
    axes = axes_of(call)
    sizes = list(zip(field.shape[-axes:], call.out[-axes:], strict=True))
    for n, (inputs, outputs) in enumerate(sizes):
        axis = len(field.layout) - axes + n
        if outputs == 1 and inputs > 1:  # a global pool: everything is joined
            field = field.reduced([axis], keep=True)
        else:
            field = field.moved(axis, adaptive(inputs, outputs), outputs)
    return field


_MODES = {"nearest": "nearest", "_nearest_exact": "nearest-exact", "cubic": "cubic"}


def _interpolation(call: Call, field: TensorField) -> TensorField:
    mode = next((m for key, m in _MODES.items() if key in call.packet), "linear")
    if "_nearest_exact" in call.packet:
        mode = "nearest-exact"
    align = bool(call.get("align_corners"))
    axes = call.first.dim() - 2
    scales = call.get("scale_factors")
    maps = []
    for n in range(axes):
        inputs, outputs = field.shape[n + 2], call.out[n + 2]
        if align:
            ratio = Fraction(inputs - 1, outputs - 1) if outputs > 1 else Fraction(0)
        elif scales is not None and scales[n]:
            ratio = 1 / Fraction(scales[n]).limit_denominator(1 << 16)
        else:
            ratio = Fraction(inputs, outputs)
        maps.append(resampled(outputs, ratio, mode, align_corners=align))
    return _windows(field, maps, call.out[2:])


TABLE: dict[str, Rule] = {
    **{f"aten.{name}{n}d": unary(_convolution) for name in ("conv", "conv_transpose") for n in (1, 2, 3)},
    **{f"aten.{name}{n}d": unary(_pool) for name in ("max_pool", "avg_pool") for n in (1, 2, 3)},
    **{f"aten.max_pool{n}d_with_indices": unary(_pool) for n in (1, 2, 3)},
    **{f"aten.adaptive_{name}_pool{n}d": unary(_adaptive_pool) for name in ("avg", "max") for n in (1, 2, 3)},
    **{name: unary(_interpolation) for name in elementwise.TABLE if "upsample" in name},
}
