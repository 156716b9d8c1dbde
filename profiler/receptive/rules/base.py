"""What a rule is, and the shapes most rules have."""

from collections.abc import Callable, Sequence
from typing import Any

from profiler.aten.call import Call
from profiler.receptive.field import TensorField
from profiler.receptive.merge import merged

Fields = Callable[[Any], TensorField | None]
Result = Sequence[TensorField | None]
Rule = Callable[[Call, Fields], Result]


def present(call: Call, fields: Fields) -> list[TensorField]:
    """The fields of all tensors in a call that the input reaches."""
    return [f for t in call.tensors if (f := fields(t)) is not None]


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


def unary(rule: Callable[[Call, TensorField], TensorField]) -> Rule:
    """A rule for operators on one tensor: nothing is asked where the input does not reach it."""

    def apply(call: Call, fields: Fields) -> Result:
        field = fields(call.tensors[0])
        return [None if field is None else rule(call, field)] * len(call.outputs)

    return apply
