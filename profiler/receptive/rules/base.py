"""What a rule is, and the two shapes most rules have."""

from collections.abc import Callable, Sequence
from typing import Any

from profiler.aten.call import Call, tensors_of
from profiler.receptive.field import TensorField
from profiler.receptive.merge import merged

Fields = Callable[[Any], TensorField | None]
Rule = Callable[[Call, Fields], Sequence[TensorField | None]]


def present(call: Call, fields: Fields) -> list[TensorField]:
    """The fields of all tensors in a call that the input reaches."""
    return [f for f in (fields(t) for t in tensors_of((call.args, call.kwargs))) if f is not None]


def merge(call: Call, fields: Fields) -> Sequence[TensorField | None]:
    """The rule of an element-by-element operator: what any operand sees."""
    found = present(call, fields)
    return [merged(found, tuple(out.shape)) if found else None for out in call.outputs]


def unary(rule: Callable[[Call, TensorField], TensorField]) -> Rule:
    """A rule for operators on one tensor: nothing is asked where the input does not reach it."""

    def apply(call: Call, fields: Fields) -> Sequence[TensorField | None]:
        field = fields(call.first)
        return [None if field is None else rule(call, field)] * len(call.outputs)

    return apply
