"""Element-by-element operators, activations, softmax, norms, reductions, interpolation: ATen arguments to formulas."""

from collections.abc import Callable, Sequence
from math import prod

import torch

from profiler.aten.allocate import FLOATS, channels, empty, joined, like_first, rows, truth
from profiler.aten.call import Call, Cost, Make, Operator, Shape
from profiler.formulas.activation import (
    COST_PER_ELEMENT,
    log_softmax_flops,
    reduction_flops,
    softmax_flops,
    variance_flops,
)
from profiler.formulas.dense import broadcast_shape
from profiler.formulas.normalization import batch_norm_flops, rms_norm_flops, statistics_norm_flops
from profiler.formulas.resampling import FLOPS_PER_ELEMENT, resized


def _broadcast(call: Call) -> Shape | None:
    first, *rest = call.tensors
    shape = first.shape
    if not rest or all(t.shape == shape for t in rest):
        return tuple(shape)
    try:
        return broadcast_shape(*[tuple(t.shape) for t in call.tensors])
    except ValueError:
        return None


def _same(call: Call) -> Shape:
    return tuple(call.first.shape)


def elementwise(op: str, key: str | None = None, make: Make | None = joined) -> Operator:
    """An operator that costs `COST_PER_ELEMENT[key]` for every element of its result."""
    each = COST_PER_ELEMENT[key or op]
    return Operator(op, "Element by element", lambda call: Cost(0, each * call.out_elements), _broadcast, make)


def activation(op: str) -> Operator:
    """An activation: as `elementwise`, the size is the input's."""
    each = COST_PER_ELEMENT[op]
    return Operator(op, "Activations", lambda call: Cost(0, each * call.out_elements), _same, like_first)


def _add_cost(call: Call) -> Cost:
    scaled = call.get("alpha") not in (1, None)
    return Cost(0, COST_PER_ELEMENT["add_scaled" if scaled else "add"] * call.out_elements)


def _gelu_cost(call: Call) -> Cost:
    key = "gelu_tanh" if call["approximate"] == "tanh" else "gelu"
    return Cost(0, COST_PER_ELEMENT[key] * call.out_elements)


def _glu_shape(call: Call) -> Shape:
    x, axis = list(call.shape("self")), call["dim"]
    x[axis] //= 2
    return tuple(x)


