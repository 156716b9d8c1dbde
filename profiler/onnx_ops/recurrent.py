"""LSTM, GRU and Elman networks: one layer a node, forward, reverse or both, in either layout."""

from collections.abc import Sequence

from profiler.formulas.activation import COST_PER_ELEMENT
from profiler.formulas.recurrent import Recurrence
from profiler.onnx_ops.call import Cost, Fields, NodeCall, Operator
from profiler.onnx_ops.fields import backwards, unknown
from profiler.onnx_ops.value import Shape
from profiler.receptive.merge import merged
from profiler.receptive.pick import run_both_ways
from profiler.receptive.reshape import expanded_to, reshaped

# How often a step applies each of its activations, per hidden unit, with the ones that the formula counts.
_ACTIVATIONS = {
    "lstm": (("Sigmoid", 3), ("Tanh", 1), ("Tanh", 1)),
    "gru": (("Sigmoid", 2), ("Tanh", 1)),
    "rnn_tanh": (("Tanh", 1),),
}
_COSTS = {
    "Sigmoid": "sigmoid", "Tanh": "tanh", "Relu": "relu", "LeakyRelu": "leaky_relu", "ThresholdedRelu": "threshold",
    "HardSigmoid": "hardsigmoid", "Elu": "elu", "Softsign": "softsign", "Softplus": "softplus", "Affine": "add_scaled",
    "ScaledTanh": "add_scaled",
}  # fmt: skip
_PEEPHOLES = 6  # three gates look at the cell: a multiplication and an addition each


def _layout(call: NodeCall) -> tuple[int, int]:
    """Time steps and batch."""
    x = call.shape()
    return (x[1], x[0]) if call.attr("layout", 0) else (x[0], x[1])


def _directions(call: NodeCall) -> int:
    return 2 if call.attr("direction", "forward") == "bidirectional" else 1


def sizes(call: NodeCall, kind: str, bias: int = 3) -> Recurrence:
    """Sizes of a recurrent node: time steps times batch, widths, directions."""
    steps, batch = _layout(call)
    hidden = int(call.attr("hidden_size") or call.shape(2)[-1])
    return Recurrence(
        kind=kind,
        steps=steps * batch,
        features=call.shape()[2],
        hidden=hidden,
        directions=_directions(call),
        bias=call.has(bias),
    )


def _other_activations(call: NodeCall, kind: str) -> int:
    """FLOPs per hidden unit by which the node's own activations differ from the usual ones, over all directions."""
    named = call.attr("activations")
    if not named:
        return 0
    usual = _ACTIVATIONS[kind] * _directions(call)
    cost = {name: COST_PER_ELEMENT[key] for name, key in _COSTS.items()}
    return sum(
        times * (cost.get(str(name), 1) - cost[default]) for name, (default, times) in zip(named, usual, strict=False)
    )


def _recurrent(kind: str) -> Operator:
    def cost(call: NodeCall) -> Cost:
        s = sizes(call, kind)
        peepholes = _PEEPHOLES * s.directions if call.has(7) else 0
        return s.macs(), s.flops() + s.steps * s.hidden * (_other_activations(call, kind) + peepholes)

    return Operator("recurrence", "Recurrence", cost, _shapes, _field)


def _shapes(call: NodeCall) -> Sequence[Shape]:
    steps, batch = _layout(call)
    directions, hidden = _directions(call), int(call.attr("hidden_size") or call.shape(2)[-1])
    if call.attr("layout", 0):
        state = (batch, directions, hidden)
        return [(batch, steps, directions, hidden), state, state]
    state = (directions, batch, hidden)
    return [(steps, directions, batch, hidden), state, state]


def _field(call: NodeCall) -> Fields:
    """Each step sees the initial state and the steps before it, in its direction; the final state sees all."""
    field = call.input(0).field
    batch_first = bool(call.attr("layout", 0))
    starts = [v.field for v in call.inputs[5:7] if v is not None and v.field is not None]
    others = len(call.fields()) - len(starts)
    if others > (field is not None) or not call.node.output[0] or (starts and batch_first):
        return unknown(call)
    steps, out = (1 if batch_first else 0), call.out
    parts = [reshaped(s.reduced([0, 2], keep=True), (1, 1, out[2], 1)) for s in starts]
    if field is not None:
        first, second, _ = field.shape
        wide = (first, second, 1, 1) if batch_first else (first, 1, second, 1)
        parts.append(reshaped(field.reduced([2], keep=True), wide))
    seen = merged(parts, out)
    final = seen.mixed([steps]).selected(steps, 0)
    states = [expanded_to(final, o.shape) for o in call.outputs[1:] if o.shape is not None]
    direction = call.attr("direction", "forward")
    if direction == "bidirectional":
        return [run_both_ways(seen, steps, 2 if batch_first else 1), *states]
    if direction == "reverse":
        return [backwards(backwards(seen, steps).running(steps), steps), *states]
    return [seen.running(steps), *states]


TABLE = {"LSTM": _recurrent("lstm"), "GRU": _recurrent("gru"), "RNN": _recurrent("rnn_tanh")}
