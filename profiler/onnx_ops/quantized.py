"""Rounding to integers and back in the standard domain; products of integers are with their floating-point twins.

A product in 8 bits counts as what it stands for: one MAC each and two FLOPs, so that a graph in either form of
quantization can be held against the float one.
"""

from collections.abc import Sequence

from onnx import TensorProto

from profiler.formulas.quantization import dequantize_flops, dynamic_quantize_flops, quantize_flops
from profiler.onnx_ops.call import NodeCall, Operator
from profiler.onnx_ops.fields import unary
from profiler.onnx_ops.normalization import same
from profiler.onnx_ops.value import Shape
from profiler.receptive.field import TensorField


def _through(_call: NodeCall, field: TensorField) -> TensorField:
    return field


def _dynamic_shapes(call: NodeCall) -> Sequence[Shape]:
    return [call.shape(), (), ()]


def _dynamic_field(_call: NodeCall, field: TensorField) -> TensorField:
    """The range is taken from the whole tensor; what is rounded stays in its place."""
    return field.mixed(range(len(field.layout)))


def _quantized_type(call: NodeCall) -> int:
    return call.input(2).dtype if call.has(2) else int(TensorProto.UINT8)


QUANTIZE = Operator(
    "quantize",
    "Quantization",
    lambda call: (0, quantize_flops(call.out_elements)),
    same,
    unary(_through),
    dtype=_quantized_type,
    integers=True,
)
DEQUANTIZE = Operator(
    "dequantize",
    "Quantization",
    lambda call: (0, dequantize_flops(call.out_elements)),
    same,
    unary(_through),
    dtype=lambda call: call.input(1).dtype,
    integers=True,
)

TABLE = {
    "QuantizeLinear": QUANTIZE,
    "DequantizeLinear": DEQUANTIZE,
    "DynamicQuantizeLinear": Operator(
        "quantize",
        "Quantization",
        lambda call: (0, dynamic_quantize_flops(call.out_elements)),
        _dynamic_shapes,
        unary(_dynamic_field),
    ),
}
