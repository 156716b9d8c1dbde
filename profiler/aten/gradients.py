"""Operators of a training step that no forward walk sees: the backward operators, and what autograd decomposes into.

Entries are as in `profiler.aten`, which is asked for everything that is not here.
"""

from collections.abc import Callable
from math import prod

from profiler.aten import find, gradients_norm
from profiler.aten.allocate import joined
from profiler.aten.call import Call, Cost, Operator, Shape
from profiler.formulas import gradients
from profiler.formulas.activation import softmax_flops
from profiler.formulas.attention import attention_flops, attention_macs
from profiler.formulas.convolution import conv_macs
from profiler.formulas.recurrent import Recurrence

PRODUCTS = "Gradients of products"
ATTENTION = "Gradients of attention"
ACTIVATIONS = "Gradients of activations and losses"
MOVED = "Gradients of pooling, interpolation and indexing"


def _same(call: Call) -> Shape:
    return tuple(call.first.shape)


def _each(op: str, formula: str, flops: int, of: str = "") -> Operator:
    """An operator that costs `flops` for each element of its result, or of its argument `of`."""

    def cost(call: Call) -> Cost:
        return Cost(0, flops * (call[of].numel() if of else call.out_elements))

    return Operator(f"{op} backward", formula, cost)


# Convolutions -------------------------------------------------------------------------------------------------------


def _convolution_cost(call: Call) -> Cost:
    of_input, of_weight, of_bias = call["output_mask"]
    x, weight, g = call.shape("input"), call.shape("weight"), call.shape("grad_output")
    axes = len(weight) - 2
    c_in, c_out = x[-axes - 1], g[-axes - 1]
    positions = x[-axes:] if call["transposed"] else g[-axes:]
    batch = prod(x[: -axes - 1])
    forward = conv_macs(batch, positions, weight[2:], c_in, c_out, call["groups"])
    macs = gradients.product_backward(forward, of_input + of_weight)
    return Cost(macs, 2 * macs + (gradients.bias_backward_flops(prod(g), c_out) if of_bias else 0))


# Attention ----------------------------------------------------------------------------------------------------------


def _attention_sizes(call: Call) -> tuple[int, int, int, int, int]:
    q, k, v = call.shape("query"), call.shape("key"), call.shape("value")
    return prod(q[:-2]), q[-2], k[-2], q[-1], v[-1]


def _masked(call: Call) -> bool:
    return any(call.get(name) is not None for name in ("attn_mask", "attn_bias"))


def _attention_backward_cost(call: Call) -> Cost:
    sizes = _attention_sizes(call)
    flops = gradients.attention_backward_flops(*sizes, masked=_masked(call))
    return Cost(gradients.attention_backward_macs(*sizes), flops)


def _attention_cost(call: Call) -> Cost:
    sizes = _attention_sizes(call)
    return Cost(attention_macs(*sizes), attention_flops(*sizes, masked=_masked(call)))


# Softmax ------------------------------------------------------------------------------------------------------------


