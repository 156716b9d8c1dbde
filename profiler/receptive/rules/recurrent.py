"""Recurrent layers and cells, running sums: a step sees those before it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from profiler.aten.call import Call
from profiler.receptive.concat import concatenated
from profiler.receptive.field import TensorField
from profiler.receptive.index_map import window
from profiler.receptive.merge import merged
from profiler.receptive.pick import paired, run_both_ways
from profiler.receptive.reshape import expanded_to, reshaped
from profiler.receptive.rules.base import Fields, Result, Rule, drawn, known_values, present, unary
from profiler.receptive.view import AxisView, settled


def _recurrence(call: Call, fields: Fields) -> Result:
    packed = "batch_sizes" in call
    field = fields(call["data"] if packed else call["input"])
    first = call.get("hx")
    states = [f for t in _listed(first) if (f := fields(t)) is not None]
    if field is None and not states:
        return [None] * len(call.outputs)
    if field is None or packed:
        return _packed(call, fields, field, states)
    steps = 1 if call["batch_first"] else 0
    parts = [expanded_to(field.reduced([2], keep=True), call.out)]
    out = merged([*parts, *(_start(s, call.out, 1 - steps) for s in states)], call.out)
    # Locally a step is its own position: the recurrence joins what lies before it as a global operation does.
    last = out.mixed([steps]).selected(steps, 0)  # the state behind all steps, whichever comes first
    if not call["bidirectional"]:
        out = out.running(steps)
    elif call["num_layers"] > 1:  # the second layer sees both directions of the first
        out = out.mixed([steps])
    else:
        out = run_both_ways(out, steps, 2)
    return [out, *_states(last, call)]


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else [value]


def _start(state: TensorField, shape: tuple[int, ...], batch: int) -> TensorField:
    """An initial state, (layers, batch, features): all of it reaches every step of its sequence."""
    field = state.reduced([0, 2], keep=False)
    own = tuple(shape[batch] if axis == batch else 1 for axis in range(3))
    return expanded_to(reshaped(field, own), shape)


def _states(final: TensorField, call: Call) -> list[TensorField | None]:
    """The last states, (layers, batch, features), from (batch, features)."""
    rest: list[TensorField | None] = []
    for state in call.outputs[1:]:
        shape = tuple(state.shape)
        lead = (1,) * (len(shape) - len(final.layout))
        field = reshaped(final.reduced([-1], keep=True), (*lead, *final.shape[:-1], 1))
        rest.append(expanded_to(field, shape))
    return rest


def _packed(call: Call, fields: Fields, field: TensorField | None, states: list[TensorField]) -> Result:
    """Packed sequences: rows are the first step of every sequence, then the second, ..."""
    sizes = known_values(call["batch_sizes"], fields) if "batch_sizes" in call else None
    if field is None or states or sizes is None:
        return drawn("a recurrence from a computed state, or over lengths that are not known")(call, fields)
    field = expanded_to(field.reduced([1], keep=True), call.out).fused(0)
    ((uid, _),) = field.layout[0]
    both = bool(call["bidirectional"])
    atoms = field.sizes()

    def change(view: AxisView) -> AxisView:
        if view.atoms == (uid,):
            sight = view.sight.running_in(sizes, both_ways=both)
            return settled(AxisView(view.atoms, sight, view.doubt, mixed=True, why=view.why))
        return view.projected({uid}, atoms)

    out = field.with_views(change, local=False)
    final = out.reduced([0], keep=False)
    final = expanded_to(reshaped(final, (1, 1, *final.shape)), (1, int(sizes[0]), *final.shape))
    return [out, *_states(reshaped(final, final.shape[1:]), call)]


def _pack(call: Call, fields: Fields) -> Result:
    """(batch, steps, ...) or (steps, batch, ...) to rows."""
    field = fields(call["input"])
    if field is None:
        return [None] * len(call.outputs)
    lengths = known_values(call["lengths"], fields)
    if lengths is None:
        return [drawn("lengths that are not known")(call, fields)[0], None]
    step, batch = _rows(lengths)
    axes = [1, 0] if call["batch_first"] else [0, 1]
    return [paired(field, axes, [step, batch], (len(step),)), None]


def _rows(lengths: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Step and sequence of every row of packed sequences, longest first."""
    pairs = [(t, b) for t in range(int(lengths.max(initial=0))) for b in range(len(lengths)) if lengths[b] > t]
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _unpack(call: Call, fields: Fields) -> Result:
    """Rows back to (batch, steps, ...) or (steps, batch, ...)."""
    field = fields(call["data"])
    if field is None:
        return [None] * len(call.outputs)
    sizes = known_values(call["batch_sizes"], fields)
    if sizes is None:
        return [drawn("lengths that are not known")(call, fields)[0], None]
    out = call.out
    steps, batch = (out[1], out[0]) if call["batch_first"] else (out[0], out[1])
    place = np.full((steps, batch), -1)
    at = 0
    for t, n in enumerate(sizes.tolist()):
        place[t, :n] = np.arange(at, at + n)
        at += n
    if call["batch_first"]:
        place = place.T
    padded = concatenated(
        [field, TensorField.blind((1, *field.shape[1:]), field.extent)], 0, (at + 1, *field.shape[1:])
    )
    return [paired(padded, [0], [np.where(place < 0, at, place)], place.shape), None]


def _cell(call: Call, fields: Fields) -> Result:
    """One step: the new state sees the old one and the input, each element all features."""
    named = [t for t in (call["input"], *_listed(call["hx"])) if t is not None]
    found = [f.reduced([-1], keep=True) for t in named if (f := fields(t)) is not None]
    return [merged(found, tuple(out.shape)) if found else None for out in call.outputs]


def _cumulative(call: Call, field: TensorField) -> TensorField:
    return field.running(call["dim"] % len(field.layout)) if field.layout else field


def _difference(call: Call, fields: Fields) -> Result:
    """N times the difference of neighbours."""
    field = fields(call["self"])
    if field is None or len(present(call, fields)) > 1:
        return drawn("values put before or after are computed")(call, fields)
    axis, n = call["dim"] % len(field.layout), call["n"]
    before = call["prepend"].shape[axis] if call.get("prepend") is not None else 0
    return [field.moved(axis, window(n + 1, 1, before), call.out[axis])]


TABLE: dict[str, Rule] = {
    **{f"aten.{name}": _recurrence for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
    **{f"aten.{name}": _cell for name in ("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")},
    "aten._pack_padded_sequence": _pack,
    "aten._pad_packed_sequence": _unpack,
    **{f"aten.{name}": unary(_cumulative) for name in ("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin")},
    "aten.diff": _difference,
}
