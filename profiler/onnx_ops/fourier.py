"""Fourier transforms: one per row, or one per frame of a signal."""

from collections.abc import Sequence
from math import prod

from profiler.formulas.statistics import fft_flops
from profiler.onnx_ops.call import Cost, NodeCall, Operator
from profiler.onnx_ops.fields import unary
from profiler.onnx_ops.value import Shape
from profiler.receptive.field import TensorField


def _axis(call: NodeCall) -> int:
    """Opset 20 made the axis an input."""
    rank = len(call.shape())
    return (call.integers(2)[0] if call.has(2) else int(call.attr("axis", -2 if call.opset >= 20 else 1))) % rank


def _points(call: NodeCall) -> int:
    """Length of the transform; what is given of a one-sided spectrum is half of it."""
    if call.has(1):
        return call.integers(1)[0]
    size = call.shape()[_axis(call)]
    return 2 * (size - 1) if call.attr("inverse", 0) and call.attr("onesided", 0) else size


def _dft_shape(call: NodeCall) -> Sequence[Shape]:
    x, n = list(call.shape()), _points(call)
    inverse, half = bool(call.attr("inverse", 0)), bool(call.attr("onesided", 0))
    x[_axis(call)] = n // 2 + 1 if half and not inverse else n
    x[-1] = 1 if half and inverse else 2
    return [tuple(x)]


def _dft_cost(call: NodeCall) -> Cost:
    x = call.shape()
    rows = prod(x[:-1]) // max(x[_axis(call)], 1)
    return 0, fft_flops(rows, _points(call), real=x[-1] == 1 or bool(call.attr("onesided", 0)))


def _frame(call: NodeCall) -> int:
    return call.integers(3)[0] if call.has(3) else call.shape(2)[0]


def _stft_shape(call: NodeCall) -> Sequence[Shape]:
    x, step, n = call.shape(), call.integers(1)[0], _frame(call)
    frames = (x[1] - n) // step + 1
    return [(x[0], frames, n // 2 + 1 if call.attr("onesided", 1) else n, 2)]


def _stft_cost(call: NodeCall) -> Cost:
    """A transform a frame, and a product a value where there is a window."""
    x, n = call.shape(), _frame(call)
    frames = call.out[0] * call.out[1]
    real = len(x) < 3 or x[2] == 1
    return 0, fft_flops(frames, n, real=real) + (frames * n if call.has(2) else 0)


def _mixed(call: NodeCall, field: TensorField) -> TensorField:
    return field.like(call.out) if field.shape != call.out else field.mixed([_axis(call), len(field.shape) - 1])


TABLE = {
    "DFT": Operator("fourier transform", "Fourier transforms", _dft_cost, _dft_shape, unary(_mixed)),
    "STFT": Operator("fourier transform", "Fourier transforms", _stft_cost, _stft_shape),
}