def _rows(flops: Callable[[int, int], int], name: str) -> Callable[[Call], Cost]:
    def cost(call: Call) -> Cost:
        x = call.shape(name)
        length = x[call["dim"]] if x else 1
        return Cost(0, flops(prod(x) // max(length, 1), length))

    return cost


# Activations and losses ---------------------------------------------------------------------------------------------


def _pointwise(op: str) -> Operator:
    """An operator on a gradient and one more tensor of the same size."""
    each = gradients.ACTIVATIONS[op]
    return Operator(f"{op} backward", ACTIVATIONS, lambda call: Cost(0, each * call.out_elements), _same, joined)


def _gelu_cost(call: Call) -> Cost:
    key = "gelu_tanh" if call["approximate"] == "tanh" else "gelu"
    return Cost(0, gradients.ACTIVATIONS[key] * call.out_elements)


def _elu_cost(call: Call) -> Cost:
    each = gradients.ACTIVATIONS["elu_of_result" if call["is_result"] else "elu"]
    return Cost(0, (each + (call["input_scale"] != 1)) * call.out_elements)


# Pooling, interpolation, indexing -----------------------------------------------------------------------------------


def _average_pool_cost(call: Call) -> Cost:
    axes = int(call.packet.split("pool")[1][0])
    kernel = tuple(call["kernel_size"])
    window = kernel * axes if len(kernel) == 1 else kernel
    return Cost(0, gradients.average_pool_backward_flops(call["grad_output"].numel(), window))


def _adaptive_cost(call: Call) -> Cost:
    axes = int(call.packet.split("pool")[1][0])
    g, x = call.shape("grad_output"), call.shape("self")
    sizes = tuple(zip(x[-axes:], g[-axes:], strict=True))
    return Cost(0, gradients.adaptive_average_pool_backward_flops(prod(x[:-axes]), sizes))


_SAMPLING = ("bilinear", "nearest", "bicubic")


def _grid_sample_cost(call: Call) -> Cost:
    g, wanted = call.shape("grad_output"), tuple(call["output_mask"])
    mode = _SAMPLING[call["interpolation_mode"]]
    return Cost(0, gradients.grid_sample_backward_flops(mode, len(g) - 2, prod(g), wanted))


def _distance_cost(call: Call) -> Cost:
    pairs, width = call.shape("cdist"), call.shape("x1")[-1]
    return Cost(0, gradients.distance_backward_flops(prod(pairs[:-1]), pairs[-1], width))


def _bag_cost(call: Call) -> Cost:
    return Cost(0, call["indices"].numel() * call.shape("grad")[-1])


def _resize(mode: str) -> Operator:
    def cost(call: Call) -> Cost:
        return Cost(0, gradients.interpolation_backward_flops(mode, call["grad_output"].numel()))

    return Operator(f"{mode} interpolation backward", MOVED, cost)


# Recurrence, as one operator only on a CPU with values --------------------------------------------------------------


def _recurrence(call: Call) -> Recurrence:
    kinds = {0: "rnn_relu", 1: "rnn_tanh", 2: "lstm", 3: "gru"}
    x = call.shape("input")
    return Recurrence(kinds[call["mode"]], prod(x[:-1]), x[-1], call["hidden_size"], bias=bool(call["has_biases"]))


def _recurrent_cost(call: Call) -> Cost:
    sizes = _recurrence(call)
    return Cost(sizes.macs(), sizes.flops())


def _recurrent_backward_cost(call: Call) -> Cost:
    sizes = _recurrence(call)
    macs = gradients.product_backward(sizes.macs(), 2)
    return Cost(macs, 2 * sizes.flops())


_PLAIN = {
    **{f"aten.{name}_backward": name for name in ("threshold", "hardtanh", "leaky_relu", "sigmoid", "tanh", "silu")},
    **{f"aten.{name}_backward": name for name in ("mish", "softplus", "hardsigmoid", "hardswish", "hardshrink")},
    **{f"aten.{name}_backward": name for name in ("softshrink", "logit")},
}
_UNLIKE = {
    "aten.glu_backward": "glu",
    "aten.log_sigmoid_backward": "log_sigmoid",
    "aten._prelu_kernel_backward": "prelu",
    "aten.rrelu_with_noise_backward": "rrelu",
    "aten.native_dropout_backward": "dropout",
}
_LOSSES = {
    "aten.mse_loss_backward": "mse", "aten.smooth_l1_loss_backward": "smooth_l1",
    "aten.huber_loss_backward": "huber", "aten.binary_cross_entropy_backward": "binary_cross_entropy",
    "aten.soft_margin_loss_backward": "soft_margin",
}  # fmt: skip
_FUSED = (
    "flash_attention", "efficient_attention", "cudnn_attention", "flash_attention_for_cpu",
    "fused_attention_overrideable",
)  # fmt: skip
_INTERPOLATIONS = {
    **{f"aten.upsample_nearest{n}d_backward": "nearest" for n in (1, 2, 3)},
    **{f"aten._upsample_nearest_exact{n}d_backward": "nearest" for n in (1, 2, 3)},
    "aten.upsample_linear1d_backward": "linear", "aten.upsample_bilinear2d_backward": "bilinear",
    "aten.upsample_trilinear3d_backward": "trilinear", "aten.upsample_bicubic2d_backward": "bicubic",
}  # fmt: skip
# Each element of the argument named is added where an index says.
_SCATTERED = {
    **{f"aten.max_pool{n}d_with_indices_backward": "grad_output" for n in (2, 3)},
    **{f"aten.adaptive_max_pool{n}d_backward": "grad_output" for n in (2, 3)},
    **{f"aten.fractional_max_pool{n}d_backward": "grad_output" for n in (2, 3)},
    **{f"aten.{kind}_pad{n}d_backward": "grad_output" for kind in ("reflection", "replication") for n in (1, 2, 3)},
    "aten.embedding_dense_backward": "grad_output", "aten._embedding_bag_dense_backward": "grad",
    "aten.unfold_backward": "grad_in",
}  # fmt: skip
_ACCUMULATED = ("index_put", "_index_put_impl", "_unsafe_index_put", "put")
INDEXING = Operator(
    "indexing backward", MOVED, lambda call: Cost(0, call["values" if "values" in call else "source"].numel())
)
MOVEMENT = Operator("movement", "Data movement", None)

TABLE = {
    "aten.convolution_backward": Operator("convolution backward", PRODUCTS, _convolution_cost),
    **{
        f"aten._scaled_dot_product_{name}_backward": Operator("attention backward", ATTENTION, _attention_backward_cost)
        for name in _FUSED
    },
    **{f"aten._scaled_dot_product_{name}": Operator("attention", "Attention", _attention_cost) for name in _FUSED},
    "aten.mkldnn_rnn_layer": Operator("recurrence", "Recurrence", _recurrent_cost),
    "aten.mkldnn_rnn_layer_backward": Operator("recurrence backward", PRODUCTS, _recurrent_backward_cost),
    **gradients_norm.TABLE,
    "aten._safe_softmax": Operator("softmax", "Softmax", _rows(softmax_flops, "self")),
    "aten._masked_softmax": Operator("softmax", "Softmax", _rows(softmax_flops, "self")),
    "aten._softmax_backward_data": Operator(
        "softmax backward", ACTIVATIONS, _rows(gradients.softmax_backward_flops, "output")
    ),
    "aten._log_softmax_backward_data": Operator(
        "log-softmax backward", ACTIVATIONS, _rows(gradients.log_softmax_backward_flops, "output")
    ),
    "aten.gelu_backward": Operator("gelu backward", ACTIVATIONS, _gelu_cost, _same, joined),
    "aten.elu_backward": Operator("elu backward", ACTIVATIONS, _elu_cost, _same, joined),
    **{name: _pointwise(op) for name, op in _PLAIN.items()},
    **{name: _each(op, ACTIVATIONS, gradients.ACTIVATIONS[op]) for name, op in _UNLIKE.items()},
    **{name: _each(f"{op} loss", ACTIVATIONS, gradients.LOSSES[op]) for name, op in _LOSSES.items()},
    "aten.nll_loss_backward": _each("nll loss", ACTIVATIONS, 1, of="target"),
    "aten.nll_loss2d_backward": _each("nll loss", ACTIVATIONS, 1, of="target"),
    **{f"aten.avg_pool{n}d_backward": Operator("average pool backward", MOVED, _average_pool_cost) for n in (2, 3)},
    **{
        f"aten._adaptive_avg_pool{n}d_backward": Operator("adaptive average pool backward", MOVED, _adaptive_cost)
        for n in (2, 3)
    },
    "aten.grid_sampler_2d_backward": Operator("grid sample backward", MOVED, _grid_sample_cost),
    "aten.grid_sampler_3d_backward": Operator("grid sample backward", MOVED, _grid_sample_cost),
    "aten._cdist_backward": Operator("distance backward", PRODUCTS, _distance_cost),
    "aten._embedding_bag_backward": Operator("embedding bag backward", MOVED, _bag_cost),
    **{name: _resize(mode) for name, mode in _INTERPOLATIONS.items()},
    **{
        name: _each(name.removeprefix("aten.").removesuffix("_backward").replace("_", " ").strip(), MOVED, 1, of=of)
        for name, of in _SCATTERED.items()
    },
    **{
        f"aten.{name}": MOVEMENT
        for name in (
            *("select_backward", "slice_backward", "diagonal_backward", "masked_scatter_backward", "_reshape_alias"),
            *("new_empty_strided", "value_selecting_reduction_backward", "_unsafe_masked_index"),
            *("unsafe_split_with_sizes", "as_strided_scatter", "scatter_"),
        )
    },
}


def find_gradient(call: Call) -> Operator | None:
    """The entry of an operator of a training step; None where no formula is known for it."""
    name = call.packet.removesuffix("_")
    if name.removeprefix("aten.") in _ACCUMULATED:
        return INDEXING if call["accumulate"] else MOVEMENT
    return TABLE.get(call.packet) or TABLE.get(name) or find(call.packet)
