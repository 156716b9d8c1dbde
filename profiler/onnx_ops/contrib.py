"""What ONNX Runtime's optimizer and quantizer write (`com.microsoft`): fused and 8-bit forms of standard operators.

A fused operator costs the sum of its parts. See onnxruntime's docs/ContribOperators.md for inputs and attributes.
"""

from collections.abc import Callable, Sequence
from math import prod

from onnx import TensorProto

from profiler.formulas.activation import COST_PER_ELEMENT, softmax_flops
from profiler.formulas.dense import broadcast_shape, linear_macs
from profiler.formulas.normalization import rms_norm_flops, statistics_norm_flops
from profiler.formulas.quantization import dynamic_quantize_flops
from profiler.onnx_ops.attention import first_float
from profiler.onnx_ops.call import Cost, Fields, NodeCall, Operator
from profiler.onnx_ops.convolution import QUANTIZED, conv_cost, conv_field, conv_shape
from profiler.onnx_ops.dense import Factors, gemm, linear_field, product
from profiler.onnx_ops.elementwise import activation
from profiler.onnx_ops.fields import pointwise, unary, unknown
from profiler.onnx_ops.movement import joined_shape
from profiler.onnx_ops.normalization import same
from profiler.onnx_ops.quantized import DEQUANTIZE, QUANTIZE
from profiler.onnx_ops.recurrent import TABLE as RECURRENT
from profiler.onnx_ops.value import Shape

_ACTIVATIONS = {
    "Relu": "relu", "Clip": "clamp", "LeakyRelu": "leaky_relu", "Sigmoid": "sigmoid", "Tanh": "tanh",
    "HardSigmoid": "hardsigmoid", "Elu": "elu", "Softplus": "softplus", "Softsign": "softsign",
}  # fmt: skip


def activated(call: NodeCall) -> int:
    """FLOPs of the activation that is fused into a node."""
    name = str(call.attr("activation", ""))
    return COST_PER_ELEMENT.get(_ACTIVATIONS.get(name, ""), 1) * call.out_elements if name else 0


def _fused_conv_cost(call: NodeCall) -> Cost:
    macs, flops = conv_cost(call)
    return macs, flops + activated(call) + (call.out_elements if call.has(3) else 0)


_CONV_FIELD = conv_field()


def _fused_conv_field(call: NodeCall) -> Fields:
    if not call.has(3) or call.input(3).field is None:
        return _CONV_FIELD(call)
    return unknown(call)


def _fused_gemm() -> Operator:
    plain = gemm()

    def cost(call: NodeCall) -> Cost:
        macs, flops = plain.cost(call) if plain.cost else (0, 0)
        return macs, flops + activated(call)

    return Operator("fully connected", "Fully connected", cost, plain.shapes, plain.field)


def _channels_last(call: NodeCall) -> NodeCall:
    """The same convolution with its data turned to channels first."""
    x = call.shape()
    return _with_first(call, (x[0], x[-1], *x[1:-1]))


def _with_first(call: NodeCall, shape: Shape) -> NodeCall:
    first = call.input(0)
    value = type(first)(shape=shape, dtype=first.dtype)
    outputs = call.outputs
    if outputs and outputs[0].shape is not None:
        y = outputs[0].shape
        outputs = (type(first)(shape=(y[0], y[-1], *y[1:-1]), dtype=outputs[0].dtype), *outputs[1:])
    return NodeCall(call.node, call.op, call.opset, (value, *call.inputs[1:]), outputs)


def _quantized_conv_shape(call: NodeCall) -> Sequence[Shape]:
    if not call.attr("channels_last", 0):
        return conv_shape(call, QUANTIZED)
    y = conv_shape(_channels_last(call), QUANTIZED)[0]
    return [(y[0], *y[2:], y[1])]


def _quantized_conv_cost(call: NodeCall) -> Cost:
    return conv_cost(_channels_last(call) if call.attr("channels_last", 0) else call, QUANTIZED)


def _skip_norm(*, rms: bool, bias: int) -> Operator:
    """The sum of both inputs (and a bias), normalised; the sum is an output as well."""

    def cost(call: NodeCall) -> Cost:
        x = call.shape()
        size = x[-1]
        rows = prod(x) // max(size, 1)
        sums = prod(x) * (1 + call.has(bias))
        if rms:
            return 0, sums + rms_norm_flops(rows, size, weight=True)
        return 0, sums + statistics_norm_flops(rows, size, weight=True, bias=call.has(3))

    def shapes(call: NodeCall) -> Sequence[Shape]:
        x = call.shape()
        statistics = (*x[:-1], 1)
        return [x, statistics, statistics, x]

    def field(call: NodeCall) -> Fields:
        summed = pointwise(call)
        return [None if f is None else f.mixed([len(f.layout) - 1]) for f in summed]

    return Operator("rms norm" if rms else "layer norm", "Normalisation", cost, shapes, field)


def _embed_norm_cost(call: NodeCall) -> Cost:
    """Three looked-up vectors added (two without segments) and normalised."""
    batch, length = call.shape(0)
    hidden = call.shape(2)[1]
    sums = batch * length * hidden * (2 if call.has(4) else 1)
    return 0, sums + statistics_norm_flops(batch * length, hidden, weight=True, bias=True)


def _embed_norm_shapes(call: NodeCall) -> Sequence[Shape]:
    batch, length = call.shape(0)
    out = (batch, length, call.shape(2)[1])
    return [out, (batch,), out]


