"""`analyze_onnx()`: the room where everything meets.

read the graph  ->  settle the inputs' sizes  ->  one row per node  ->  sums per module  ->  totals
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx

from profiler.onnx_graph.inputs import Given, bind_inputs, declared_shape, input_axes
from profiler.onnx_graph.names import Names
from profiler.onnx_graph.prepare import Program, initializers
from profiler.onnx_graph.step import Scope, Step
from profiler.onnx_graph.tree import module_tree
from profiler.onnx_graph.walk import Walk
from profiler.onnx_graph.weights import Kinds, originals
from profiler.onnx_ops.value import Value, Weight
from profiler.profile import Layer, Profile, Totals
from profiler.receptive.field import TensorField
from profiler.receptive.summary import summarize

MOST_TRACED = 4


@dataclass(slots=True)
class _Rows:
    """Collects the walk's steps as rows."""

    tied: Mapping[str, str]
    layers: list[Layer] = field(default_factory=list)
    paths: list[tuple[str, ...]] = field(default_factory=list)
    uncounted: Counter[str] = field(default_factory=Counter)
    free: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, list[str]] = field(default_factory=dict)
    parameters: dict[str, Weight] = field(default_factory=dict)

    def add(self, step: Step) -> None:
        weights = self.first_uses(step.weights)
        op = step.call.op
        if step.reason:
            self.reasons.setdefault(f"{op}: {step.reason}", []).append(step.place.name)
        if step.status == "uncounted":
            self.uncounted[op] += step.times
        elif step.status == "free":
            self.free[op] += step.times
            if not weights:  # an embedding computes nothing, but its table is stored: it has a row
                return
        self.layers.append(_row(step, weights))
        self.paths.append(step.place.path)

    def first_uses(self, weights: tuple[Weight, ...]) -> list[Weight]:
        """Those of a node's parameters that no node before it used; tied ones have one name."""
        fresh = []
        for weight in weights:
            name = self.tied.get(weight.name, weight.name)
            if name not in self.parameters:
                self.parameters[name] = weight
                fresh.append(weight)
        return fresh


def _row(step: Step, weights: list[Weight]) -> Layer:
    call, operator = step.call, step.operator
    outputs = [o for o, name in zip(call.outputs, call.node.output, strict=False) if name]
    view = operator is not None and operator.view
    written = sum(o.bytes for o in outputs)
    moved = 0 if view else step.times
    return Layer(
        name=step.place.name,
        type=step.place.type,
        op=operator.op if operator else call.node.op_type,
        call=step.place.call,
        input_shapes=tuple(v.shape for v in call.tensors if not v.constant and v.shape is not None),
        output_shapes=tuple(o.shape for o in outputs if o.shape is not None),
        macs=step.macs,
        flops=step.flops,
        params=sum(w.elements for w in weights),
        param_bytes=sum(w.bytes for w in weights),
        output_bytes=written,
        read_bytes=sum(v.bytes for v in call.tensors) * moved,
        write_bytes=written * moved,
        formula=operator.formula if operator else "",
        status=step.status,
        receptive_field=summarize(call.outputs[0].field) if call.outputs else None,
    )


def analyze_onnx(model: onnx.ModelProto, inputs: Given = (), *, dims: Mapping[str, int] | None = None) -> Profile:
    """Count what an ONNX graph computes and stores, node by node, without running it.

    Args:
        model: the graph; stored tensors outside the file are never opened, and large ones never read.
        inputs: sizes such as (1, 3, 224, 224), or arrays, by position or by the names of the graph's inputs; None, or
            left out, where the size that the graph declares will do. The elements of integer arrays are used where a
            size or a branch depends on them.
        dims: sizes of named dimensions that the graph leaves open, such as {"batch": 1}; a nameless dimension is
            called by its place, `input[0]`.

    Returns:
        The profile, as `profiler.analyze` gives of a module; `subject` is None.

    Raises:
        UsageError: an input or dimension is named that the graph does not have, or a size does not fit it.
        ModelError: the graph is damaged, or a size is left open; the message says which and what to pass.
        FormulaError: a documented size formula and ONNX' inference disagree.
    """
    program = Program.of(model)
    kinds = Kinds.of_model(model)
    sizes = dict(dims or {})
    values = bind_inputs(model.graph, inputs, sizes)
    rows = _Rows(originals(model, kinds))
    declared = {v.name: shape for v in model.graph.value_info if (shape := declared_shape(v.type, sizes)) is not None}
    walk = Walk(program, rows.add, (), declared, kinds, names=Names())
    for value in values.values():
        value.memory = walk.memory.allocate(value.bytes)
    walk.extent = _follow(list(values.values()))
    scope = Scope({**initializers(model.graph, kinds), **values}, program.opsets)
    walk.body(model.graph.node, [o.name for o in model.graph.output], scope)
    stored = dict(rows.parameters)
    stored.update({n: w for n, w in walk.aside.items() if rows.tied.get(n, n) not in stored})
    return Profile(
        totals=_totals(rows.layers, stored, walk),
        layers=tuple(rows.layers),
        modules=module_tree(rows.layers, rows.paths, walk.names.classes, model.graph.name),
        uncounted=dict(rows.uncounted),
        free=dict(rows.free),
        inputs=tuple(v.shape or () for v in values.values()),
        notes=(*walk.notes, *_folded(walk.folded), *_reasons(rows.reasons)),
    )


def _follow(inputs: list[Value]) -> tuple[int, ...]:
    """Give the inputs that have axes to follow their receptive fields: the sizes of those axes."""
    spatial = [v for v in inputs if input_axes(v)]
    # Pictures, sounds and the like, else the first sequence of tokens: beside them, integers are lengths and masks.
    traced = [v for v in spatial if v.floating][:MOST_TRACED] or spatial[:1]
    for value in inputs:
        value.reached = False
    if not traced:
        return ()
    fields = TensorField.of_inputs([(v.shape or (), input_axes(v)) for v in traced])
    for value, seen in zip(traced, fields, strict=True):
        value.field, value.reached = seen, True
    return fields[0].extent


def _folded(macs: int) -> list[str]:
    return [f"{macs:,} MACs on constants alone are not counted: a runtime does them once, as it loads"] if macs else []


def _reasons(reasons: Mapping[str, list[str]]) -> list[str]:
    """One sentence per reason, with the first of the nodes it holds for."""
    lines = []
    for reason, names in reasons.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        lines.append(f"{names[0] or 'the graph'}{more}: {reason}")
    return lines


def _totals(layers: list[Layer], parameters: Mapping[str, Weight], walk: Walk) -> Totals:
    return Totals(
        macs=sum(layer.macs for layer in layers),
        flops=sum(layer.flops for layer in layers),
        params=sum(w.elements for w in parameters.values()),
        trainable_params=0,
        param_bytes=sum(w.bytes for w in parameters.values()),
        activation_bytes=walk.memory.total,
        peak_bytes=walk.memory.peak,
        read_bytes=sum(layer.read_bytes for layer in layers),
        write_bytes=sum(layer.write_bytes for layer in layers),
    )
