"""If, Loop and Scan: which nodes inside them run, and how often.

`If` counts the branch that its condition chooses where that is known, else the larger one. `Loop` and `Scan` count
their body as often as it runs where that is known; otherwise they are listed as uncounted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import GraphProto

from profiler.errors import FormulaError, ModelError, NetgaugeError
from profiler.onnx_graph.memory import Memory
from profiler.onnx_ops.call import NodeCall
from profiler.onnx_ops.value import Shape, Value
from profiler.receptive.field import TensorField

if TYPE_CHECKING:
    from profiler.onnx_graph.step import Scope, Step
    from profiler.onnx_graph.walk import Walk

# Bodies whose sizes change from run to run are gone through one by one, up to this many runs.
MOST_RUNS = 256
_ENDLESS = 1 << 31


@dataclass(slots=True)
class _Trial:
    """What a graph would do, not yet reported."""

    outputs: list[Value]
    steps: list["Step"]

    @property
    def cost(self) -> tuple[int, int]:
        """MACs and FLOPs."""
        return sum(s.macs for s in self.steps), sum(s.flops for s in self.steps)


def _try(walk: "Walk", graph: GraphProto, bound: dict[str, Value], scope: "Scope") -> _Trial:
    steps: list[Step] = []
    visit, walk.visit = walk.visit, steps.append
    try:
        outputs = walk.graph(graph, bound, scope)
    finally:
        walk.visit = visit
    return _Trial(outputs, steps)


def _replay(walk: "Walk", trial: _Trial) -> None:
    for step in trial.steps:
        walk.visit(step)


def _leave_aside(walk: "Walk", steps: Sequence["Step"]) -> None:
    """Parameters that are stored, although the nodes that use them are not counted."""
    for step in steps:
        walk.aside.update({w.name: w for w in step.weights})


def _graph(call: NodeCall, name: str) -> GraphProto:
    graph = call.attr(name)
    if not isinstance(graph, GraphProto):
        raise ModelError(f"has no graph {name!r}")
    return graph


def _if(walk: "Walk", call: NodeCall, scope: "Scope") -> list[Value]:
    branches = [_graph(call, name) for name in ("then_branch", "else_branch")]
    condition = call.input(0)
    if condition.array is not None:
        taken = 0 if bool(np.ravel(condition.array)[0]) else 1
        with walk.inside(call.node, ("then", "else")[taken]):
            outputs = walk.graph(branches[taken], {}, scope)
        if not condition.constant:
            walk.note(call, f"by the values given, the branch for {not taken} is counted")
        return outputs
    before = walk.memory
    trials: list[tuple[int, _Trial, Memory]] = []
    failures: list[NetgaugeError] = []
    for n, name in enumerate(("then", "else")):
        walk.memory = before.copy()
        try:
            with walk.inside(call.node, name):
                trials.append((n, _try(walk, branches[n], {}, scope), walk.memory))
        except FormulaError:
            raise
        except NetgaugeError as failure:  # a branch for inputs of other sizes
            failures.append(failure)
    if not trials:
        raise failures[0]
    taken, trial, walk.memory = max(trials, key=lambda t: t[1].cost)
    _replay(walk, trial)
    others = [other for n, other, _ in trials if n != taken]
    for other in others:
        _leave_aside(walk, other.steps)
    why = "the other one does not take these sizes" if failures else "the larger one"
    walk.note(call, f"its condition is data; the branch for {not taken} is counted, {why}")
    return [_merged(a, b) for a, b in zip(trial.outputs, (others or [trial])[0].outputs, strict=False)]


def _merged(chosen: Value, other: Value) -> Value:
    """The chosen branch's value; what holds for only one of the branches is not known."""
    out = Value(chosen.shape, chosen.dtype, None, chosen.field, chosen.reached or other.reached, items=chosen.items)
    out.memory = chosen.memory
    return out


def _varying(walk: "Walk", value: Value) -> Value:
    """A value that changes from run to run: its size and type remain."""
    field = None
    if value.reached and value.shape is not None and walk.extent:
        field = TensorField.unknown(value.shape, walk.extent)
    return Value(value.shape, value.dtype, None, field, value.reached, items=value.items)


