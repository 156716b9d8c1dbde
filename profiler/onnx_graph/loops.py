"""`Loop` and `Scan`: their body counts as often as it runs; where only the data tell how often, they are uncounted."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onnx import GraphProto

from profiler.errors import ModelError
from profiler.onnx_graph.trial import Trial, always, attempt, counter, inner_graph, leave_aside, report, truth, varying
from profiler.onnx_ops.call import NodeCall
from profiler.onnx_ops.value import Shape, Value

if TYPE_CHECKING:
    from profiler.onnx_graph.step import Scope
    from profiler.onnx_graph.walk import Walk

# Bodies whose sizes change from run to run are gone through one by one, up to this many runs.
MOST_RUNS = 256
# Loops that stop by a condition have such a number of runs.
_ENDLESS = 1 << 31


def loop(walk: "Walk", call: NodeCall, scope: "Scope") -> list[Value]:
    """Run a `Loop`: inputs are the number of runs, a condition to begin, and what is carried from run to run."""
    body = inner_graph(call, "body")
    carried = [v for v in call.inputs[2:] if v is not None]
    begins = truth(call.inputs[1] if len(call.inputs) > 1 else None)
    most = call.integers(0)[0] if call.has(0) and call.input(0).array is not None else None
    if most == 0 or begins is False:
        return _allocated(walk, [*(varying(walk, v) for v in carried), *_empty(body, len(carried))])
    values = [counter(), always(), *(varying(walk, v) for v in carried)]
    trial = attempt(walk, call, "body", body, _bound(body, values), scope)
    after = trial.outputs[1 : 1 + len(carried)]
    trips = _trips(begins, truth(trial.outputs[0]), most)
    stable = _sizes(carried) == _sizes(after) or trips == 1
    if trips is None or (not stable and trips > MOST_RUNS):
        return _uncounted(walk, call, trial, len(carried), stable=stable)
    if not stable:
        return _unrolled(walk, call, body, carried, scope, trips)
    _repeated(walk, call, trial, trips)
    stacked = [_stacked(v, trips) for v in trial.outputs[1 + len(carried) :]]
    return _allocated(walk, [varying(walk, v) for v in (*after, *stacked)])


def _trips(begins: bool | None, goes_on: bool | None, most: int | None) -> int | None:  # noqa: FBT001  # two conditions
    """How often a body runs, None where the data decide."""
    if begins and goes_on is False:
        return 1
    return most if begins and goes_on and most is not None and most < _ENDLESS else None


def _bound(body: GraphProto, values: Sequence[Value]) -> dict[str, Value]:
    return dict(zip((i.name for i in body.input), values, strict=False))


def _sizes(values: Sequence[Value]) -> list[object]:
    return [v.shape if v.items is None else tuple(i.shape for i in v.items) for v in values]


def _stacked(value: Value, times: int, axis: int = 0) -> Value:
    """The results of all runs, one after the other along a new axis."""
    shape: Shape | None = None
    if value.shape is not None:
        at = axis % (len(value.shape) + 1)
        shape = (*value.shape[:at], times, *value.shape[at:])
    return Value(shape, value.dtype, reached=value.reached)


def _empty(body: GraphProto, carried: int) -> list[Value]:
    """What a loop that never runs has collected."""
    results = []
    for info in body.output[1 + carried :]:
        tensor = info.type.tensor_type
        known = all(d.HasField("dim_value") for d in tensor.shape.dim)
        shape = (0, *(d.dim_value for d in tensor.shape.dim)) if known else None
        results.append(Value(shape, tensor.elem_type))
    return results


def _allocated(walk: "Walk", values: list[Value]) -> list[Value]:
    for value in values:
        value.memory = walk.memory.allocate(value.bytes)
    return values


def _repeated(walk: "Walk", call: NodeCall, trial: Trial, times: int) -> None:
    """Report a body that runs several times in the same sizes."""
    walk.memory.peak = max(walk.memory.peak, trial.memory.peak)
    walk.memory.total += (trial.memory.total - walk.memory.total) * times
    report(walk, trial, times)
    walk.note(call, f"it runs {times} times, and the rows of its body are the sums")


def _uncounted(walk: "Walk", call: NodeCall, trial: Trial, carried: int, *, stable: bool) -> list[Value]:
    """A loop of which nobody knows how often it runs: what it carries keeps its size, if one run does not change it."""
    leave_aside(walk, trial)
    macs, flops = trial.cost
    reason = f"the data decide how often it runs; one run is {macs:,} MACs, {flops:,} FLOPs"
    walk.report(call, None, "uncounted", (0, 0), (), reason)
    results = trial.outputs[1:]
    return [
        varying(walk, v) if stable and n < carried else Value(None, v.dtype, reached=True)
        for n, v in enumerate(results)
    ]


def _unrolled(
    walk: "Walk", call: NodeCall, body: GraphProto, carried: list[Value], scope: "Scope", trips: int
) -> list[Value]:
    """Run after run, because sizes change on the way."""
    runs: list[list[Value]] = []
    for n in range(trips):
        with walk.inside(call.node, f"body {n}"):
            outputs = walk.graph(body, _bound(body, [counter(n), always(), *carried]), scope)
        for old in carried if n else ():
            walk.memory.release(old.memory)
        carried = outputs[1 : 1 + len(carried)]
        runs.append(outputs[1 + len(carried) :])
    walk.note(call, f"it runs {trips} times, and each run has rows of its own")
    collected = []
    for column in zip(*runs, strict=True):
        for value in column:
            walk.memory.release(value.memory)
        same = len({v.shape for v in column}) == 1
        value = _stacked(column[0], trips) if same else Value(None, column[0].dtype)
        value.reached = any(v.reached for v in column)
        collected.append(varying(walk, value))
    return [*carried, *_allocated(walk, collected)]


def scan(walk: "Walk", call: NodeCall, scope: "Scope") -> list[Value]:
    """Run a `Scan`: states are carried, inputs are cut along an axis, one step each.

    Raises:
        ModelError: lengths differ or are not known, or a state changes its size.
    """
    if call.opset < 9:
        raise ModelError("Scan of opset 8 takes lengths as data; convert the model to opset 9 or newer")
    body, count = inner_graph(call, "body"), int(call.attr("num_scan_inputs"))
    states, scanned = call.tensors[:-count], call.tensors[-count:]
    times, slices = _cut(walk, scanned, call.attr("scan_input_axes") or (0,) * count)
    values = [*(varying(walk, s) for s in states), *slices]
    trial = attempt(walk, call, "body", body, _bound(body, values), scope)
    last, results = trial.outputs[: len(states)], trial.outputs[len(states) :]
    if _sizes(last) != _sizes(states):
        raise ModelError("its state changes size from step to step")
    _repeated(walk, call, trial, times)
    axes = call.attr("scan_output_axes") or (0,) * len(results)
    stacked = [_stacked(v, times, axis) for v, axis in zip(results, axes, strict=True)]
    return _allocated(walk, [varying(walk, v) for v in (*last, *stacked)])


def _cut(walk: "Walk", scanned: Sequence[Value], axes: Sequence[int]) -> tuple[int, list[Value]]:
    """How many steps the inputs have, and one step of each."""
    lengths, slices = set(), []
    for value, axis in zip(scanned, axes, strict=True):
        if value.shape is None:
            raise ModelError("the size of what it goes through is not known")
        at = axis % len(value.shape)
        lengths.add(value.shape[at])
        one = Value(value.shape[:at] + value.shape[at + 1 :], value.dtype, reached=value.reached)
        slices.append(varying(walk, one))
    if len(lengths) != 1:
        raise ModelError(f"goes through inputs of different lengths: {sorted(lengths)}")
    return lengths.pop(), slices
