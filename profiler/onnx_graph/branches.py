"""`If`: the branch that its condition chooses where that is known, else the one with more MACs."""

from typing import TYPE_CHECKING

from profiler.errors import FormulaError, NetgaugeError
from profiler.onnx_graph.trial import Trial, attempt, inner_graph, leave_aside, report, truth
from profiler.onnx_ops.call import NodeCall
from profiler.onnx_ops.value import Value

if TYPE_CHECKING:
    from profiler.onnx_graph.step import Scope
    from profiler.onnx_graph.walk import Walk

_PARTS = {True: "then", False: "else"}


def branch(walk: "Walk", call: NodeCall, scope: "Scope") -> list[Value]:
    """Run an `If`."""
    condition = call.input(0)
    chosen = truth(condition)
    if chosen is None:
        return _undecided(walk, call, scope)
    with walk.inside(call.node, _PARTS[chosen]):
        outputs = walk.graph(inner_graph(call, f"{_PARTS[chosen]}_branch"), {}, scope)
    if not condition.constant:
        walk.note(call, f"by the values given, the branch for {chosen} is counted")
    return outputs


def _undecided(walk: "Walk", call: NodeCall, scope: "Scope") -> list[Value]:
    """Both branches are tried; one may be meant for inputs of other sizes."""
    trials: dict[bool, Trial] = {}
    failures: list[NetgaugeError] = []
    for condition, part in _PARTS.items():
        try:
            trials[condition] = attempt(walk, call, part, inner_graph(call, f"{part}_branch"), {}, scope)
        except FormulaError:
            raise
        except NetgaugeError as failure:
            failures.append(failure)
    if not trials:
        raise failures[0]
    chosen = max(trials, key=lambda condition: trials[condition].cost)
    walk.memory = trials[chosen].memory
    report(walk, trials[chosen])
    reached = False
    for trial in trials.values():
        leave_aside(walk, trial)
        reached = reached or any(v.reached for v in trial.outputs)
    why = "the other one does not take these sizes" if failures else "the larger one"
    walk.note(call, f"its condition is data; the branch for {chosen} is counted, {why}")
    return [_either(value, reached=reached) for value in trials[chosen].outputs]


def _either(chosen: Value, *, reached: bool) -> Value:
    """The chosen branch's value; its elements and whether it is constant hold for that branch alone."""
    field = chosen.field
    out = Value(chosen.shape, chosen.dtype, None, field, chosen.reached or reached, items=chosen.items)
    out.memory = chosen.memory
    return out
