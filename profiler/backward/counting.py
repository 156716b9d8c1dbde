"""One training step, run and counted."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_map

from profiler.aten.call import NO_COST, Call, tensors_of
from profiler.aten.gradients import find_gradient
from profiler.aten.overload import Kind, schema_of
from profiler.backward.attention import attention_as_on_cpu
from profiler.backward.attribution import Attribution
from profiler.backward.mode import NeedsValuesError, TrainingMode
from profiler.backward.stand_ins import Keep, StandIns, in_place_of_the_models, is_number
from profiler.compiled import as_written
from profiler.errors import ModelError, NetgaugeError
from profiler.hints import hint
from profiler.kept import Kept
from profiler.memory import Memory, storage_key
from profiler.profile import Backward, Layer
from profiler.step import ModuleCall
from profiler.undisturbed import undisturbed
from profiler.walk import stand_in

# What torch says where values are asked for that a tensor does not have.
_NO_VALUES = ("meta", "unallocated storage")
_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


@dataclass(slots=True)
class Rows:
    """Collects the operators of the backward pass."""

    parameters: set[int]
    layers: list[Layer] = field(default_factory=list)
    uncounted: Counter[str] = field(default_factory=Counter)
    free: Counter[str] = field(default_factory=Counter)

    def add(self, call: Call, module: ModuleCall, again: bool) -> None:  # noqa: FBT001  # a callback
        """One operator call; `again` says that it belongs to a forward pass that is run a second time."""
        operator = find_gradient(call)
        numbers = any(is_number(t) for t in (*call.outputs, *call.tensors))
        if operator is not None and (operator.cost is None or not numbers):
            self.free[call.packet] += 1
            return
        if operator is None:
            self.uncounted[call.packet] += 1
        cost = operator.cost(call) if operator and operator.cost else NO_COST
        op = operator.op if operator else call.packet.removeprefix("aten.")
        in_place = schema_of(call.func).kind is Kind.IN_PLACE
        self.layers.append(
            Layer(
                name=module.name,
                type=module.type,
                op=f"{op} (recomputed)" if again else op,
                call=module.number,
                input_shapes=tuple(tuple(t.shape) for t in call.tensors if storage_key(t) not in self.parameters),
                output_shapes=tuple(tuple(t.shape) for t in call.outputs),
                macs=cost.macs,
                flops=cost.flops,
                params=0,
                param_bytes=0,
                output_bytes=sum(_bytes(t) for t in call.outputs),
                read_bytes=sum(_bytes(t) for t in call.tensors),
                write_bytes=sum(_bytes(t) for t in (call.outputs[:1] if in_place else call.outputs)),
                formula=operator.formula if operator else "",
                status="counted" if operator else "uncounted",
                receptive_field=None,
            )
        )


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


class Pass:
    """One forward and one backward pass."""

    def __init__(self, model: nn.Module, keep: Keep) -> None:
        if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
            raise ModelError(
                "a scripted module cannot be run on other parameters: pass the module it was scripted from"
            )
        self._model = model
        self._modules = list(model.modules())
        self._keep = keep
        self._stand_ins = StandIns(keep.stand_in)
        self._attribution = Attribution(model)
        self._memory = Memory()
        self._rows = Rows(set())
        self._mode = TrainingMode(self._attribution, self._memory, self._rows.add, keep)
        self._generator = torch.Generator().manual_seed(0)

    def run(self, args: Sequence[Any], kwargs: Mapping[str, Any], *, inputs: bool) -> Backward:
        """Run it; arguments and errors as in `backward_pass`.

        Raises:
            NeedsValuesError: the model reads a value that is not kept.
        """
        with torch.inference_mode(mode=False), torch.enable_grad():
            return self._run(args, kwargs, inputs=inputs)

    def _run(self, args: Sequence[Any], kwargs: Mapping[str, Any], *, inputs: bool) -> Backward:
        given = tree_map(self._admitted, ([stand_in(a) for a in args], {k: stand_in(v) for k, v in kwargs.items()}))
        tensors = tensors_of(given)
        leaves = [t.requires_grad_() for t in tensors if inputs and is_number(t)]
        for tensor in tensors:
            self._memory.allocate(tensor.untyped_storage())
        try:
            with self._running():
                self._differentiate(given, leaves)
        except (NetgaugeError, NeedsValuesError):
            raise
        except Exception as error:
            shapes = ", ".join("x".join(map(str, t.shape)) for t in tensors) or "none"
            reason = str(error).strip().split("\n")[0]
            if self._keep is not Keep.ALL and (
                isinstance(error, NotImplementedError) or any(sign in reason.lower() for sign in _NO_VALUES)
            ):
                raise NeedsValuesError(f"{self._attribution.where}: {reason}") from error
            direction = "backward" if self._mode.backward else "forward"
            raise ModelError(
                f"the {direction} pass failed in {self._attribution.where} on inputs of size {shapes}: "
                f"{type(error).__name__}: {reason}{hint(self._model, reason)}"
            ) from error
        layers = tuple(self._rows.layers)
        return Backward(
            macs=sum(layer.macs for layer in layers),
            flops=sum(layer.flops for layer in layers),
            peak_bytes=self._memory.peak,
            layers=layers,
            uncounted=dict(self._rows.uncounted),
            free=dict(self._rows.free),
        )

    def _differentiate(self, given: tuple[list[Any], dict[str, Any]], leaves: list[torch.Tensor]) -> None:
        target = as_written(self._model.module) if isinstance(self._model, _WRAPPERS) else self._model
        result = target(*given[0], **given[1])
        outputs = list({id(t): t for t in _tensors_in(result) if t.requires_grad}.values())
        if not leaves and not any(t.requires_grad for t in self._stand_ins):
            raise ModelError("there is nothing to train: no parameter of the model requires a gradient")
        if not outputs:
            raise ModelError(
                "nothing that the model returns depends on a parameter that requires a gradient: "
                "does it run under torch.no_grad(), or detach its outputs?"
            )
        with _disable_current_modes():
            ones = [torch.ones_like(t) for t in outputs]
        for tensor in ones:
            self._memory.allocate(tensor.untyped_storage())
        self._attribution.turn()
        self._mode.backward = True
        with self._gradients_put_back(outputs, leaves) as beyond:
            # What the user has computed before and not yet differentiated stays differentiable.
            torch.autograd.backward(outputs, ones, retain_graph=beyond)

    @contextmanager
    def _gradients_put_back(self, outputs: list[torch.Tensor], leaves: list[torch.Tensor]) -> Iterator[bool]:
        """Restore the gradients of tensors that the model reaches not through its modules; whether there are any."""
        ours = {id(t) for t in (*self._stand_ins, *leaves)}
        others = [t for t in _leaves_of(outputs) if id(t) not in ours]
        if others and self._keep is not Keep.ALL:
            raise NeedsValuesError("the model uses a tensor that requires a gradient and hangs in none of its modules")
        before = [t.grad for t in others]
        for tensor in others:
            tensor.grad = None
        try:
            yield bool(others)
        finally:
            for tensor, gradient in zip(others, before, strict=True):
                tensor.grad = gradient

    def _admitted(self, value: Any) -> Any:  # noqa: ANN401  # any input
        if not isinstance(value, torch.Tensor):
            return value
        if self._keep is not Keep.ALL or not value.is_meta:
            return self._keep.stand_in(value)
        if is_number(value):
            return torch.randn(value.shape, dtype=value.dtype, generator=self._generator)
        return torch.zeros(value.shape, dtype=value.dtype)

    @contextmanager
    def _running(self) -> Iterator[None]:
        with ExitStack() as stack:
            stack.callback(Kept(self._modules, values=True).put_back)
            stack.enter_context(undisturbed(self._modules))
            stack.enter_context(in_place_of_the_models(self._modules, self._stand_ins))
            self._mode.foreign.update(storage_key(t) for t in self._stand_ins)
            self._rows.parameters.update(storage_key(t) for t in self._stand_ins if isinstance(t, nn.Parameter))
            stack.enter_context(self._attribution.following())
            stack.enter_context(attention_as_on_cpu())
            stack.enter_context(self._mode)
            yield


def _leaves_of(outputs: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    """The leaves of an autograd graph: what a backward pass leaves gradients in."""
    nodes = [t.grad_fn for t in outputs]
    seen = set(nodes)
    while nodes:
        node = nodes.pop()
        if node is None:
            continue
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, torch.Tensor):
            yield leaf
        found = {following for following, _ in node.next_functions} - seen
        seen |= found
        nodes += found


def _tensors_in(value: Any) -> Iterator[torch.Tensor]:  # noqa: ANN401  # what a model returns
    """All tensors that a model returns, in mappings, sequences and dataclasses."""
    if isinstance(value, torch.Tensor):
        yield value
        return
    parts: Any = ()
    if isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        parts = value
    elif is_dataclass(value) and not isinstance(value, type):
        parts = [getattr(value, f.name) for f in fields(value)]
    for part in parts:
        yield from _tensors_in(part)
