"""What the walk knows of an operator, looked up once: schema, formula, rule, and how it is stood in for."""

import torch

from profiler.aten import find
from profiler.aten.overload import Kind, Schema, schema_of
from profiler.receptive.rules import rule_for
from profiler.receptive.rules.base import merge, same

# Operators that hand a value to Python.
_READS = frozenset(f"aten.{name}" for name in ("_local_scalar_dense", "item", "is_nonzero", "equal", "allclose"))
# Operators that make a tensor from no more than another's size, type and device.
_CREATORS = frozenset(
    f"aten.{name}"
    for name in (
        *("arange", "zeros", "ones", "full", "eye", "zeros_like", "ones_like", "full_like", "linspace"),
        *("new_zeros", "new_ones", "new_full", "tril_indices", "triu_indices", "scalar_tensor", "empty"),
        *("new_empty", "empty_like", "rand", "randn", "randint", "rand_like", "randn_like", "randint_like", "randperm"),
    )
)
# In-place operators that change a tensor's size, not its contents.
_RESHAPES = frozenset(
    f"aten.{name}" for name in ("squeeze_", "unsqueeze_", "transpose_", "t_", "swapaxes_", "resize_", "as_strided_")
)


class Known:
    """An operator as the walk needs it.

    Attributes:
        func: the overload.
        schema: its schema.
        operator: its entry in the table, None where it has none.
        rule: what it does to receptive fields.
        plain: it has a formula for its result and returns nothing that it was given.
        view: its result may share storage with an argument.
        in_place: it writes to an argument and returns it.
        overwrites: all it writes to is its first argument, whose size it keeps.
        creates: it needs no more than sizes and types.
        pointwise: each element of its result sees what those in its place see.
        reads: it hands a value to Python.
        placed: it has an argument that names a device.
        lists: it takes lists of tensors.
        converts: it changes type or device, or nothing.
    """

    __slots__ = (
        *(
            "converts",
            "creates",
            "func",
            "in_place",
            "lists",
            "operator",
            "overwrites",
            "placed",
            "plain",
            "pointwise",
            "reads",
            "rule",
            "schema",
        ),
        "view",
    )

    def __init__(self, func: torch._ops.OpOverload) -> None:
        schema = schema_of(func)
        self.func = func
        self.schema: Schema = schema
        self.operator = find(schema.packet)
        self.rule = rule_for(schema.packet)
        self.pointwise = self.rule in (merge, same)
        self.view = schema.kind is Kind.VIEW
        self.in_place = schema.kind is Kind.IN_PLACE
        self.plain = schema.kind is Kind.PLAIN and self.operator is not None and self.operator.make is not None
        self.creates = schema.packet in _CREATORS
        self.reads = schema.packet in _READS
        self.placed = "device" in schema.signature
        self.lists = any(many for _, many in (*schema.places, *schema.named)) or bool(schema.named)
        first = next(iter(schema.signature), None)
        self.overwrites = self.in_place and schema.written == (first,) and schema.packet not in _RESHAPES
        self.converts = schema.packet == "aten.to"


# By the identity of the overload: overloads hash themselves in Python, and an entry keeps its own alive.
KNOWN: dict[int, Known] = {}
