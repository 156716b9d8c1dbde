"""Going through a graph inside a node without reporting it yet: which branch, or how often, is decided afterwards."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import GraphProto, TensorProto

from profiler.errors import ModelError
from profiler.onnx_graph.memory import Memory
from profiler.onnx_ops.call import NodeCall
from profiler.onnx_ops.value import Value
from profiler.receptive.field import TensorField

if TYPE_CHECKING:
    from profiler.onnx_graph.step import Scope, Step
    from profiler.onnx_graph.walk import Walk


@dataclass(frozen=True, slots=True)
class Trial:
    """What a graph would do.

    Attributes:
        outputs: its results.
        steps: its nodes.
        memory: the account afterwards.
        notes: what would have to be known of the figures.
        folded: MACs on constants alone.
    """

    outputs: list[Value]
    steps: list["Step"]
    memory: Memory
    notes: list[str]
    folded: int

    @property
    def cost(self) -> tuple[int, int]:
        """MACs and FLOPs."""
        return sum(s.macs for s in self.steps), sum(s.flops for s in self.steps)


def attempt(
    walk: "Walk", call: NodeCall, part: str, graph: GraphProto, bound: Mapping[str, Value], scope: "Scope"
) -> Trial:
    """Go through a graph; the walk is as before."""
    steps: list[Step] = []
    before = walk.visit, walk.memory, walk.notes, walk.folded
    walk.visit, walk.memory, walk.notes, walk.folded = steps.append, walk.memory.copy(), [], 0
    try:
        with walk.inside(call.node, part):
            outputs = walk.graph(graph, bound, scope)
        return Trial(outputs, steps, walk.memory, walk.notes, walk.folded)
    finally:
        walk.visit, walk.memory, walk.notes, walk.folded = before


def report(walk: "Walk", trial: Trial, times: int = 1) -> None:
    """Report what has been tried, as often as it runs."""
    walk.notes += trial.notes
    walk.folded += trial.folded
    for s in trial.steps:
        walk.visit(s._replace(macs=s.macs * times, flops=s.flops * times, times=s.times * times))


def leave_aside(walk: "Walk", trial: Trial) -> None:
    """Parameters are stored, although the nodes that use them are not counted."""
    for step in trial.steps:
        walk.aside.update({w.name: w for w in step.weights})


def inner_graph(call: NodeCall, name: str) -> GraphProto:
    """A graph that a node holds.

    Raises:
        ModelError: there is none.
    """
    graph = call.attr(name)
    if not isinstance(graph, GraphProto):
        raise ModelError(f"has no graph {name!r}")
    return graph


def varying(walk: "Walk", value: Value) -> Value:
    """A value that changes from run to run: its size and type remain."""
    field = None
    if value.reached and value.shape is not None and walk.extent:
        field = TensorField.unknown(value.shape, walk.extent, why="carried by a loop")
    return Value(value.shape, value.dtype, None, field, value.reached, items=value.items)


def truth(value: Value | None) -> bool | None:
    """Whether a condition holds; one that is left out does, one that is not known is None."""
    if value is None:
        return True
    return None if value.array is None else bool(np.ravel(value.array)[0])


def counter(number: int | None = None) -> Value:
    """The number of a run."""
    return Value((), TensorProto.INT64, None if number is None else np.array(number))


def always() -> Value:
    """A condition that holds."""
    return Value((), TensorProto.BOOL, np.array(object=True))
