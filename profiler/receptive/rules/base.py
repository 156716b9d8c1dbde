"""What a rule is, and the shapes most rules have."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from profiler.aten.call import Call
from profiler.receptive.field import TensorField
from profiler.receptive.merge import merged
from profiler.receptive.reshape import expanded_to, reshaped
from profiler.receptive.view import DEPENDENT

Fields = Callable[[Any], TensorField | None]
Result = Sequence[TensorField | None]
Rule = Callable[[Call, Fields], Result]

# Tensors of more elements than this are not read for their values.
MOST_VALUES = 1 << 20


def present(call: Call, fields: Fields) -> list[TensorField]:
    """The fields of all tensors in a call that the input reaches."""
    return [f for t in call.tensors if (f := fields(t)) is not None]


def shapes(call: Call) -> list[tuple[int, ...]]:
    """Sizes of the outputs."""
    return [tuple(out.shape) for out in call.outputs]


def same(call: Call, fields: Fields) -> Result:
    """The rule of an element-by-element operator on one tensor, and of copies."""
    return [fields(call.tensors[0])] * len(call.outputs)


def merge(call: Call, fields: Fields) -> Result:
    """The rule of an element-by-element operator: what any operand sees."""
    found = [f for t in call.tensors if (f := fields(t)) is not None]
    if not found:
        return [None] * len(call.outputs)
    return [
        found[0] if len(found) == 1 and found[0].shape == shape else merged(found, tuple(shape))
        for shape in [out.shape for out in call.outputs]
    ]


def nothing(call: Call, _fields: Fields) -> Result:
    """The rule of operators whose result takes no more than sizes and types from tensors, or draws at random."""
    return [None] * len(call.outputs)


def unary(rule: Callable[[Call, TensorField], TensorField]) -> Rule:
    """A rule for operators on one tensor: nothing is asked where the input does not reach it."""

    def apply(call: Call, fields: Fields) -> Result:
        field = fields(call.tensors[0])
        return [None if field is None else rule(call, field)] * len(call.outputs)

    return apply


def unknown(why: str = "") -> Rule:
    """The rule of operators of which nothing is known: their outputs may depend on everything that went in."""

    def apply(call: Call, fields: Fields) -> Result:
        found = present(call, fields)
        if not found:
            return [None] * len(call.outputs)
        reason = why or f"no rule for {call.packet}"
        return [TensorField.unknown(shape, found[0].extent, why=reason) for shape in shapes(call)]

    return apply


def drawn(why: str, doubt: int = DEPENDENT) -> Rule:
    """The rule of operators whose every output may come from any position of what went in."""

    def apply(call: Call, fields: Fields) -> Result:
        found = present(call, fields)
        if not found:
            return [None] * len(call.outputs)
        return [gathered(found, shape, doubt, why) for shape in shapes(call)]

    return apply


def gathered(found: Sequence[TensorField], shape: tuple[int, ...], doubt: int, why: str) -> TensorField:
    """A tensor of some size whose elements may see all that several others see."""
    return merged([f.like(shape, doubt, why) for f in found], shape)


def outlined(field: TensorField, shape: tuple[int, ...], axes: Sequence[int]) -> TensorField:
    """The field with its axes, in order, at some axes of a larger tensor, the same along all others."""
    sizes = iter(field.shape)
    own = tuple(next(sizes) if axis in axes else 1 for axis in range(len(shape)))
    return expanded_to(reshaped(field, own), shape)


def known_values(tensor: Any, fields: Fields) -> npt.NDArray[Any] | None:  # noqa: ANN401  # an argument
    """The values of a constant, None where they are not known."""
    if not isinstance(tensor, torch.Tensor) or tensor.is_meta or tensor.numel() > MOST_VALUES:
        return None
    if fields(tensor) is not None:
        return None
    if tensor.dtype is torch.bfloat16:
        tensor = tensor.float()
    return np.asarray(tensor.detach().cpu().numpy())
