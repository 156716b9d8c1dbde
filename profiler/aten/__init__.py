"""The one table from ATen operator to formula.

Every operator that a model runs is looked up here by its name without overload. An entry with a cost is counted, an
entry without is free by convention (docs/formulas.md, "Data movement"), and an operator that is missing is reported
as uncounted, never as zero.
"""

from profiler.aten import cells, convolution, dense, elementwise, movement, numerics, pooling
from profiler.aten.call import Call, Cost, Operator

FAMILIES = (convolution, pooling, dense, cells, elementwise, numerics, movement)


def _joined() -> dict[str, Operator]:
    table: dict[str, Operator] = {}
    for family in FAMILIES:
        twice = table.keys() & family.TABLE.keys()
        if twice:
            raise ValueError(f"operators listed twice: {', '.join(sorted(twice))}")
        table.update(family.TABLE)
    return table


OPERATORS = _joined()


def find(packet: str) -> Operator | None:
    """The entry of an operator; an in-place operator (`aten.relu_`) is its plain form."""
    entry = OPERATORS.get(packet)
    if entry is None and packet.endswith("_") and not packet.endswith("__"):
        entry = OPERATORS.get(packet[:-1])
    return entry


__all__ = ["FAMILIES", "OPERATORS", "Call", "Cost", "Operator", "find"]
