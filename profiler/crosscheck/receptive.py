"""Receptive fields seen by running the network: which inputs reach which outputs, by impulses.

The network is run on ones and zeros, one input row (or column) lit at a time, with every operator replaced by its
structure: weights are ones, activations are linear, sums cannot cancel and every result is cut back to "reached" or
"not reached". That is the support of the Jacobian of a network with positive weights, dead units and lucky zeros left
out, and it shares nothing with the algebra it checks.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from profiler.analyzer import Subject
from profiler.aten import elementwise, find
from profiler.aten.call import Call, tensors_of
from profiler.aten.elementwise import reduced_axes
from profiler.errors import ModelError
from profiler.memory import storage_key
from profiler.receptive.field import TensorField
from profiler.receptive.view import NOTHING, Span
from profiler.step import Step
from profiler.walk import input_axes, stand_in, walk

BATCH = 64
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class FieldCheck:
    """One operator call's field beside what the impulses showed.

    Attributes:
        name: the module's path.
        op: the operator.
        status: what the algebra claims: "exact" or "bounded".
        equal: whether first and last input agree at every position of every axis.
        contained: whether what was seen lies inside what the algebra says.
    """

    name: str
    op: str
    status: str
    equal: bool
    contained: bool


def _reached(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor != 0).to(torch.float32)


def _either(call: Call) -> torch.Tensor:
    result = torch.zeros(())
    for tensor in tensors_of((call.args, call.kwargs)):
        result = torch.maximum(result, _reached(tensor))
    return result


def _ones(call: Call) -> Any:  # noqa: ANN401  # the operator's result
    """A convolution or fully connected layer with all weights one and no bias."""
    names = [a.name for a in call.func._schema.arguments]  # noqa: SLF001  # the only way to a schema
    values = {name: call[name] for name in names}
    values["weight"] = torch.ones_like(values["weight"], dtype=torch.float32)
    values["bias"] = None
    return call.func(*[values[name] for name in names])


def _over(tensor: torch.Tensor, axes: Any) -> torch.Tensor:  # noqa: ANN401  # ints
    """Every position along some axes reached where one of them is."""
    axes = tuple(axes)
    return tensor.amax(dim=axes, keepdim=True).expand_as(tensor) if axes else tensor


def _attention(call: Call) -> torch.Tensor:
    query, key, value = call["query"], call["key"], call["value"]
    sides = torch.maximum(key.amax((-2, -1), keepdim=True), value.amax((-2, -1), keepdim=True))
    out = torch.maximum(query.amax(-1, keepdim=True), sides)
    return out.expand(*query.shape[:-1], value.shape[-1])


def _recurrence(call: Call) -> Any:  # noqa: ANN401  # output and states
    steps = 1 if call["batch_first"] else 0
    x = call["input"].amax(-1, keepdim=True)
    seen = _over(x, [steps]) if call["bidirectional"] else x.cummax(steps).values
    width = call["params"][1].shape[1] * (2 if call["bidirectional"] else 1)
    out = seen.expand(*x.shape[:-1], width)
    state = out.select(steps, x.shape[steps] - 1)[None, :, : call["params"][1].shape[1]]
    layers = call["num_layers"] * (2 if call["bidirectional"] else 1)
    states = [state.expand(layers, *state.shape[1:])] * (2 if "lstm" in call.packet else 1)
    return (out, *states)


def _interpolated(call: Call) -> torch.Tensor:
    """In double precision: a weight that is zero by the formula comes out as a rounding error, far below any other."""
    out = call.func(call.args[0].double(), *call.args[1:], **call.kwargs)
    reached: torch.Tensor = (out.abs() > ROUNDING).to(torch.float32)
    return reached


_STRUCTURE: dict[str, Callable[[Call], Any]] = {
    **{f"aten.{name}{n}d": _ones for name in ("conv", "conv_transpose") for n in (1, 2, 3)},
    **{name: _interpolated for name in elementwise.TABLE if "upsample" in name},
    "aten.linear": _ones,
    "aten.batch_norm": lambda call: call["input"],
    "aten.layer_norm": lambda call: _over(call["input"], range(-len(call["normalized_shape"]), 0)),
    "aten.rms_norm": lambda call: _over(call["input"], range(-len(call["normalized_shape"]), 0)),
    "aten.group_norm": lambda call: _over(call["input"], range(1, call["input"].dim())),
    "aten.instance_norm": lambda call: _over(call["input"], range(2, call["input"].dim())),
    "aten.softmax": lambda call: _over(call["self"], [call["dim"]]),
    "aten.log_softmax": lambda call: _over(call["self"], [call["dim"]]),
    "aten.scaled_dot_product_attention": _attention,
    **{f"aten.{name}": _recurrence for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
    "aten.mean": lambda call: call.first.amax(reduced_axes(call), keepdim=bool(call.get("keepdim"))),
}
_POINTWISE = ("Element by element", "Activations")
_RUNS_AS_IT_IS = ("Data movement", "Pooling", "Reductions", "Matrix product")


class _Impulses(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves its hook untyped
    """Runs every operator by its structure and keeps what each reached."""

    def __init__(self, inputs: list[torch.Tensor], model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self._ours = {storage_key(t) for t in inputs}
        self._model = {storage_key(t) for t in [*model.parameters(), *model.buffers()]}
        self.reached: list[tuple[str, torch.Tensor]] = []

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        _types: Any,  # noqa: ANN401  # torch's signature
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  # what the operator returns
        """Run one operator by its structure."""
        structural = "weight" in (a.name for a in func._schema.arguments)  # noqa: SLF001  # as above
        if not structural:
            # A constant of the model reaches nothing: added to an activation it must not look like the input.
            args, kwargs = tree_map(self._blank, (args, kwargs or {}))
        call = Call(func, args, kwargs or {})
        operator = find(call.packet)
        if call.packet in _STRUCTURE:
            result = _STRUCTURE[call.packet](call)
        elif operator is not None and operator.formula in _POINTWISE:
            result = _either(call)
        elif operator is not None and operator.formula in _RUNS_AS_IT_IS:
            result = func(*args, **(kwargs or {}))
        else:
            raise ModelError(f"receptive fields cannot be probed through {call.packet}")
        outputs = tensors_of(result)
        if any(t.is_floating_point() for t in outputs) and (operator is None or not operator.free):
            result = tree_map(lambda t: _reached(t) if isinstance(t, torch.Tensor) else t, result)
            outputs = tensors_of(result)
        if outputs:
            self.reached.append((call.packet, outputs[0]))
        return result

    def _blank(self, value: Any) -> Any:  # noqa: ANN401  # any argument
        if isinstance(value, torch.Tensor) and storage_key(value) in self._model and value.is_floating_point():
            return torch.zeros_like(value)
        return value


def verify_receptive_fields(subject: Subject) -> list[FieldCheck]:
    """Compare the receptive field of every operator call with what impulses show, position by position.

    Only fields that claim to be exact or bounded are compared, along axes that a tensor still has.

    Args:
        subject: a model with one input tensor of shape (batch, channels, ...), given as tensor or shape.

    Raises:
        ModelError: an operator that the probe has no structure for.
    """
    steps: list[Step] = []
    walk(subject.model, subject.args, subject.kwargs, steps.append)
    shape = tuple(stand_in(subject.args[0]).shape)
    axes = input_axes(shape, torch.float32)
    seen = [_probe(subject, shape, axis) for axis in axes]
    checks: list[FieldCheck] = []
    for n, step in enumerate(steps):
        field = step.fields[0]
        if field is None or step.operator is None or step.operator.free:
            continue
        packets = {spans[n][0] for spans in seen}
        if packets != {step.call.packet}:
            raise ModelError(f"the probe ran {packets} where the walk saw {step.call.packet}")
        checks += _compared(step, field, [spans[n][1] for spans in seen])
    return checks


def _compared(step: Step, field: TensorField, seen: list[torch.Tensor]) -> Iterator[FieldCheck]:
    equal = contained = True
    exact = True
    for view, reached in zip(field.true, seen, strict=True):
        axis = field.axis_of(view)
        if axis is None and view.atoms:
            continue
        found = _hull(reached, axis)
        said = Span(
            np.broadcast_to(view.span.first, found.first.shape), np.broadcast_to(view.span.last, found.last.shape)
        )
        exact &= view.exact
        equal &= found == said
        contained &= bool((found.first >= said.first).all() and (found.last <= said.last).all())
    yield FieldCheck(
        step.module.name, step.operator.op if step.operator else "", "exact" if exact else "bounded", equal, contained
    )


def _hull(reached: torch.Tensor, axis: int | None) -> Span:
    """First and last lit input per position along `axis`; `reached` is (inputs, ...) as the tensor after its batch."""
    flat = reached if axis is not None else reached.reshape(reached.shape[0], 1, -1)
    lead = axis or 1
    lit = flat.movedim(lead, 1).reshape(flat.shape[0], flat.shape[lead], -1).amax(-1).numpy() > 0
    some = lit.any(axis=0)
    first = np.where(some, lit.argmax(axis=0), NOTHING)
    last = np.where(some, lit.shape[0] - 1 - lit[::-1].argmax(axis=0), -NOTHING)
    return Span(first, last)


def _probe(subject: Subject, shape: tuple[int, ...], axis: int) -> list[tuple[str, torch.Tensor]]:
    """What each operator's output shows of every input along one axis: (inputs, ...) per operator call."""
    size = shape[axis]
    parts: list[list[tuple[str, torch.Tensor]]] = []
    for start in range(0, size, BATCH):
        count = min(BATCH, size - start)
        x = torch.zeros((count, *shape[1:]))
        for n in range(count):
            x[n].select(axis - 1, start + n).fill_(1.0)
        mode = _Impulses([x], subject.model)
        with torch.no_grad(), torch._C._AutoDispatchBelowAutograd(), mode:  # noqa: SLF001  # as in the walk
            subject.model(x, *subject.args[1:], **subject.kwargs)
        parts.append(mode.reached)
    return [
        (packet, torch.cat([part[n][1] for part in parts])) if parts[0][n][1].dim() else (packet, tensor)
        for n, (packet, tensor) in enumerate(parts[0])
    ]
