"""The integers of a plan: the grid of every quantized tensor, and every weight and bias rounded.

Later stages that round weights better (or correct biases) change these, or the float graph before, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from quant.affine import Grid, activation_grid, quantize
from quant.correct.weights import max_scale, round_weight
from quant.graph import name_of, required_constant
from quant.place.plan import Mode

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    import onnx_ir as ir

    from quant.affine import Floats, Range
    from quant.correct.weights import WeightScale
    from quant.place.plan import Plan

# A bias may fill half of int32; the other half is left to the sum it is added to.
_LARGEST_BIAS = 2**30


@dataclass(frozen=True)
class Integers:
    """A constant on an integer grid. `axis` is the axis its scales run along; None: one scale, of shape ()."""

    values: npt.NDArray[np.integer]
    scale: Floats
    zero_point: npt.NDArray[np.integer]
    axis: int | None = None


@dataclass(frozen=True)
class QuantizedWeight:
    """The weight of one node, and its bias where the kernel takes that as integers."""

    weight: Integers
    bias: Integers | None = None


def activation_grids(plan: Plan, ranges: Mapping[str, Range]) -> dict[str, Grid]:
    """The grid of every quantized tensor: its own, from its range, or derived from that of the tensor it is like."""
    grids: dict[str, Grid] = {}
    for name, tensor in plan.tensors.items():
        if tensor.like == name:
            grids[name] = activation_grid(ranges[name], tensor.limits)
        else:
            like = grids[tensor.like]
            grids[name] = Grid(float(np.float32(like.scale * (tensor.factor or 1.0))), like.zero_point)
    return grids


def quantize_weights(
    plan: Plan, graph: ir.Graph, grids: Mapping[str, Grid], *, scale: WeightScale | None = None
) -> dict[str, QuantizedWeight]:
    """The weights and biases of a plan's nodes as integers, by node name.

    A channel's scale is raised where its bias would not fit into int32 otherwise, as happens when a batch norm that
    has switched a channel off is folded into the weights.
    """
    choose_scale = scale or max_scale
    weights = {}
    for node in graph:
        decision = plan.decision(node)
        operands = decision.operands
        if operands is None or operands.weight is None:
            continue
        weight, axis = required_constant(node, operands.weight), operands.weight_axis
        steps = choose_scale(weight, axis)
        if operands.bias is None or decision.mode is Mode.DYNAMIC:
            weights[node.name or ""] = QuantizedWeight(_rounded(weight, steps, axis))
            continue
        bias = required_constant(node, operands.bias)
        x_scale = np.float32(grids[name_of(node.inputs[operands.activations[0]])].scale)
        largest = np.abs(bias) if axis is not None else np.abs(bias).max(initial=0.0)
        steps = np.maximum(steps, largest / np.float32(_LARGEST_BIAS) / x_scale).astype(np.float32)
        rounded = _rounded(weight, steps, axis)
        weights[node.name or ""] = QuantizedWeight(rounded, _rounded_bias(bias, x_scale, rounded))
    return weights


def _rounded(weight: Floats, steps: Floats, axis: int | None) -> Integers:
    scale = steps if axis is not None else steps.reshape(())
    return Integers(round_weight(weight, scale, axis), scale, np.zeros(scale.shape, np.int8), axis)


def _rounded_bias(bias: Floats, x_scale: np.float32, weight: Integers) -> Integers:
    scale = np.asarray(x_scale * weight.scale, np.float32)
    axis = 0 if weight.axis is not None else None
    return Integers(quantize(bias, scale, 0, np.int32, axis=axis), scale, np.zeros(scale.shape, np.int32), axis)
