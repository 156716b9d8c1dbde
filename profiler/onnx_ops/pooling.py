"""Pools: attributes of the nodes to the formulas of `formulas.pooling`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from profiler.formulas.auto_pad import Pads, padded_pool_size
from profiler.formulas.pooling import adaptive_average_pool_flops, adaptive_max_pool_flops, average_pool_flops
from profiler.formulas.pooling import max_pool_flops as max_flops
from profiler.formulas.resampling import FLOPS_PER_ELEMENT
from profiler.formulas.statistics import vector_norm_flops
from profiler.onnx_ops.call import Cost, NodeCall, Operator, UncountedError
from profiler.onnx_ops.convolution import fitting, per_axis, window_pads
from profiler.onnx_ops.fields import looked_up, unary
from profiler.onnx_ops.value import Shape
from profiler.receptive.field import TensorField
from profiler.receptive.index_map import window


@dataclass(frozen=True, slots=True)
class Window:
    """A pool's window, per spatial axis, and the first of those axes."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pads: tuple[Pads, ...]
    dilation: tuple[int, ...]
    ceil_mode: bool
    first: int


def _window(call: NodeCall, *, channels_last: bool = False) -> Window:
    kernel = tuple(call.attr("kernel_shape"))
    axes = len(kernel)
    first = 1 if channels_last else 2
    stride, dilation = per_axis(call, "strides", axes), per_axis(call, "dilations", axes)
    pads = window_pads(call, call.shape()[first : first + axes], kernel, stride, dilation)
    same_size = str(call.attr("auto_pad", "NOTSET")).startswith("SAME")
    return Window(kernel, stride, pads, dilation, bool(call.attr("ceil_mode", 0)) and not same_size, first)


def _last(call: NodeCall) -> bool:
    return bool(call.attr("channels_last", 0))


def _shape(channels_last: Callable[[NodeCall], bool]) -> Callable[[NodeCall], Sequence[Shape]]:
    def shape(call: NodeCall) -> Sequence[Shape]:
        w, x = _window(call, channels_last=channels_last(call)), call.shape()
        per = zip(x[w.first :], w.kernel, w.stride, w.pads, w.dilation, strict=False)
        sizes = [padded_pool_size(i, k, s, p, d, ceil_mode=w.ceil_mode) for i, k, s, p, d in per]
        fitting(x[w.first : w.first + len(sizes)], sizes)
        size = (*x[: w.first], *sizes, *x[w.first + len(sizes) :])
        return [size] * len(call.node.output)

    return shape


def _field(channels_last: Callable[[NodeCall], bool]) -> Callable[[NodeCall], Sequence[TensorField | None]]:
    def rule(call: NodeCall, field: TensorField) -> TensorField:
        w = _window(call, channels_last=channels_last(call))
        per = zip(w.kernel, w.stride, w.pads, w.dilation, strict=True)
        maps = [window(k, s, p[0], d) for k, s, p, d in per]
        return field.slid(w.first, maps, call.out[w.first : w.first + len(maps)])

    def apply(call: NodeCall) -> Sequence[TensorField | None]:
        return [unary(rule)(call)[0]] * len(call.outputs)

    return apply


def _never(_call: NodeCall) -> bool:
    return False


def _always(_call: NodeCall) -> bool:
    return True


def _pool(
    op: str, flops: Callable[[int, tuple[int, ...]], int], channels_last: Callable[[NodeCall], bool] = _never
) -> Operator:
    def cost(call: NodeCall) -> Cost:
        return 0, flops(call.out_elements, tuple(call.attr("kernel_shape")))

    quantized = channels_last is not _never
    return Operator(op, "Pooling", cost, _shape(channels_last), _field(channels_last), integers=quantized)


def _lp_cost(call: NodeCall) -> Cost:
    size = prod(call.attr("kernel_shape"))
    return 0, vector_norm_flops(call.out_elements, size, int(call.attr("p", 2)))


def _global_shape(call: NodeCall) -> Sequence[Shape]:
    x = call.shape()
    if _last(call):
        return [(x[0], *(1,) * (len(x) - 2), x[-1])]
    return [(*x[:2], *(1,) * (len(x) - 2))]


def _global(op: str, flops: Callable[[int, tuple[tuple[int, int], ...]], int], *, integers: bool = False) -> Operator:
    def cost(call: NodeCall) -> Cost:
        x = call.shape()
        spatial = x[1:-1] if _last(call) else x[2:]
        return 0, flops(call.out_elements, tuple((i, 1) for i in spatial))

    return Operator(op, "Pooling", cost, _global_shape, unary(_global_field), integers=integers)


def _global_field(call: NodeCall, field: TensorField) -> TensorField:
    rank = len(field.shape)
    return field.reduced(range(1, rank - 1) if _last(call) else range(2, rank), keep=True)


def _global_lp_cost(call: NodeCall) -> Cost:
    size = call.input(0).elements // max(call.out_elements, 1)
    return 0, vector_norm_flops(call.out_elements, size, int(call.attr("p", 2)))


def _unpool_shape(call: NodeCall) -> Sequence[Shape]:
    """The size before the pool: given, or the smallest that the window could have come from."""
    if call.has(2):
        return [call.integers(2)]
    w, x = _window(call), call.shape()
    per = zip(x[2:], w.kernel, w.stride, w.pads, strict=True)
    return [(*x[:2], *((i - 1) * s - sum(p) + k for i, k, s, p in per))]


def _roi_align_cost(call: NodeCall) -> Cost:
    """Bilinear samples (9 each) of every bin, joined by a mean or a maximum."""
    ratio = int(call.attr("sampling_ratio", 0))
    if ratio <= 0:
        raise UncountedError("sampling_ratio 0 lets the size of each region decide how many samples are taken")
    return 0, call.out_elements * ratio * ratio * (FLOPS_PER_ELEMENT["bilinear"] + 1)


TABLE = {
    "MaxPool": _pool("max pool", max_flops),
    "AveragePool": _pool("average pool", average_pool_flops),
    "LpPool": Operator("lp pool", "Pooling", _lp_cost, _shape(_never), _field(_never)),
    "GlobalAveragePool": _global("adaptive average pool", adaptive_average_pool_flops),
    "GlobalMaxPool": _global("adaptive max pool", adaptive_max_pool_flops),
    "GlobalLpPool": Operator("lp pool", "Pooling", _global_lp_cost, _global_shape, unary(_global_field)),
    "MaxUnpool": Operator("unpool", "Data movement", None, _unpool_shape, looked_up),
    "RoiAlign": Operator("region pool", "Pooling", _roi_align_cost, field=looked_up),
    "com.microsoft.NhwcMaxPool": _pool("max pool", max_flops, _always),
    "com.microsoft.QLinearAveragePool": _pool("average pool", average_pool_flops, _last),
    "com.microsoft.QLinearGlobalAveragePool": _global(
        "adaptive average pool", adaptive_average_pool_flops, integers=True
    ),
}
