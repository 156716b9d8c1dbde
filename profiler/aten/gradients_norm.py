"""Normalisation as autograd sees it: the native operators and their backward forms."""

from collections.abc import Callable
from math import prod
from typing import Any

import torch

from profiler.aten.allocate import empty
from profiler.aten.call import Call, Cost, Operator, Shape
from profiler.formulas import gradients
from profiler.formulas.normalization import batch_norm_flops, rms_norm_flops, statistics_norm_flops

NORMS = "Gradients of normalisation"


def _affine(call: Call) -> dict[str, bool]:
    return {"weight": call["weight"] is not None, "bias": call["bias"] is not None}


def _grouped_cost(groups: Callable[[Call], int]) -> Callable[[Call], Cost]:
    """A norm that takes its own statistics, in so many groups."""

    def cost(call: Call) -> Cost:
        count = groups(call)
        return Cost(0, statistics_norm_flops(count, prod(call.shape("input")) // max(count, 1), **_affine(call)))

    return cost


def _grouped_backward_cost(groups: Callable[[Call], int]) -> Callable[[Call], Cost]:
    def cost(call: Call) -> Cost:
        count = groups(call)
        size = prod(call.shape("input")) // max(count, 1)
        wanted = tuple(call["output_mask"])
        return Cost(0, gradients.statistics_norm_backward_flops(count, size, weights=_weights(call), wanted=wanted))

    return cost


def _weights(call: Call) -> int:
    weight: torch.Tensor | None = call["weight"]
    return 0 if weight is None else int(weight.numel())


def _layers(call: Call) -> int:
    """Groups of a layer norm."""
    return prod(call.shape("input")) // max(int(prod(call["normalized_shape"])), 1)


def _groups(call: Call) -> int:
    """Groups of a group norm."""
    return int(call["N"] * call["group"])


def _batch_norm_cost(call: Call) -> Cost:
    x = call.shape("input")
    if call.get("training") is False:
        return Cost(0, batch_norm_flops(prod(x)))
    return Cost(0, statistics_norm_flops(x[1], prod(x) // max(x[1], 1), **_affine(call)))


def _batch_norm_backward_cost(call: Call) -> Cost:
    x = call.shape("input")
    wanted = tuple(call.get("output_mask") or (True, True, True))
    if call.get("train") is False or call.get("update") is False:
        return Cost(0, gradients.batch_norm_backward_flops(prod(x), x[1], wanted))
    size, weights = prod(x) // max(x[1], 1), _weights(call)
    flops = gradients.statistics_norm_backward_flops(x[1], size, weights=weights, wanted=wanted, per_group=True)
    return Cost(0, flops)


def _rms_norm_cost(call: Call) -> Cost:
    rows = _layers(call)
    weight = call["weight"] is not None
    return Cost(0, rms_norm_flops(rows, prod(call["normalized_shape"]), weight=weight))


def _rms_norm_backward_cost(call: Call) -> Cost:
    size, weight = prod(call["normalized_shape"]), call["weight"] is not None
    wanted = tuple(call["output_mask"])
    return Cost(0, gradients.rms_norm_backward_flops(_layers(call), size, weight=weight, wanted=wanted))


def _weight_norm(flops: Callable[[int, int], int], name: str) -> Callable[[Call], Cost]:
    def cost(call: Call) -> Cost:
        v = call.shape(name)
        return Cost(0, flops(prod(v), v[call["dim"]]))

    return cost


# Results ------------------------------------------------------------------------------------------------------------


def _input_shape(call: Call) -> Shape:
    return call.shape("input")


def _like_input(call: Call) -> torch.Tensor | None:
    """A tensor like the input, where all are float32 or float64 alike and the input's layout is a common one."""
    x: torch.Tensor = call["input"]
    if x.dtype not in (torch.float32, torch.float64) or any(t.dtype is not x.dtype for t in call.tensors):
        return None
    if x.is_contiguous():
        return empty(tuple(x.shape), x.dtype)
    if "batch_norm" in call.packet and x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")
    return None


def _normed(statistics: Callable[[Call], Shape]) -> Callable[[Call, Shape], Any]:
    """The result with the mean and one over the deviation of each group."""

    def make(call: Call, _shape: Shape) -> Any:  # noqa: ANN401  # three tensors or None
        y = _like_input(call)
        return None if y is None else (y, *(empty(statistics(call), y.dtype) for _ in range(2)))

    return make


def _differentiated(call: Call, _shape: Shape) -> Any:  # noqa: ANN401  # three tensors, each or all of them None
    dx = _like_input(call)
    if dx is None:
        return None
    of_input, of_weight, of_bias = call["output_mask"]
    weights = tuple(call["weight"].shape) if call["weight"] is not None else ()
    if (of_weight or of_bias) and not weights:
        return None
    return (
        dx if of_input else None,
        empty(weights, dx.dtype) if of_weight else None,
        empty(weights, dx.dtype) if of_bias else None,
    )


def _of_channels(call: Call) -> Shape:
    return (call.shape("input")[1] if call["training"] else 0,)


def _of_rows(call: Call) -> Shape:
    x, axes = call.shape("input"), len(call["normalized_shape"])
    return x[:-axes] + (1,) * axes


def _of_groups(call: Call) -> Shape:
    return call["N"], call["group"]


_BATCH_NORMS = (
    "_native_batch_norm_legit", "cudnn_batch_norm", "miopen_batch_norm", "_batch_norm_with_update",
)  # fmt: skip

TABLE = {
    **{f"aten.{name}": Operator("batch norm", "Normalisation", _batch_norm_cost) for name in _BATCH_NORMS},
    "aten.native_batch_norm": Operator(
        "batch norm", "Normalisation", _batch_norm_cost, _input_shape, _normed(_of_channels)
    ),
    **{
        f"aten.{name}_backward": Operator(
            "batch norm backward", NORMS, _batch_norm_backward_cost, _input_shape, _differentiated
        )
        for name in ("native_batch_norm", "batch_norm")
    },
    **{
        f"aten.{name}_batch_norm_backward": Operator("batch norm backward", NORMS, _batch_norm_backward_cost)
        for name in ("cudnn", "miopen")
    },
    "aten.native_layer_norm": Operator(
        "layer norm", "Normalisation", _grouped_cost(_layers), _input_shape, _normed(_of_rows)
    ),
    "aten.native_layer_norm_backward": Operator(
        "layer norm backward", NORMS, _grouped_backward_cost(_layers), _input_shape, _differentiated
    ),
    "aten.native_group_norm": Operator(
        "group norm", "Normalisation", _grouped_cost(_groups), _input_shape, _normed(_of_groups)
    ),
    "aten.native_group_norm_backward": Operator(
        "group norm backward", NORMS, _grouped_backward_cost(_groups), _input_shape, _differentiated
    ),
    "aten._fused_rms_norm": Operator("rms norm", "Normalisation", _rms_norm_cost),
    "aten._fused_rms_norm_backward": Operator("rms norm backward", NORMS, _rms_norm_backward_cost),
    "aten._weight_norm_interface": Operator("weight norm", NORMS, _weight_norm(gradients.weight_norm_flops, "v")),
    "aten._weight_norm_interface_backward": Operator(
        "weight norm backward", NORMS, _weight_norm(gradients.weight_norm_backward_flops, "saved_v")
    ),
}
