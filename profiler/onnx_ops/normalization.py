"""Normalisation layers and softmax: attributes of the nodes to the formulas."""

from collections.abc import Callable, Sequence
from math import prod

from profiler.formulas.activation import log_softmax_flops, reduction_flops, softmax_flops
from profiler.formulas.normalization import (
    batch_norm_flops,
    local_response_flops,
    rms_norm_flops,
    statistics_norm_flops,
)
from profiler.formulas.statistics import vector_norm_flops
from profiler.onnx_ops.call import Cost, NodeCall, Operator
from profiler.onnx_ops.fields import Rule, unary
from profiler.onnx_ops.value import Shape
from profiler.receptive.field import TensorField

LOOSE_SOFTMAX = 13  # before this opset, softmax joined all axes from `axis` on


def same(call: NodeCall) -> Sequence[Shape]:
    """As the first input."""
    return [call.shape()]


def _mixing(axes: Callable[[NodeCall], Sequence[int]]) -> Rule:
    return unary(lambda call, field: field.mixed(axes(call)))


def _channel_groups(call: NodeCall) -> int:
    x = call.shape()
    return x[0] * x[1]


def _statistics(groups: Callable[[NodeCall], int], *, weight: int = 1, bias: int = 2) -> Callable[[NodeCall], Cost]:
    def cost(call: NodeCall) -> Cost:
        n = max(groups(call), 1)
        size = call.input(0).elements // n
        affine = {"weight": weight > 0 and call.has(weight), "bias": bias > 0 and call.has(bias)}
        return 0, statistics_norm_flops(n, size, **affine)

    return cost


def _batch_cost(call: NodeCall) -> Cost:
    x = call.shape()
    if call.attr("training_mode", 0):
        return 0, statistics_norm_flops(x[1], prod(x) // max(x[1], 1), weight=True, bias=True)
    return 0, batch_norm_flops(prod(x))


def _batch_field(call: NodeCall, field: TensorField) -> TensorField:
    trains = call.attr("training_mode", 0)
    return field.mixed([a for a in range(len(field.layout)) if a != 1]) if trains else field


def _from_axis(call: NodeCall, default: int = -1) -> range:
    rank = len(call.shape())
    return range(int(call.attr("axis", default)) % max(rank, 1), rank)


def _layer_groups(call: NodeCall) -> int:
    return prod(call.shape()[: _from_axis(call).start])


def _layer_shapes(call: NodeCall) -> Sequence[Shape]:
    x, first = call.shape(), _from_axis(call).start
    statistics = (*x[:first], *(1,) * (len(x) - first))
    return [x, statistics, statistics]


def _rms_cost(call: NodeCall) -> Cost:
    groups = max(_layer_groups(call), 1)
    return 0, rms_norm_flops(groups, call.input(0).elements // groups, weight=call.has(1))


def _group_cost(call: NodeCall) -> Cost:
    return _statistics(lambda c: c.shape()[0] * int(c.attr("num_groups")))(call)


def _mean_variance_axes(call: NodeCall) -> tuple[int, ...]:
    rank = len(call.shape())
    return tuple(a % rank for a in call.attr("axes", (0, 2, 3)))


def _mean_variance_groups(call: NodeCall) -> int:
    joined = _mean_variance_axes(call)
    return prod(n for axis, n in enumerate(call.shape()) if axis not in joined)


def _axis(call: NodeCall, default: int = -1) -> int:
    return int(call.attr("axis", default)) % max(len(call.shape()), 1)


def _softmax_axes(call: NodeCall) -> range:
    if call.opset < LOOSE_SOFTMAX and "." not in call.op:
        return _from_axis(call, 1)
    axis = _axis(call)
    return range(axis, axis + 1)


def _softmax(flops: Callable[[int, int], int]) -> Callable[[NodeCall], Cost]:
    def cost(call: NodeCall) -> Cost:
        length = max(prod(call.shape()[axis] for axis in _softmax_axes(call)), 1) if call.shape() else 1
        return 0, flops(call.input(0).elements // length, length)

    return cost


def _hardmax_flops(rows: int, length: int) -> int:
    return reduction_flops(rows, rows * length)


def _lp_cost(call: NodeCall) -> Cost:
    """The norm along the axis, and one division an element."""
    x = call.shape()
    elements = prod(x)
    length = max(x[_axis(call)], 1)
    return 0, vector_norm_flops(elements // length, length, int(call.attr("p", 2))) + elements


def softmax(op: str, flops: Callable[[int, int], int]) -> Operator:
    """Softmax and its kind."""
    return Operator(op, "Softmax", _softmax(flops), same, _mixing(_softmax_axes))


def norm(op: str, cost: Callable[[NodeCall], Cost], axes: Callable[[NodeCall], Sequence[int]]) -> Operator:
    """A layer that takes statistics over some axes."""
    return Operator(op, "Normalisation", cost, same, _mixing(axes))


LAYER_NORM = Operator("layer norm", "Normalisation", _statistics(_layer_groups), _layer_shapes, _mixing(_from_axis))
RMS_NORM = Operator("rms norm", "Normalisation", _rms_cost, _layer_shapes, _mixing(_from_axis))

TABLE = {
    "BatchNormalization": Operator("batch norm", "Normalisation", _batch_cost, same, unary(_batch_field)),
    "InstanceNormalization": norm("instance norm", _statistics(_channel_groups), lambda c: range(2, len(c.shape()))),
    "GroupNormalization": norm("group norm", _group_cost, lambda c: range(1, len(c.shape()))),
    "LayerNormalization": LAYER_NORM,
    "RMSNormalization": RMS_NORM,
    "SimplifiedLayerNormalization": RMS_NORM,  # ONNX Runtime writes it in the standard domain
    "MeanVarianceNormalization": norm(
        "mean variance norm", _statistics(_mean_variance_groups, weight=0, bias=0), _mean_variance_axes
    ),
    "LRN": Operator(
        "local response norm",
        "Normalisation",
        lambda call: (0, local_response_flops(call.out_elements, int(call.attr("size")))),
        same,
        _mixing(lambda _: (1,)),
    ),
    "LpNormalization": norm("lp norm", _lp_cost, lambda call: (_axis(call),)),
    "Softmax": softmax("softmax", softmax_flops),
    "LogSoftmax": softmax("log-softmax", log_softmax_flops),
    "Hardmax": softmax("hardmax", _hardmax_flops),
}
