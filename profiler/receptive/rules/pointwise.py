"""Element-by-element operators that compute nothing by the tables of formulas: tests, logic, complex numbers.

All others are recognised by their formula, see `rule_for`.
"""

from profiler.aten.call import Call
from profiler.receptive.field import TensorField
from profiler.receptive.merge import merged
from profiler.receptive.pick import sliced
from profiler.receptive.rules.base import Rule, merge, same, unary


def _halves(call: Call, field: TensorField) -> TensorField:
    """GLU: half an axis is the gate of the other half."""
    axis = call["dim"] % len(field.layout)
    size = call.out[axis]
    return merged([sliced(field, axis, 0, size), sliced(field, axis, size, size)], call.out)


_MERGED = (
    *("logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor", "__and__", "__or__"),
    *("__xor__", "__lshift__", "__rshift__", "__iand__", "__ior__", "isclose", "complex", "polar", "addcmul", "lerp"),
    *("clamp", "maximum", "minimum", "fmax", "fmin", "prelu", "atan2", "hypot", "copysign", "heaviside", "logaddexp"),
)
_SAME = (
    "logical_not",
    "bitwise_not",
    "isnan",
    "isinf",
    "isfinite",
    "isposinf",
    "isneginf",
    "angle",
    "sgn",
    "nan_to_num",
)

TABLE: dict[str, Rule] = {
    **{f"aten.{name}": merge for name in _MERGED},
    **{f"aten.{name}": same for name in _SAME},
    "aten.glu": unary(_halves),
}