def _sizes(values: Sequence[Value]) -> list[object]:
    return [v.shape if v.items is None else tuple(i.shape for i in v.items) for v in values]


def _truth(value: Value | None) -> bool | None:
    """Whether a condition holds; one that is left out does, one that is not known is None."""
    if value is None:
        return True
    return None if value.array is None else bool(np.ravel(value.array)[0])


def _loop(walk: "Walk", call: NodeCall, scope: "Scope") -> list[Value]:
    body = _graph(call, "body")
    carried = list(call.tensors[int(call.has(0)) + int(call.has(1)) :])
    trips = call.integers(0)[0] if call.has(0) and call.input(0).array is not None else None
    start = _truth(call.inputs[1] if len(call.inputs) > 1 else None)
    if trips == 0 or start is False:
        return _loop_results(walk, call, body, carried, [], 0)
    trial, memory = _once(walk, call, body, carried, scope)
    goes_on = _truth(trial.outputs[0])
    after = trial.outputs[1 : 1 + len(carried)]
    scans = trial.outputs[1 + len(carried) :]
    stable = _sizes(carried) == _sizes(after)
    if start is None or goes_on is not True or trips is None or trips >= _ENDLESS:
        if start and goes_on is False and (trips is None or trips >= 1):
            trips, stable = 1, True
        else:
            return _open_loop(walk, call, body, trial, after if stable else [], scans)
    if stable:
        _repeat(walk, trial, memory, trips)
        walk.note(call, f"it runs {trips} times, and the rows of its body are the sums")
        return _loop_results(walk, call, body, after, scans, trips)
    if trips > MOST_RUNS:
        return _open_loop(walk, call, body, trial, [], [])
    return _unrolled(walk, call, body, carried, scope, trips)


def _once(
    walk: "Walk", call: NodeCall, body: GraphProto, carried: Sequence[Value], scope: "Scope"
) -> tuple[_Trial, Memory]:
    """One run of a loop's body, with nothing known of what changes from run to run."""
    before, walk.memory = walk.memory, walk.memory.copy()
    number, condition = Value((), 7), Value((), 9, np.array(True))  # noqa: FBT003  # a truth value
    values = [number, condition, *(_varying(walk, v) for v in carried)]
    bound = dict(zip((i.name for i in body.input), values, strict=False))
    with walk.inside(call.node, "body"):
        trial = _try(walk, body, bound, scope)
    memory, walk.memory = walk.memory, before
    return trial, memory


def _repeat(walk: "Walk", trial: _Trial, memory: Memory, times: int) -> None:
    """Report a body that runs several times."""
    walk.memory.peak = max(walk.memory.peak, memory.peak)
    walk.memory.total += (memory.total - walk.memory.total) * times
    for step in trial.steps:
        walk.visit(step._replace(macs=step.macs * times, flops=step.flops * times, times=step.times * times))


def _open_loop(
    walk: "Walk", call: NodeCall, body: GraphProto, trial: _Trial, after: Sequence[Value], scans: Sequence[Value]
) -> list[Value]:
    """A loop of which nobody knows how often it runs."""
    _leave_aside(walk, trial.steps)
    macs, flops = trial.cost
    walk.report(
        call,
        None,
        "uncounted",
        (0, 0),
        (),
        f"the data decide how often it runs; one run is {macs:,} MACs, {flops:,} FLOPs",
    )
    count = len(call.node.output) - len(body.output) + 1 + len(call.node.output)
    results = [_varying(walk, v) for v in after]
    results += [Value(None, v.dtype, reached=True) for v in scans]
    while len(results) < min(count, len(call.node.output)):
        results.append(Value(None, 0, reached=True))
    return results