def _activation_with_bias(key: str, extra: int = 0) -> Operator:
    def cost(call: NodeCall) -> Cost:
        return 0, (COST_PER_ELEMENT[key] + extra + call.has(1)) * call.out_elements

    return Operator(key, "Activations", cost, same, pointwise)


def _bias_softmax_cost(call: NodeCall) -> Cost:
    x = call.shape()
    length = max(prod(x[int(call.attr("axis", 1)) % len(x) :]), 1)
    return 0, prod(x) + softmax_flops(prod(x) // length, length)


def _two(first: int, second: int) -> Callable[[NodeCall], Sequence[Shape]]:
    return lambda call: [broadcast_shape(call.shape(first), call.shape(second))]


def _quantized_binary(key: str) -> Operator:
    return Operator(
        key,
        "Element by element",
        lambda call: (0, COST_PER_ELEMENT[key] * call.out_elements),
        _two(0, 3),
        pointwise,
        integers=True,
    )


def _quantized_concat(call: NodeCall) -> Sequence[Shape]:
    return [joined_shape([call.shape(n) for n in range(2, len(call.inputs), 3)], int(call.attr("axis", 1)))]


def _dynamic_product(plain: Operator) -> Operator:
    """A product that rounds its left factor as it comes."""

    def cost(call: NodeCall) -> Cost:
        macs, flops = plain.cost(call) if plain.cost else (0, 0)
        return macs, flops + dynamic_quantize_flops(call.input(0).elements)

    return Operator(plain.op, plain.formula, cost, plain.shapes, plain.field, integers=True)


def _packed_product_cost(call: NodeCall) -> Cost:
    """MatMulNBits: the weights are packed; the attributes K and N say what they stand for."""
    x = call.shape()
    macs = linear_macs(prod(x[:-1]), int(call.attr("K")), int(call.attr("N")))
    return macs, 2 * macs + (call.out_elements if call.has(5) else 0)


def _softmax_of_8_bits(call: NodeCall) -> Cost:
    x = call.shape()
    length = max(x[int(call.attr("axis", -1)) % len(x)], 1)
    return 0, softmax_flops(prod(x) // length, length)


def _qgemm_type(call: NodeCall) -> int:
    return call.input(8).dtype if call.has(8) else int(TensorProto.FLOAT)


_QGEMM = gemm(integers=True, bias=6, factors=Factors(0, 3))
_INTEGER_TO_FLOAT = product(bias=6, integers=True)

_OPERATORS = {
    "FusedConv": Operator("convolution", "Convolution", _fused_conv_cost, conv_shape, _fused_conv_field),
    "QLinearConv": Operator(
        "convolution",
        "Convolution",
        _quantized_conv_cost,
        _quantized_conv_shape,
        lambda call: unknown(call) if call.attr("channels_last", 0) else conv_field(QUANTIZED)(call),
        integers=True,
    ),
    "FusedGemm": _fused_gemm(),
    "FusedMatMul": product(scaled=("alpha",)),
    "TransposeMatMul": product(scaled=("alpha",)),
    "QGemm": Operator(
        _QGEMM.op, _QGEMM.formula, _QGEMM.cost, _QGEMM.shapes, _QGEMM.field, dtype=_qgemm_type, integers=True
    ),
    "MatMulIntegerToFloat": Operator(
        _INTEGER_TO_FLOAT.op,
        _INTEGER_TO_FLOAT.formula,
        _INTEGER_TO_FLOAT.cost,
        _INTEGER_TO_FLOAT.shapes,
        _INTEGER_TO_FLOAT.field,
        dtype=first_float,
        integers=True,
    ),
    "DynamicQuantizeMatMul": _dynamic_product(product(bias=4)),
    "DynamicQuantizeLSTM": RECURRENT["LSTM"],
    "MatMulNBits": Operator(
        "matrix product",
        "Matrix product",
        _packed_product_cost,
        lambda call: [(*call.shape()[:-1], int(call.attr("N")))],
        unary(linear_field),
    ),
    "SkipLayerNormalization": _skip_norm(rms=False, bias=4),
    "SkipSimplifiedLayerNormalization": _skip_norm(rms=True, bias=3),
    "EmbedLayerNormalization": Operator(
        "layer norm", "Normalisation", _embed_norm_cost, _embed_norm_shapes, dtype=first_float
    ),
    "BiasSoftmax": Operator("softmax", "Softmax", _bias_softmax_cost, same),
    "Gelu": activation("gelu"),
    "BiasGelu": _activation_with_bias("gelu"),
    "FastGelu": _activation_with_bias("gelu_tanh"),
    "QuickGelu": _activation_with_bias("silu", extra=1),
    "QLinearAdd": _quantized_binary("add"),
    "QLinearMul": _quantized_binary("mul"),
    "QLinearSigmoid": activation("sigmoid", integers=True),
    "QLinearLeakyRelu": activation("leaky_relu", integers=True),
    "QLinearSoftmax": Operator("softmax", "Softmax", _softmax_of_8_bits, same, integers=True),
    "QLinearConcat": Operator(
        "concat", "Data movement", None, _quantized_concat, dtype=lambda call: call.input(2).dtype
    ),
    "QLinearWhere": Operator(
        "movement",
        "Data movement",
        None,
        lambda call: [broadcast_shape(call.shape(0), call.shape(1), call.shape(4))],
        pointwise,
        dtype=lambda call: call.input(1).dtype,
    ),
    "QuantizeLinear": QUANTIZE,
    "DequantizeLinear": DEQUANTIZE,
}

TABLE = {f"com.microsoft.{name}": operator for name, operator in _OPERATORS.items()}
