"""Operators that move a window along the spatial axes: convolutions, pools, interpolation."""

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

from profiler.aten import elementwise
from profiler.aten.call import Call, per_axis
from profiler.formulas.convolution import same_padding
from profiler.receptive.field import Atom, TensorField, new_atom
from profiler.receptive.index_map import IndexMap, adaptive, resampled, spread, window
from profiler.receptive.rules.base import Fields, Result, Rule, unary

Numbers = int | tuple[int, ...]


def _each(value: Numbers, axes: int) -> tuple[int, ...]:
    return per_axis(value if isinstance(value, int) else list(value), axes)


def _windows(field: TensorField, maps: Sequence[IndexMap], outputs: Sequence[int]) -> TensorField:
    return field.slid(len(field.layout) - len(maps), maps, outputs)


def _hashable(value: Any) -> Any:  # noqa: ANN401  # an argument: numbers or a word
    return tuple(value) if isinstance(value, list) else value


@lru_cache(maxsize=4096)
def _taps(
    kernel: tuple[int, ...],
    stride: Numbers,
    padding: Numbers | str,
    dilation: Numbers,
    transposed: bool,  # noqa: FBT001  # a key
) -> tuple[IndexMap, ...]:
    axes = len(kernel)
    steps, dilations = _each(stride, axes), _each(dilation, axes)
    if padding == "same":
        before = tuple(same_padding(k, d)[0] for k, d in zip(kernel, dilations, strict=True))
    else:
        before = (0,) * axes if isinstance(padding, str) else _each(padding, axes)
    make = spread if transposed else window
    return tuple(make(k, s, p, d) for k, s, p, d in zip(kernel, steps, before, dilations, strict=True))


def _convolution(*, transposed: bool) -> Rule:
    def apply(call: Call, fields: Fields) -> Result:
        field = fields(call.tensors[0])
        if field is None:
            return [None]
        kernel = call["weight"].shape[2:]
        maps = _taps(
            kernel, _hashable(call["stride"]), _hashable(call["padding"]), _hashable(call["dilation"]),
            transposed or bool(call.get("transposed")),
        )  # fmt: skip
        out = call.outputs[0].shape
        axes = len(maps)
        mixed = _channels(field, len(field.layout) - axes - 1, out[-axes - 1], call["groups"])
        return [_windows(mixed, maps, out[-axes:])]

    return apply


def _channels(field: TensorField, channel: int, channels: int, groups: int) -> TensorField:
    """Every output channel depends on all input channels of its group."""
    layout, shape, uneven = field.layout, field.shape, field.uneven
    old = layout[channel]
    differ = bool(uneven) and groups > 1 and any(a.uid in uneven for a in old)
    field = field.mixed((channel,), local=True)
    if channels == shape[channel] and not differ:
        return field
    atom = Atom(old[0].uid, channels) if len(old) == 1 else new_atom(channels)
    return TensorField(
        (*layout[:channel], (atom,), *layout[channel + 1 :]),
        field.views,
        field.uneven | {atom.uid} if differ else field.uneven,
        (*shape[:channel], channels, *shape[channel + 1 :]),
    )


@lru_cache(maxsize=4096)
def _pool_taps(
    kernel: Numbers, stride: Numbers, padding: Numbers, dilation: Numbers, axes: int
) -> tuple[IndexMap, ...]:
    kernels = _each(kernel, axes)
    steps = _each(stride, axes) if stride else kernels
    rest = zip(kernels, steps, _each(padding, axes), _each(dilation, axes), strict=True)
    return tuple(window(k, s, p, d) for k, s, p, d in rest)


def _pool(axes: int) -> Rule:
    def apply(call: Call, fields: Fields) -> Result:
        field = fields(call.tensors[0])
        if field is None:
            return [None] * len(call.outputs)
        maps = _pool_taps(
            _hashable(call["kernel_size"]), _hashable(call["stride"]), _hashable(call["padding"]),
            _hashable(call["dilation"]) if "dilation" in call else 1, axes,
        )  # fmt: skip
        return [_windows(field, maps, call.outputs[0].shape[-axes:])] * len(call.outputs)

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
            field = _windows(field, maps, outputs)
        return [field] * len(call.outputs)

    return apply


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
    **{f"aten.conv{n}d": _convolution(transposed=False) for n in (1, 2, 3)},
    **{f"aten.conv_transpose{n}d": _convolution(transposed=True) for n in (1, 2, 3)},
    **{f"aten.{name}": _convolution(transposed=False) for name in ("convolution", "_convolution")},
    **{f"aten.{name}_pool{n}d": _pool(n) for name in ("max", "avg") for n in (1, 2, 3)},
    **{f"aten.max_pool{n}d_with_indices": _pool(n) for n in (1, 2, 3)},
    **{f"aten.adaptive_{name}_pool{n}d": _adaptive_pool(n) for name in ("avg", "max") for n in (1, 2, 3)},
    **{name: unary(_interpolation) for name in elementwise.TABLE if "upsample" in name},
}
