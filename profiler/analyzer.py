"""`analyze()`: the room where everything meets.

walk the model  ->  one row per operator call  ->  sums per module  ->  totals
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from profiler.aten.call import Call, tensors_of
from profiler.backward import backward_pass
from profiler.compiled import as_written
from profiler.errors import UsageError
from profiler.inventory import Inventory, take_inventory
from profiler.lazy import initialized, lazy_layers
from profiler.memory import Memory
from profiler.modules import module_tree
from profiler.profile import Layer, ModuleSum, Profile, Shape, Totals
from profiler.receptive.summary import summarize
from profiler.step import Step
from profiler.walk import stand_in, walk


@dataclass(frozen=True, slots=True)
class Subject:
    """What was analyzed, kept so that a peer can be run on the same."""

    model: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(slots=True)
class _Rows:
    """Collects the walk's steps as rows."""

    layers: list[Layer] = field(default_factory=list)
    uncounted: Counter[str] = field(default_factory=Counter)
    free: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def restart(self, reason: str) -> None:
        """Forget what was collected: the walk begins anew."""
        self.layers.clear()
        self.uncounted.clear()
        self.free.clear()
        if reason:
            self.notes.append(reason)

    def add(self, step: Step) -> None:
        if step.operator is None:
            self.uncounted[step.call.packet] += 1
        elif step.operator.cost is None:
            self.free[step.call.packet] += 1
            if not step.parameters:  # an embedding computes nothing, but its table is stored: it has a row
                return
        self.layers.append(_row(step))


def _row(step: Step) -> Layer:
    call, operator, cost, module, inputs, parameters, fields, written, read = step
    outputs = call.outputs
    shapes: tuple[Shape, ...]
    if len(outputs) == 1:
        shapes, made = (tuple(outputs[0].shape),), outputs[0].nbytes
    else:
        shapes, made = tuple([tuple(t.shape) for t in outputs]), sum([t.nbytes for t in outputs])
    counted = "uncounted" if operator is None else "free" if operator.cost is None else "counted"
    return Layer(  # by position, which takes a third of the time, and there is one for every call
        module.name,
        module.type,
        call.packet.removeprefix("aten.") if operator is None else operator.op,
        module.number,
        inputs,
        shapes,
        cost.macs,
        cost.flops,
        sum([p.numel() for p in parameters]) if parameters else 0,
        sum([p.nbytes for p in parameters]) if parameters else 0,
        made,
        _bytes_read(call, read) if written else 0,
        made if len(written) == len(outputs) else sum([t.nbytes for t in written]),
        "" if operator is None else operator.formula,
        counted,
        summarize(fields[0]),
    )


# Operators that read as much of their first tensor as they hand on.
_LOOKUPS = frozenset(f"aten.{name}" for name in ("embedding", "index", "index_select", "gather", "take_along_dim"))


def _bytes_read(call: Call, whole: int) -> int:
    """Bytes read of the tensors that went in, which are `whole` bytes together."""
    return whole + min(call.outputs[0].nbytes - call.first.nbytes, 0) if call.packet in _LOOKUPS else whole


def analyze(
    model: nn.Module,
    *inputs: Any,  # noqa: ANN401  # whatever the model takes
    backward: bool = False,
    **kwargs: Any,  # noqa: ANN401  # as above
) -> Profile:
    """Count what a network computes and stores, layer by layer, without running it for real.

    Args:
        model: any module. It is left as it is: parameters, buffers, hooks, training flags, devices, random state.
        *inputs: what the model is called with: tensors (real or meta), shapes such as (1, 3, 224, 224) for float32
            tensors, or nests of tensors.
        backward: count the backward half of a training step as well: `profile.backward`.
        **kwargs: the same by keyword.

    Returns:
        The profile: totals, one row per operator call, module sums, and what was not counted. Operators are counted by
        the formulas in docs/formulas.md.

    Raises:
        UsageError: no input was given, or `model` is no module.
        ModelError: the model failed on these inputs.
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"analyze() takes a torch.nn.Module, got {type(model).__name__}; open files with open_model()")
    if not inputs and not kwargs:
        raise UsageError("analyze() needs the model's inputs: tensors, or shapes such as (1, 3, 224, 224)")
    model = as_written(model)
    rows = _Rows()
    inventory = take_inventory(model)
    if lazy := lazy_layers(inventory):
        model = initialized(model, [stand_in(a) for a in inputs], {k: stand_in(v) for k, v in kwargs.items()})
        inventory = take_inventory(model)
        rows.notes.append(f"lazy layers have the sizes that these inputs give them: {', '.join(lazy)}")
    memory = walk(model, inputs, kwargs, rows.add, restart=rows.restart, inventory=inventory)
    back = backward_pass(model, inputs, kwargs) if backward else None
    if not rows.layers and not rows.free:
        rows.notes.append("the model called no operator of torch; what it computes by other means is not counted")
    modules = module_tree(inventory, rows.layers)
    return Profile(
        totals=_totals(inventory, modules, rows.layers, memory),
        layers=tuple(rows.layers),
        modules=modules,
        uncounted=dict(rows.uncounted),
        free=dict(rows.free),
        inputs=_input_shapes(inputs, kwargs),
        backward=back,
        notes=(*rows.notes, *(back.notes if back else ())),
        subject=Subject(model, inputs, kwargs),
    )


def _input_shapes(inputs: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Shape, ...]:
    values = [*(stand_in(a) for a in inputs), *(stand_in(v) for v in kwargs.values())]
    return tuple(tuple(t.shape) for t in tensors_of(values))


def _totals(inventory: Inventory, whole: ModuleSum, layers: list[Layer], memory: Memory) -> Totals:
    return Totals(
        macs=whole.macs,
        flops=whole.flops,
        params=whole.params,
        trainable_params=sum([p.numel() for p in inventory.stored.values() if p.requires_grad]),
        param_bytes=whole.param_bytes,
        activation_bytes=memory.total,
        peak_bytes=memory.peak,
        read_bytes=sum([layer.read_bytes for layer in layers]),
        write_bytes=sum([layer.write_bytes for layer in layers]),
    )
