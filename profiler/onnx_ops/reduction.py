"""Reductions: which axes go, and the operations of each kind."""

from collections.abc import Callable, Sequence

from profiler.formulas.activation import reduction_flops
from profiler.formulas.statistics import logsumexp_flops, vector_norm_flops
from profiler.onnx_ops.call import Cost, NodeCall, Operator
from profiler.onnx_ops.fields import unary
from profiler.onnx_ops.value import Shape
from profiler.receptive.field import TensorField


def reduced_axes(call: NodeCall) -> tuple[int, ...]:
    """Axes that go, none negative; all of them where none is named, unless the node says otherwise."""
    rank = len(call.shape())
    axes = call.listed("axes", 1)
    if axes:
        return tuple(sorted({a % max(rank, 1) for a in axes}))
    return () if call.attr("noop_with_empty_axes", 0) else tuple(range(rank))


def _arg_axis(call: NodeCall) -> tuple[int, ...]:
    return (int(call.attr("axis", 0)) % max(len(call.shape()), 1),)


Axes = Callable[[NodeCall], tuple[int, ...]]


def reduction(
    op: str,
    flops: Callable[[int, int], int],
    axes: Axes = reduced_axes,
    *,
    integers: bool = False,
    formula: str = "Reductions",
) -> Operator:
    """A reduction whose cost follows from the number of results and of values."""

    def cost(call: NodeCall) -> Cost:
        return 0, flops(call.out_elements, call.input(0).elements)

    def shapes(call: NodeCall) -> Sequence[Shape]:
        gone, keep = axes(call), bool(call.attr("keepdims", 1))
        return [tuple(1 if n in gone else size for n, size in enumerate(call.shape()) if keep or n not in gone)]

    def rule(call: NodeCall, field: TensorField) -> TensorField:
        return field.reduced(axes(call), keep=bool(call.attr("keepdims", 1)))

    return Operator(op, formula, cost, shapes, unary(rule), integers=integers)


def _mean(outputs: int, inputs: int) -> int:
    return reduction_flops(outputs, inputs, mean=True)


def _l1(outputs: int, inputs: int) -> int:
    return vector_norm_flops(outputs, inputs // max(outputs, 1), 1)


def _l2(outputs: int, inputs: int) -> int:
    return vector_norm_flops(outputs, inputs // max(outputs, 1))


def _squares(outputs: int, inputs: int) -> int:
    """One square a value, then the sum."""
    return inputs + reduction_flops(outputs, inputs)


def _log_sum(outputs: int, inputs: int) -> int:
    """The sum, then one logarithm."""
    return reduction_flops(outputs, inputs) + outputs


def _log_sum_exp(outputs: int, inputs: int) -> int:
    return logsumexp_flops(outputs, inputs // max(outputs, 1))


MEAN = reduction("mean", _mean)

TABLE = {
    "ReduceSum": reduction("sum", reduction_flops),
    "ReduceMean": MEAN,
    "ReduceMax": reduction("extreme", reduction_flops),
    "ReduceMin": reduction("extreme", reduction_flops),
    "ReduceProd": reduction("product", reduction_flops),
    "ReduceL1": reduction("norm", _l1, formula="Vector norms"),
    "ReduceL2": reduction("norm", _l2, formula="Vector norms"),
    "ReduceSumSquare": reduction("sum of squares", _squares),
    "ReduceLogSum": reduction("log-sum", _log_sum),
    "ReduceLogSumExp": reduction("log-sum-exp", _log_sum_exp, formula="Softmax"),
    "ArgMax": reduction("extreme", reduction_flops, _arg_axis),
    "ArgMin": reduction("extreme", reduction_flops, _arg_axis),
    "com.microsoft.QLinearReduceMean": reduction("mean", _mean, integers=True),
}
