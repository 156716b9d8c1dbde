"""Pools: arguments of the ATen calls to the formulas of `formulas.pooling`."""

from collections.abc import Callable
from dataclasses import dataclass

from profiler.aten.allocate import averaged, channels
from profiler.aten.call import Call, Cost, Operator, Shape, per_axis
from profiler.formulas.pooling import (
    adaptive_average_pool_flops,
    adaptive_max_pool_flops,
    average_pool_flops,
    max_pool_flops,
    pool_output_size,
)


@dataclass(frozen=True, slots=True)
class Window:
    """A pool's window, per spatial axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil_mode: bool


def axes_of(call: Call) -> int:
    """Number of spatial axes, read off the operator's name."""
    return int(call.packet.split("pool")[1][0])


def window(call: Call) -> Window:
    """The window of a pool call; a stride that is not given equals the kernel."""
    axes = axes_of(call)
    kernel = per_axis(call["kernel_size"], axes)
    stride = per_axis(call["stride"], axes) if call["stride"] else kernel
    dilation = per_axis(call["dilation"], axes) if "dilation" in call else (1,) * axes
    return Window(kernel, stride, per_axis(call["padding"], axes), dilation, bool(call["ceil_mode"]))


def _pool_shape(call: Call) -> Shape | None:
    w = window(call)
    x = tuple(call.first.shape)
    axes = len(w.kernel)
    if len(x) <= axes:
        return None
    outputs = tuple(
        pool_output_size(i, k, s, p, d, ceil_mode=w.ceil_mode)
        for i, k, s, p, d in zip(x[-axes:], w.kernel, w.stride, w.padding, w.dilation, strict=True)
    )
    return x[:-axes] + outputs if min(outputs) > 0 else None


def _adaptive_shape(call: Call) -> Shape:
    axes = axes_of(call)
    x = tuple(call.first.shape)
    asked: int | list[int | None] = call["output_size"]
    outputs = (asked,) * axes if isinstance(asked, int) else tuple(asked) * (axes if len(asked) == 1 else 1)
    return x[:-axes] + tuple(i if o is None else o for i, o in zip(x[-axes:], outputs, strict=True))


def _windowed(flops: Callable[[int, tuple[int, ...]], int]) -> Callable[[Call], Cost]:
    return lambda call: Cost(0, flops(call.out_elements, window(call).kernel))


def _adaptive(flops: Callable[[int, tuple[tuple[int, int], ...]], int]) -> Callable[[Call], Cost]:
    def cost(call: Call) -> Cost:
        axes = axes_of(call)
        x = tuple(call.first.shape)
        channels = call.out_elements
        for o in call.out[-axes:]:
            channels //= max(o, 1)
        return Cost(0, flops(channels, tuple(zip(x[-axes:], call.out[-axes:], strict=True))))

    return cost


_MAX_COST = _windowed(max_pool_flops)
MAX = Operator("max pool", "Pooling", _MAX_COST, _pool_shape, channels)
MAX_WITH_INDICES = Operator("max pool", "Pooling", _MAX_COST, _pool_shape)
AVERAGE = Operator("average pool", "Pooling", _windowed(average_pool_flops), _pool_shape, averaged)
ADAPTIVE_AVERAGE = Operator(
    "adaptive average pool", "Pooling", _adaptive(adaptive_average_pool_flops), _adaptive_shape, averaged
)
ADAPTIVE_MAX = Operator("adaptive max pool", "Pooling", _adaptive(adaptive_max_pool_flops), _adaptive_shape)

TABLE = {
    **{f"aten.max_pool{n}d": MAX for n in (1, 2, 3)},
    **{f"aten.max_pool{n}d_with_indices": MAX_WITH_INDICES for n in (1, 2, 3)},
    **{f"aten.avg_pool{n}d": AVERAGE for n in (1, 2, 3)},
    **{f"aten.adaptive_avg_pool{n}d": ADAPTIVE_AVERAGE for n in (1, 2, 3)},
    **{f"aten._adaptive_avg_pool{n}d": ADAPTIVE_AVERAGE for n in (2, 3)},
    **{f"aten.adaptive_max_pool{n}d": ADAPTIVE_MAX for n in (1, 2, 3)},
}