def _loop_results(
    walk: "Walk", call: NodeCall, body: GraphProto, after: Sequence[Value], scans: Sequence[Value], trips: int
) -> list[Value]:
    results = [_varying(walk, v) for v in after]
    for n in range(len(after), len(call.node.output)):
        if n - len(after) < len(scans):
            one = scans[n - len(after)]
            shape: Shape | None = None if one.shape is None else (trips, *one.shape)
            results.append(_varying(walk, Value(shape, one.dtype, reached=one.reached)))
        else:
            kind = body.output[1 + n].type.tensor_type
            sizes = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
            known = tuple(s for s in sizes if s is not None)
            results.append(Value((0, *known) if len(known) == len(sizes) else None, kind.elem_type))
    for value in results:
        value.memory = walk.memory.allocate(value.bytes)
    return results


def _unrolled(
    walk: "Walk", call: NodeCall, body: GraphProto, carried: list[Value], scope: "Scope", trips: int
) -> list[Value]:
    """Run after run, because sizes change on the way."""
    scans: list[list[Value]] = []
    for n in range(trips):
        values = [Value((), 7, np.array(n)), Value((), 9, np.array(True)), *carried]  # noqa: FBT003  # a truth value
        bound = dict(zip((i.name for i in body.input), values, strict=False))
        with walk.inside(call.node, f"body {n}"):
            outputs = walk.graph(body, bound, scope)
        carried = outputs[1 : 1 + len(carried)]
        scans.append(outputs[1 + len(carried) :])
    walk.note(call, f"it runs {trips} times, and each run has rows of its own")
    stacked = []
    for column in zip(*scans, strict=True):
        same = len({v.shape for v in column}) == 1 and column[0].shape is not None
        shape = (trips, *column[0].shape) if same and column[0].shape is not None else None
        value = _varying(walk, Value(shape, column[0].dtype, reached=any(v.reached for v in column)))
        value.memory = walk.memory.allocate(value.bytes)
        stacked.append(value)
    return [*carried, *stacked]


def _scan(walk: "Walk", call: NodeCall, scope: "Scope") -> list[Value]:
    body, count = _graph(call, "body"), int(call.attr("num_scan_inputs"))
    if call.opset < 9:
        raise ModelError("Scan of opset 8 takes lengths as data; convert the model to opset 9 or newer")
    states, scanned = list(call.tensors[:-count]), call.tensors[-count:]
    axes = call.attr("scan_input_axes") or (0,) * count
    lengths, slices = set(), []
    for value, axis in zip(scanned, axes, strict=True):
        if value.shape is None:
            raise ModelError("the size of what it goes through is not known")
        at = axis % len(value.shape)
        lengths.add(value.shape[at])
        slices.append(
            _varying(walk, Value(value.shape[:at] + value.shape[at + 1 :], value.dtype, reached=value.reached))
        )
    if len(lengths) != 1:
        raise ModelError(f"goes through inputs of different lengths: {sorted(lengths)}")
    times = lengths.pop()
    before, walk.memory = walk.memory, walk.memory.copy()
    bound = dict(zip((i.name for i in body.input), [*(_varying(walk, s) for s in states), *slices], strict=False))
    with walk.inside(call.node, "body"):
        trial = _try(walk, body, bound, scope)
    memory, walk.memory = walk.memory, before
    if _sizes(trial.outputs[: len(states)]) != _sizes(states):
        raise ModelError("its state changes size from step to step")
    _repeat(walk, trial, memory, times)
    walk.note(call, f"it runs {times} times, and the rows of its body are the sums")
    out_axes = call.attr("scan_output_axes") or (0,) * (len(trial.outputs) - len(states))
    results = [_varying(walk, v) for v in trial.outputs[: len(states)]]
    for value, axis in zip(trial.outputs[len(states) :], out_axes, strict=True):
        one = value.shape
        at = axis % (len(one) + 1) if one is not None else 0
        shape = None if one is None else (*one[:at], times, *one[at:])
        results.append(_varying(walk, Value(shape, value.dtype, reached=value.reached)))
    for value in results:
        value.memory = walk.memory.allocate(value.bytes)
    return results


RUN: dict[str, Callable[["Walk", NodeCall, "Scope"], list[Value]]] = {"If": _if, "Loop": _loop, "Scan": _scan}
