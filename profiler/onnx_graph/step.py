"""What the walk shows of each node, and where values are looked up by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from profiler.onnx_graph.names import Place
from profiler.onnx_ops.call import NodeCall, Operator
from profiler.onnx_ops.value import Value, Weight


class Step(NamedTuple):
    """One node as the walk saw it.

    Attributes:
        call: the node, with its inputs and outputs.
        place: the module it belongs to.
        operator: its entry in the table, None where it has none.
        status: "counted", "free" or "uncounted".
        macs, flops: by the formula, of all its runs together.
        weights: parameters it uses.
        times: how often it runs.
        reason: why it is not counted, or what must be known of its figures.
    """

    call: NodeCall
    place: Place
    operator: Operator | None
    status: str
    macs: int
    flops: int
    weights: tuple[Weight, ...]
    times: int
    reason: str = ""


@dataclass(slots=True)
class Scope:
    """Values by name: those of a graph, then those of the graphs around it."""

    values: dict[str, Value]
    opsets: Mapping[str, int]
    outer: "Scope | None" = None

    def find(self, name: str) -> Value | None:
        """A value by name, None where there is none."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            scope = scope.outer
        return None