def _rows(flops: Callable[[int, int], int]) -> Callable[[Call], Cost]:
    def cost(call: Call) -> Cost:
        length = call.shape("self")[call["dim"]] if call.shape("self") else 1
        return Cost(0, flops(call.out_elements // max(length, 1), length))

    return cost


def _batch_norm_cost(call: Call) -> Cost:
    args = call.args
    x = args[0].shape
    elements = args[0].numel()
    if not args[5] and args[3] is not None:
        return Cost(0, batch_norm_flops(elements))
    return Cost(0, statistics_norm_flops(x[1], elements // max(x[1], 1), **_affine(call)))


def _affine(call: Call) -> dict[str, bool]:
    return {"weight": call["weight"] is not None, "bias": call["bias"] is not None}


def _instance_norm_cost(call: Call) -> Cost:
    x = call.shape("input")
    groups = x[0] * x[1]
    return Cost(0, statistics_norm_flops(groups, prod(x) // max(groups, 1), **_affine(call)))


def _layer_norm_cost(call: Call) -> Cost:
    size = prod(call["normalized_shape"])
    return Cost(0, statistics_norm_flops(call.out_elements // max(size, 1), size, **_affine(call)))


def _group_norm_cost(call: Call) -> Cost:
    groups = call.shape("input")[0] * call["num_groups"]
    return Cost(0, statistics_norm_flops(groups, call.out_elements // max(groups, 1), **_affine(call)))


def _rms_norm_cost(call: Call) -> Cost:
    size = prod(call["normalized_shape"])
    rows = call.out_elements // max(size, 1)
    return Cost(0, rms_norm_flops(rows, size, weight=call["weight"] is not None))


def reduced_axes(call: Call) -> tuple[int, ...]:
    """Axes that a reduction removes, none negative; all of them where none is named."""
    rank = call.first.dim()
    dims: int | Sequence[int] | None = call.get("dim")
    if dims is None or (isinstance(dims, list | tuple) and not dims):
        return tuple(range(rank))
    return tuple(sorted(d % max(rank, 1) for d in ([dims] if isinstance(dims, int) else dims)))


def reduced_shape(call: Call) -> Shape:
    """Size of a reduction's result."""
    axes, x = reduced_axes(call), tuple(call.first.shape)
    keep = bool(call.get("keepdim"))
    return tuple(1 if n in axes else size for n, size in enumerate(x) if keep or n not in axes)


def reduction(*, mean: bool = False) -> Callable[[Call], Cost]:
    """The cost of a sum, a mean or an extreme."""
    return lambda call: Cost(0, reduction_flops(call.out_elements, call.first.numel(), mean=mean))


def _extreme_cost(call: Call) -> Cost:
    return Cost(0, call.out_elements) if "other" in call else reduction()(call)


def _extreme_shape(call: Call) -> Shape | None:
    """Of two tensors the larger of each pair; of one the largest along some axes, which comes with its place."""
    return _broadcast(call) if "other" in call else reduced_shape(call)


def _extreme(call: Call, shape: Shape) -> torch.Tensor | None:
    return joined(call, shape) if "other" in call else None


def _variance(*, root: bool) -> Callable[[Call], Cost]:
    return lambda call: Cost(0, variance_flops(call.out_elements, call.first.numel(), root=root))


def _resize_shape(call: Call) -> Shape:
    x = call.shape("input")
    if call["output_size"] is not None:
        return (*x[:2], *call["output_size"])
    return (*x[:2], *(resized(i, s) for i, s in zip(x[2:], call["scale_factors"], strict=True)))


def _resize(mode: str) -> Operator:
    each = FLOPS_PER_ELEMENT[mode]
    shape = _resize_shape
    return Operator(
        f"{mode} interpolation", "Interpolation", lambda call: Cost(0, each * call.out_elements), shape, channels
    )


def _reduced(call: Call, shape: Shape) -> torch.Tensor | None:
    return rows(call, shape) if call.get("dtype") is None else None


def _normalized(call: Call, shape: Shape) -> torch.Tensor | None:
    axes = tuple(call["normalized_shape"])
    return rows(call, shape) if shape[-len(axes) :] == axes else None


def _batch_norm_shape(call: Call) -> Shape | None:
    """The input's; all of weight, bias and statistics have one entry a channel."""
    args = call.args
    shape = args[0].shape
    if len(shape) < 2:
        return None
    for tensor in args[1:5]:
        if tensor is not None and (tensor.dim() != 1 or tensor.numel() != shape[1]):
            return None
    return tuple(shape)


def _softmaxed(call: Call, shape: Shape) -> torch.Tensor | None:
    dtype = call.get("dtype") or call.first.dtype
    return empty(shape, dtype) if dtype in FLOATS and -len(shape) <= call["dim"] < len(shape) else None


ADD = Operator("add", "Element by element", _add_cost, _broadcast, joined)
SUBTRACT = Operator("subtract", "Element by element", _add_cost, _broadcast, joined)
SUM = Operator("sum", "Reductions", reduction(), reduced_shape, _reduced)
MEAN = Operator("mean", "Reductions", reduction(mean=True), reduced_shape, _reduced)
EXTREME = Operator("extreme", "Reductions", _extreme_cost, _extreme_shape, _extreme)
ARGUMENT = Operator("extreme", "Reductions", reduction(), reduced_shape)
COMPARE = elementwise("compare", make=truth)

_ACTIVATIONS = {
    "aten.relu": "relu", "aten.relu6": "relu6", "aten.hardtanh": "hardtanh", "aten.leaky_relu": "leaky_relu",
    "aten.elu": "elu", "aten.selu": "selu", "aten.celu": "celu", "aten.sigmoid": "sigmoid",
    "aten.log_sigmoid": "log_sigmoid", "aten.tanh": "tanh", "aten.silu": "silu", "aten.mish": "mish",
    "aten.softplus": "softplus", "aten.hardsigmoid": "hardsigmoid", "aten.hardswish": "hardswish",
    "aten.hardshrink": "hardshrink", "aten.softshrink": "softshrink", "aten.threshold": "threshold",
    "aten.prelu": "prelu", "aten.rrelu": "rrelu",
}  # fmt: skip
_ELEMENTWISE = {
    "aten.mul": "mul", "aten.multiply": "mul", "aten.div": "div", "aten.divide": "div", "aten.true_divide": "div",
    "aten.floor_divide": "floor_divide", "aten.remainder": "remainder", "aten.pow": "pow", "aten.square": "square",
    "aten.neg": "neg", "aten.abs": "abs", "aten.sign": "sign", "aten.exp": "exp", "aten.expm1": "expm1",
    "aten.log": "log", "aten.log1p": "log1p", "aten.sqrt": "sqrt", "aten.rsqrt": "rsqrt",
    "aten.reciprocal": "reciprocal", "aten.erf": "erf", "aten.sin": "sin", "aten.cos": "cos",
    "aten.maximum": "maximum", "aten.minimum": "minimum", "aten.clamp": "clamp", "aten.clip": "clamp",
    "aten.clamp_min": "maximum", "aten.clamp_max": "minimum", "aten.floor": "round", "aten.ceil": "round",
    "aten.round": "round", "aten.trunc": "round", "aten.addcmul": "addcmul", "aten.addcdiv": "addcdiv",
    "aten.lerp": "lerp", "aten.exp2": "exp", "aten.log2": "log", "aten.log10": "log", "aten.tan": "sin",
    "aten.asin": "sin", "aten.acos": "sin", "aten.atan": "sin", "aten.atan2": "atan2", "aten.sinh": "sin",
    "aten.cosh": "sin", "aten.asinh": "sin", "aten.acosh": "sin", "aten.atanh": "sin", "aten.erfc": "erf",
    "aten.erfinv": "erf", "aten.frac": "round", "aten.fmod": "remainder", "aten.fmax": "maximum",
    "aten.fmin": "minimum", "aten.logaddexp": "logaddexp", "aten.logit": "logit", "aten.xlogy": "xlogy",
    "aten.hypot": "hypot", "aten.copysign": "abs", "aten.nan_to_num": "compare", "aten.sgn": "sign",
    "aten.positive": "nothing", "aten.absolute": "abs", "aten.negative": "neg", "aten.subtract": "sub",
    "aten.polar": "polar", "aten.deg2rad": "mul", "aten.rad2deg": "mul", "aten.heaviside": "compare",
    "aten.sinc": "sinc", "aten.lgamma": "exp", "aten.digamma": "exp", "aten.special_expit": "sigmoid",
}  # fmt: skip
_INTERPOLATIONS = {
    "aten.upsample_nearest1d": "nearest", "aten.upsample_nearest2d": "nearest", "aten.upsample_nearest3d": "nearest",
    "aten._upsample_nearest_exact1d": "nearest", "aten._upsample_nearest_exact2d": "nearest",
    "aten._upsample_nearest_exact3d": "nearest", "aten.upsample_linear1d": "linear",
    "aten.upsample_bilinear2d": "bilinear", "aten.upsample_trilinear3d": "trilinear",
    "aten.upsample_bicubic2d": "bicubic",
}  # fmt: skip

TABLE = {
    "aten.add": ADD,
    "aten.sub": SUBTRACT,
    "aten.rsub": SUBTRACT,
    **{name: activation(op) for name, op in _ACTIVATIONS.items()},
    **{name: elementwise(op) for name, op in _ELEMENTWISE.items()},
    **{name: _resize(mode) for name, mode in _INTERPOLATIONS.items()},
    **{f"aten.{name}": COMPARE for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    "aten.gelu": Operator("gelu", "Activations", _gelu_cost, _same, like_first),
    "aten.cumsum": elementwise("cumsum", make=None),
    "aten.glu": Operator(
        "glu", "Activations", lambda call: Cost(0, COST_PER_ELEMENT["glu"] * call.out_elements), _glu_shape
    ),
    "aten.softmax": Operator("softmax", "Softmax", _rows(softmax_flops), _same, _softmaxed),
    "aten._softmax": Operator("softmax", "Softmax", _rows(softmax_flops), _same, _softmaxed),
    "aten.log_softmax": Operator("log-softmax", "Softmax", _rows(log_softmax_flops), _same, _softmaxed),
    "aten._log_softmax": Operator("log-softmax", "Softmax", _rows(log_softmax_flops), _same, _softmaxed),
    "aten.batch_norm": Operator("batch norm", "Normalisation", _batch_norm_cost, _batch_norm_shape, channels),
    "aten.instance_norm": Operator("instance norm", "Normalisation", _instance_norm_cost, _same),
    "aten.layer_norm": Operator("layer norm", "Normalisation", _layer_norm_cost, _same, _normalized),
    "aten.group_norm": Operator("group norm", "Normalisation", _group_norm_cost, _same, channels),
    "aten.rms_norm": Operator("rms norm", "Normalisation", _rms_norm_cost, _same),
    "aten.sum": SUM,
    "aten.mean": MEAN,
    "aten.amax": Operator("extreme", "Reductions", reduction(), reduced_shape, _reduced),
    "aten.amin": Operator("extreme", "Reductions", reduction(), reduced_shape, _reduced),
    "aten.max": EXTREME,
    "aten.min": EXTREME,
    "aten.argmax": ARGUMENT,
    "aten.argmin": ARGUMENT,
    "aten.median": ARGUMENT,
    "aten.aminmax": Operator("extreme", "Reductions", reduction()),
    "aten.var_mean": Operator("variance", "Reductions", _variance(root=False)),
    "aten.std_mean": Operator("standard deviation", "Reductions", _variance(root=True)),
    "aten.cumprod": elementwise("cumsum", make=None),
    "aten.var": Operator("variance", "Reductions", _variance(root=False), reduced_shape),
    "aten.std": Operator("standard deviation", "Reductions", _variance(root=True), reduced_shape),
}
