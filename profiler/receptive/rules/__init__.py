"""One table from ATen operator to what it does to receptive fields.

A rule takes the call and the field of each of its tensor arguments (None for parameters and constants, which the input
does not reach) and gives the field of each output. An operator without a rule makes its outputs unknown.
"""

from functools import cache

from profiler.aten import find
from profiler.aten.call import Call
from profiler.receptive.rules import (
    attention,
    movement,
    patches,
    placing,
    pointwise,
    products,
    recurrent,
    reductions,
    resampling,
    sampling,
    selection,
    shifting,
    windows,
)
from profiler.receptive.rules.base import Fields, Result, Rule, merge, same, unknown

FAMILIES = (
    *(windows, resampling, patches, products, attention, recurrent, reductions),
    *(movement, shifting, selection, placing, sampling, pointwise),
)


def _joined() -> dict[str, Rule]:
    table: dict[str, Rule] = {}
    for family in FAMILIES:
        twice = table.keys() & family.TABLE.keys()
        if twice:
            raise ValueError(f"rules listed twice: {', '.join(sorted(twice))}")
        table.update(family.TABLE)
    return table


RULES = _joined()


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
    rule = RULES.get(packet) or RULES.get(packet.removesuffix("_"))
    if rule is not None:
        return rule
    operator = find(packet)
    if operator is None:
        return unknown()
    if operator.op == "copy":
        return same
    return merge if operator.formula in ("Element by element", "Activations") else unknown()


__all__ = ["FAMILIES", "RULES", "output_fields", "rule_for"]
