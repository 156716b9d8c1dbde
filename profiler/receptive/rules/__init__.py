"""One table from ATen operator to what it does to receptive fields.

A rule takes the call and the field of each of its tensor arguments (None for parameters and constants, which the input
does not reach) and gives the field of each output. An operator without a rule makes its outputs unknown.
"""

from functools import cache

from profiler.aten import find
from profiler.aten.call import Call
from profiler.receptive.field import TensorField
from profiler.receptive.rules import mixing, movement, windows
from profiler.receptive.rules.base import Fields, Result, Rule, merge, present, same

RULES: dict[str, Rule] = {**windows.TABLE, **mixing.TABLE, **movement.TABLE}


def output_fields(call: Call, fields: Fields) -> Result:
    """The field of each output of a call.

    Args:
        call: the operator call, with its outputs.
        fields: from a tensor to its field, None for one that the input does not reach.
    """
    return rule_for(call.packet)(call, fields)


@cache
def rule_for(packet: str) -> Rule:
    """The rule of an operator, by its name without overload; in-place ones have that of their plain kind."""
    rule = RULES.get(packet) or RULES.get(packet.rstrip("_"))
    if rule is not None:
        return rule
    operator = find(packet)
    if operator is None:
        return unknown
    if operator.op == "copy" and not packet.endswith("copy_"):
        return same
    return merge if operator.formula in ("Element by element", "Activations") or operator.op == "copy" else unknown


def unknown(call: Call, fields: Fields) -> Result:
    """The rule of operators of which nothing is known: their outputs may depend on everything that went in."""
    reached = present(call, fields)
    why = f"no rule for {call.packet}"
    return [
        TensorField.unknown(tuple(out.shape), reached[0].extent, why=why) if reached else None for out in call.outputs
    ]


__all__ = ["RULES", "output_fields", "rule_for"]
