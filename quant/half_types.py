"""Which inputs and outputs of an operator can be float16, by ONNX's own definition of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import onnx

from quant.graph import is_float

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx_ir as ir

_V = TypeVar("_V")
_F = TypeVar("_F")
_HALF = "tensor(float16)"

# Defined for float16, but computing nothing in it that would be worth two Casts, or without kernels for it anywhere.
# Those that make a tensor out of nothing say its type in an attribute and keep it.
_KEPT = frozenset(
    (
        *("Cast", "CastLike", "Constant", "ConstantOfShape", "EyeLike", "Range", "Bernoulli", "Multinomial"),
        *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "CumSum", "TopK"),
        *("NonMaxSuppression", "RoiAlign", "MaxRoiPool", "Upsample", "Det", "STFT", "DFT", "MelWeightMatrix"),
        *("HannWindow", "HammingWindow", "BlackmanWindow", "SequenceEmpty", "ImageDecoder"),
        *("If", "Loop", "Scan", "SequenceMap", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
    )
)


@dataclass(frozen=True)
class Slots:
    """Positions of a node that are float16: for each whether it is, the last one standing for all that follow."""

    inputs: tuple[bool, ...] = (False,)
    outputs: tuple[bool, ...] = (False,)

    def takes_half(self, position: int) -> bool:
        """Whether the input at this position is float16."""
        return self.inputs[min(position, len(self.inputs) - 1)]

    def gives_half(self, position: int) -> bool:
        """Whether the output at this position is float16."""
        return self.outputs[min(position, len(self.outputs) - 1)]


FLOAT32 = Slots()


def slots_of(node: ir.Node, opset: int, *, kept: bool = False) -> Slots:
    """Which of a node's float inputs and outputs become float16.

    A node stays float32 as a whole where one of its types cannot be float16; an input that is float32 by definition,
    such as the scales of Resize, stays so alone.

    Args:
        node: of a float graph.
        opset: version of ONNX's operators.
        kept: whether it has to stay float32.
    """
    if kept or node.domain not in ("", "ai.onnx") or node.op_type in _KEPT:
        return FLOAT32
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError:
        return FLOAT32
    allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
    inputs = tuple(_HALF in allowed.get(formal.type_str, ()) for formal in schema.inputs)
    outputs = tuple(_HALF in allowed.get(formal.type_str, ()) for formal in schema.outputs)
    slots = Slots(inputs or (False,), outputs or (False,))
    floats = [
        (formal.type_str in allowed, slots.takes_half(i))
        for i, (value, formal) in enumerate(_matched(node.inputs, schema.inputs))
        if is_float(value)
    ] + [
        (formal.type_str in allowed, slots.gives_half(i))
        for i, (value, formal) in enumerate(_matched(node.outputs, schema.outputs))
        if is_float(value)
    ]
    return FLOAT32 if any(variable and not half for variable, half in floats) else slots


def _matched(values: Sequence[_V], formals: Sequence[_F]) -> list[tuple[_V, _F]]:
    """Values with their definitions, of which the last may stand for any number of values."""
    return [(value, formals[min(position, len(formals) - 1)]) for position, value in enumerate(values) if formals]
