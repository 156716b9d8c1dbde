"""One table from ATen operator to what it does to receptive fields.

A rule takes the call and the field of each of its tensor arguments (None for parameters and constants, which the input
does not reach) and gives the field of each output. An operator without a rule makes its outputs unknown.
"""

from collections.abc import Sequence

from profiler.aten import find
from profiler.aten.call import Call
from profiler.receptive.field import TensorField
from profiler.receptive.rules import mixing, movement, windows
from profiler.receptive.rules.base import Fields, Rule, merge, present

RULES: dict[str, Rule] = {**windows.TABLE, **mixing.TABLE, **movement.TABLE}
_POINTWISE = ("Element by element", "Activations")


def output_fields(call: Call, fields: Fields) -> Sequence[TensorField | None]:
    """The field of each output of a call.

    Args:
        call: the operator call, with its outputs.
        fields: from a tensor to its field, None for one that the input does not reach.
    """
    reached = present(call, fields)
    if not reached:
        return [None] * len(call.outputs)
    packet = call.packet
    rule = RULES.get(packet) or RULES.get(packet.rstrip("_"))
    if rule is None:
        operator = find(packet)
        pointwise = operator is not None and (operator.formula in _POINTWISE or operator.op == "copy")
        rule = merge if pointwise else None
    if rule is None:
        return [TensorField.unknown(tuple(out.shape), reached[0].extent) for out in call.outputs]
    return rule(call, fields)


__all__ = ["RULES", "output_fields"]
