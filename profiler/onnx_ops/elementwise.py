"""Activations and element-by-element operators: each costs what `COST_PER_ELEMENT` says of it."""

from collections.abc import Sequence
from math import prod

from profiler.formulas.activation import COST_PER_ELEMENT
from profiler.formulas.dense import broadcast_shape
from profiler.onnx_ops.call import Cost, NodeCall, Operator
from profiler.onnx_ops.fields import backwards, pointwise, unary
from profiler.onnx_ops.normalization import same
from profiler.onnx_ops.value import Shape
from profiler.receptive.field import TensorField
from profiler.receptive.index_map import shifted

# Elementary functions that the table of documented forms does not name: one operation each.
_ELEMENTARY = ("Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh")

_ACTIVATIONS = {
    "Relu": "relu", "LeakyRelu": "leaky_relu", "PRelu": "prelu", "Elu": "elu", "Selu": "selu", "Celu": "celu",
    "Sigmoid": "sigmoid", "Tanh": "tanh", "Mish": "mish", "Softplus": "softplus", "Softsign": "softsign",
    "HardSigmoid": "hardsigmoid", "HardSwish": "hardswish", "ThresholdedRelu": "threshold", "Shrink": "softshrink",
    "Swish": "silu",
}  # fmt: skip
_ELEMENTWISE = {
    "Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Pow": "pow", "Neg": "neg", "Abs": "abs", "Sign": "sign",
    "Exp": "exp", "Log": "log", "Sqrt": "sqrt", "Reciprocal": "reciprocal", "Erf": "erf", "Sin": "sin", "Cos": "cos",
    "Floor": "round", "Ceil": "round", "Round": "round", "Mod": "remainder", "Equal": "compare", "Less": "compare",
    "LessOrEqual": "compare", "Greater": "compare", "GreaterOrEqual": "compare",
}  # fmt: skip


def broadcast(call: NodeCall) -> Sequence[Shape]:
    """The common size of all inputs."""
    return [broadcast_shape(*(call.shape(n) for n, v in enumerate(call.inputs) if v is not None))]


def activation(key: str, *, integers: bool = False) -> Operator:
    """An activation; the size is the first input's."""
    each = COST_PER_ELEMENT[key]
    return Operator(key, "Activations", lambda call: (0, each * call.out_elements), same, pointwise, integers=integers)


def elementwise(key: str) -> Operator:
    """An operator on operands that broadcast."""
    each = COST_PER_ELEMENT[key]
    return Operator(key, "Element by element", lambda call: (0, each * call.out_elements), broadcast, pointwise)


def _elementary(name: str) -> Operator:
    return Operator(name.lower(), "Element by element", lambda call: (0, call.out_elements), same, pointwise)


def _gelu_cost(call: NodeCall) -> Cost:
    key = "gelu_tanh" if call.attr("approximate", "none") == "tanh" else "gelu"
    return 0, COST_PER_ELEMENT[key] * call.out_elements


def _clip_cost(call: NodeCall) -> Cost:
    """One comparison for each of the limits."""
    limits = sum(call.has(n) or name in call.attributes for n, name in ((1, "min"), (2, "max")))
    return 0, limits * COST_PER_ELEMENT["maximum"] * call.out_elements


def _variadic(op: str, *, mean: bool = False) -> Operator:
    """Several operands joined one after the other; a mean divides once more."""

    def cost(call: NodeCall) -> Cost:
        return 0, (len(call.tensors) - 1 + mean) * call.out_elements

    return Operator(op, "Element by element", cost, broadcast, pointwise)


def _glu_shape(call: NodeCall) -> Sequence[Shape]:
    x, axis = list(call.shape()), int(call.attr("axis", -1))
    x[axis] //= 2
    return [tuple(x)]


def _running_field(call: NodeCall, field: TensorField) -> TensorField:
    axis = call.integers(1)[0] % len(field.layout)
    turned = bool(call.attr("reverse", 0))
    seen = (backwards(field, axis) if turned else field).running(axis)
    if call.attr("exclusive", 0):
        seen = seen.moved(axis, shifted(-1), seen.shape[axis])
    return backwards(seen, axis) if turned else seen


def _running(op: str) -> Operator:
    each = COST_PER_ELEMENT["cumsum"]
    return Operator(op, "Element by element", lambda call: (0, each * prod(call.shape())), same, unary(_running_field))


def free(op: str = "movement") -> Operator:
    """An operator on truth values or bits, or a choice between operands: free by convention."""
    return Operator(op, "Data movement", None, broadcast, pointwise)


TABLE = {
    **{name: activation(key) for name, key in _ACTIVATIONS.items()},
    **{name: elementwise(key) for name, key in _ELEMENTWISE.items()},
    **{name: _elementary(name) for name in _ELEMENTARY},
    **{name: free() for name in ("And", "Or", "Xor", "Not", "IsNaN", "IsInf", "Where", "BitShift")},
    **{name: free() for name in ("BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot")},
    "Gelu": Operator("gelu", "Activations", _gelu_cost, same, pointwise),
    "Clip": Operator("clamp", "Element by element", _clip_cost, same, pointwise),
    "Sum": _variadic("add"),
    "Mean": _variadic("mean", mean=True),
    "Max": _variadic("maximum"),
    "Min": _variadic("minimum"),
    "CumSum": _running("cumsum"),
    "CumProd": _running("cumprod"),
}
