"""The one table from ONNX operator to formula.

Every node of a graph is looked up here by its operator's name, with the domain in front where it is not the standard
one (`com.microsoft.FusedConv`). An entry with a cost is counted, an entry without is free by convention
(docs/formulas.md, "Data movement"), and an operator that is in `UNCOUNTED` or missing is reported as uncounted, never
as zero. Operators that the ONNX standard defines by other operators and that have no entry (`EXPANDED`) are counted by
that definition; `If`, `Loop` and `Scan` (`CONTROL`) by the nodes inside them.
"""

from profiler.onnx_ops import (
    attention,
    blocked,
    contrib,
    convolution,
    dense,
    elementwise,
    fourier,
    movement,
    normalization,
    pooling,
    quantized,
    recurrent,
    reduction,
    resampling,
    sequence,
)
from profiler.onnx_ops.call import NodeCall, Operator, UncountedError, UnknownValueError
from profiler.onnx_ops.uncounted import CONTROL, EXPANDED, UNCOUNTED

FAMILIES = (
    *(convolution, pooling, dense, attention, recurrent, normalization, elementwise, reduction, resampling, fourier),
    *(movement, sequence, quantized, contrib, blocked),
)


def _joined() -> dict[str, Operator]:
    table: dict[str, Operator] = {}
    for family in FAMILIES:
        twice = table.keys() & family.TABLE.keys()
        if twice:
            raise ValueError(f"operators listed twice: {', '.join(sorted(twice))}")
        table.update(family.TABLE)
    return table


OPERATORS = _joined()

__all__ = [
    "CONTROL",
    "EXPANDED",
    "FAMILIES",
    "OPERATORS",
    "UNCOUNTED",
    "NodeCall",
    "Operator",
    "UncountedError",
    "UnknownValueError",
]
