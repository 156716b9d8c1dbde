"""Operators that join positions: products, attention, recurrence, norms with statistics, reductions."""

from collections.abc import Callable, Sequence

from profiler.aten.call import Call
from profiler.aten.elementwise import reduced_axes
from profiler.formulas.dense import einsum_sizes
from profiler.receptive.field import TensorField, Views
from profiler.receptive.merge import merged
from profiler.receptive.reshape import expanded_to, reshaped
from profiler.receptive.rules.base import Fields, Result, Rule, present, unary
from profiler.receptive.view import AxisView


def _linear(call: Call, field: TensorField) -> TensorField:
    return expanded_to(field.reduced([len(field.layout) - 1], keep=True), call.out)


def _matmul(call: Call, fields: Fields) -> Result:
    """A product with a constant mixes one axis; a product of two activations joins what their axes see."""
    operands = call.tensors[-2:]
    left, right = fields(operands[0]), fields(operands[1])
    if left is None and right is None:
        return [None]
    rank = len(call.out)
    if left is not None and right is None and operands[0].dim() >= 2 and rank == operands[0].dim():
        return [expanded_to(left.reduced([rank - 1], keep=True), call.out)]
    if min(operands[0].dim(), operands[1].dim()) < 2:
        return [TensorField.unknown(call.out, (left or right).extent)]  # type: ignore[union-attr]  # one is there
    parts = []
    if left is not None:
        parts.append(left.reduced([operands[0].dim() - 1], keep=True))
    if right is not None:
        parts.append(right.reduced([operands[1].dim() - 2], keep=True))
    return [merged(parts, call.out)]


def _einsum(call: Call, fields: Fields) -> Result:
    """Each operand's axes that the result lacks are joined; the rest take the result's order."""
    tensors = call["tensors"]
    terms, out, _ = einsum_sizes(call["equation"], [tuple(t.shape) for t in tensors])
    parts = []
    for term, field in zip(terms, map(fields, tensors), strict=True):
        if field is None:
            continue
        if len(set(term)) < len(term):  # a diagonal
            return [TensorField.unknown(call.out, field.extent)]
        kept = [label for label in term if label in out]
        rest = field.reduced([n for n, label in enumerate(term) if label not in out], keep=False)
        rest = rest.permuted([kept.index(label) for label in out if label in kept])
        sizes = iter(rest.shape)
        parts.append(reshaped(rest, tuple(next(sizes) if label in kept else 1 for label in out)))
    return [merged(parts, call.out)]


def _attention(call: Call, fields: Fields) -> Result:
    """Every query sees all keys and values; locally, its own position."""
    query, key, value = (fields(call[name]) for name in ("query", "key", "value"))
    out = call.out
    sides = [f for f in (key, value) if f is not None]
    if query is None:
        joined = [f.reduced([-2, -1], keep=True) for f in sides]
        return [merged(joined, out) if joined else None]
    own = query.mixed([len(out) - 1], local=True)
    if own.shape != out:
        own = expanded_to(own.reduced([len(out) - 1], keep=True), out)
    if len(sides) == 2 and sides[0].views is sides[1].views and sides[0].layout[-2] == sides[1].layout[-2]:
        sides.pop()
    for side in sides:
        seen = side.views.changed(_joined_along(side, (-2, -1)), local=False)
        rest = TensorField(side.layout, Views(seen.true, seen.true, seen.extent), side.uneven, side.shape)
        own = _seen_by(own, rest.reduced([-2, -1], keep=True), out)
    return [own]


def _joined_along(field: TensorField, axes: Sequence[int]) -> Callable[[AxisView], AxisView]:
    gone, sizes = field.uids(axes), field.sizes()
    return lambda view: view.projected(gone, sizes)


def _seen_by(query: TensorField, side: TensorField, shape: tuple[int, ...]) -> TensorField:
    """What queries see when they see all of another tensor as well; locally nothing is added."""
    joined = merged([query, side], shape)
    if joined.true == query.true:
        return query
    if joined.layout != query.layout:
        return joined
    return TensorField(query.layout, Views(joined.true, query.local, query.extent), joined.uneven, shape)


def _recurrence(call: Call, fields: Fields) -> Result:
    field = fields(call["input"]) if "input" in call else None
    if field is None or len(field.layout) != 3:
        found = present(call, fields)
        return [TensorField.unknown(tuple(o.shape), found[0].extent) if found else None for o in call.outputs]
    steps = 1 if call["batch_first"] else 0
    out = expanded_to(field.reduced([2], keep=True), call.out)
    out = out.running(steps, both_ways=bool(call["bidirectional"]))
    final = out.selected(steps, out.shape[steps] - 1)
    final = reshaped(final, (1, *final.shape))
    return [out, *(expanded_to(final, tuple(state.shape)) for state in call.outputs[1:])]


def _cumulative(call: Call, field: TensorField) -> TensorField:
    return field.running(call["dim"] % len(field.layout), both_ways=False)


def _norm(axes: Callable[[Call], Sequence[int]]) -> Rule:
    """Statistics over some axes: every position along them comes to depend on all, through the statistics alone."""
    return unary(lambda call, field: field.mixed(axes(call)))


def _batch_norm_axes(call: Call) -> Sequence[int]:
    trains = call["training"] or call["running_mean"] is None
    return [a for a in range(call.first.dim()) if a != 1] if trains else []


def _reduce(call: Call, field: TensorField) -> TensorField:
    keep = bool(call.get("keepdim"))
    return field.reduced(reduced_axes(call), keep=keep)


def _softmax(call: Call, field: TensorField) -> TensorField:
    return field.mixed([call["dim"]])


TABLE: dict[str, Rule] = {
    "aten.linear": unary(_linear),
    **{f"aten.{name}": _matmul for name in ("matmul", "mm", "bmm", "addmm", "baddbmm")},
    "aten.einsum": _einsum,
    "aten.scaled_dot_product_attention": _attention,
    **{f"aten.{name}": _recurrence for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
    "aten.cumsum": unary(_cumulative),
    "aten.batch_norm": _norm(_batch_norm_axes),
    "aten.instance_norm": _norm(lambda call: range(2, call.first.dim())),
    "aten.group_norm": _norm(lambda call: range(1, call.first.dim())),
    "aten.layer_norm": _norm(lambda call: range(-len(call["normalized_shape"]), 0)),
    "aten.rms_norm": _norm(lambda call: range(-len(call["normalized_shape"]), 0)),
    **{f"aten.{name}": unary(_softmax) for name in ("softmax", "log_softmax", "_softmax", "_log_softmax")},
    **{f"aten.{name}": unary(_reduce) for name in ("sum", "mean", "amax", "amin", "max", "min", "var", "std")},
    **{f"aten.{name}": unary(_reduce) for name in ("argmax", "argmin", "any", "all")},
}
