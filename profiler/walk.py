"""Runs a module on tensors without storage and shows every operator call to a visitor.

The mode below sits under autograd, where torch's composite operators (linear, matmul, scaled_dot_product_attention,
lstm) still arrive whole, each with the arguments its documentation names. Parameters and activations are replaced by
tensors on the meta device as they arrive, so that nothing is computed and the user's model is neither moved nor
written to. Integers and booleans keep their values: models branch on masks, positions and lengths.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from profiler.aten import find
from profiler.aten.call import NO_COST, Call, Operator, argument_names, on_device, tensors_of
from profiler.errors import FormulaError, ModelError, NetgaugeError
from profiler.memory import Memory, storage_key
from profiler.receptive.field import TensorField
from profiler.receptive.rules import output_fields
from profiler.step import ModuleCall, Step, Visitor

# Integer tensors larger than this carry data, not structure; their values are not kept.
MOST_KEPT_VALUES = 1 << 24
_FIELD = "_netgauge_field"
_OURS = "_netgauge_ours"

INTEGER_WORK = Operator("integer work", "Element by element", None)

# Operators that make a tensor from nothing: integers among their results are made for real.
_CREATORS = frozenset(
    f"aten.{name}"
    for name in (
        *("arange", "zeros", "ones", "full", "eye", "zeros_like", "ones_like", "full_like"),
        *("new_zeros", "new_ones", "new_full", "tril_indices", "triu_indices", "scalar_tensor"),
    )
)


class _Walk(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves its hook untyped
    """The dispatch mode: replaces storage, keeps account of modules, and tells the visitor."""

    def __init__(self, model: nn.Module, visit: Visitor, memory: Memory) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self._visit = visit
        self._memory = memory
        self._names = {id(m): name for name, m in reversed(list(model.named_modules(remove_duplicate=False)))}
        self._calls: dict[int, int] = {}
        self._parameters = {storage_key(p): p for p in model.parameters()}
        self._shadows: dict[tuple[Any, ...], torch.Tensor] = {}
        self._storages: dict[int, torch.Tensor] = {}
        self._unused: dict[int, torch.Tensor] = {}
        self._constants: set[int] = set()
        self.stack: list[tuple[int, ModuleCall]] = []

    # Modules -----------------------------------------------------------------------------------------------------

    def enter(self, module: nn.Module, _inputs: object) -> None:
        """A module is called. One that is not part of the tree counts as its caller."""
        key = id(module)
        if key not in self._names:
            return
        number = self._calls.get(key, 0)
        self._calls[key] = number + 1
        self.stack.append((key, ModuleCall(self._names[key], type(module).__name__, number)))

    def leave(self, module: nn.Module, _inputs: object, _outputs: object) -> None:
        """A module returns. What is above it on the stack was left by an exception the model caught."""
        key = id(module)
        if any(entry == key for entry, _ in self.stack):
            while self.stack.pop()[0] != key:
                pass

    # Tensors -----------------------------------------------------------------------------------------------------

    def admit(self, tensor: torch.Tensor) -> torch.Tensor:
        """The storage-free stand-in for a tensor that comes from outside; integers keep their values."""
        if getattr(tensor, _OURS, False):
            return tensor
        key = (storage_key(tensor), tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        shadow = self._shadows.get(key)
        if shadow is None:
            keep = not tensor.is_floating_point() and not tensor.is_complex() and tensor.numel() <= MOST_KEPT_VALUES
            shadow = tensor.detach().cpu().clone() if keep and not tensor.is_meta else self._hollow(tensor)
            setattr(shadow, _OURS, True)
            self._shadows[key] = shadow
        return shadow

    def admit_input(self, value: Any) -> Any:  # noqa: ANN401  # any argument
        """As `admit`, for what the model is called with: it counts as an activation, not as a constant."""
        if not isinstance(value, torch.Tensor):
            return value
        shadow = self.admit(value)
        self._constants.discard(storage_key(shadow))
        return shadow

    def _hollow(self, tensor: torch.Tensor) -> torch.Tensor:
        """A meta tensor that shares its storage with the stand-ins of all tensors that share storage with this one."""
        outside = storage_key(tensor)
        base = self._storages.get(outside)
        if base is None:
            base = torch.empty(tensor.untyped_storage().nbytes(), dtype=torch.uint8, device="meta")
            self._storages[outside] = base
            self._constants.add(storage_key(base))
            if outside in self._parameters:
                self._unused[storage_key(base)] = self._parameters[outside]
        hollow = torch.empty(0, dtype=tensor.dtype, device="meta")
        hollow.set_(base.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())
        return hollow

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        _types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  # what the operator returns
        """Run one operator without storage and report it."""
        args, kwargs = tree_map(self._admitted, (args, kwargs or {}))
        result = self._run(func, args, kwargs)
        outputs = tuple(tensors_of(result))
        inputs = {id(t) for t in tensors_of((args, kwargs))}
        known = {storage_key(t) for t in tensors_of((args, kwargs))}
        for out in outputs:
            if id(out) not in inputs:
                setattr(out, _OURS, True)
                if storage_key(out) not in known:
                    known.add(storage_key(out))
                    self._memory.allocate(out.untyped_storage())
        self._report(Call(func, args, kwargs, outputs))
        return result

    def _admitted(self, value: Any) -> Any:  # noqa: ANN401  # any argument
        return self.admit(value) if isinstance(value, torch.Tensor) else value

    def _run(self, func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        tensors = tensors_of((args, kwargs))
        if "device" in argument_names(func) and (not tensors or str(func.overloadpacket) in _CREATORS):
            result = func(*args, **{**kwargs, "device": torch.device("meta")})
            integers = not result.is_floating_point() and not result.is_complex()
            if integers and result.numel() <= MOST_KEPT_VALUES:
                result = func(*args, **{**kwargs, "device": torch.device("cpu")})
            return result
        if tensors and not any(t.is_meta for t in tensors):
            args, kwargs = on_device(func, args, kwargs, "cpu")
            result = func(*args, **kwargs)
            floats = [t for t in tensors_of(result) if t.is_floating_point() or t.is_complex()]
            return tree_map(_hollowed, result) if floats else result
        _check_values(func, args)
        args, kwargs = tree_map(_hollowed, (args, kwargs))
        args, kwargs = on_device(func, args, kwargs, "meta")
        return func(*args, **kwargs)

    # Reporting ---------------------------------------------------------------------------------------------------

    def _report(self, call: Call) -> None:
        operator = find(call.packet)
        if not call.outputs:
            return
        _check_size(call, operator, self.where)
        floating = any(t.is_floating_point() or t.is_complex() for t in (*call.outputs, *tensors_of(call.args)))
        if operator is not None and not floating:
            operator = INTEGER_WORK
        cost = operator.cost(call) if operator and operator.cost else NO_COST
        parameters, inputs = [], []
        for tensor in tensors_of((call.args, call.kwargs)):
            key = storage_key(tensor)
            if key in self._unused:
                parameters.append(self._unused.pop(key))
            if key not in self._constants:
                inputs.append(tuple(tensor.shape))
        fields = tuple(output_fields(call, field_of))
        for out, field in zip(call.outputs, fields, strict=True):
            setattr(out, _FIELD, field)
        module = self.stack[-1][1] if self.stack else ModuleCall("", "", 0)
        self._visit(Step(call, operator, cost, module, tuple(inputs), tuple(parameters), fields))

    @property
    def where(self) -> str:
        """The innermost module that is running, for messages."""
        name, kind = (self.stack[-1][1].name, self.stack[-1][1].type) if self.stack else ("", "model")
        return f"{name} ({kind})" if name else f"the model itself ({kind})"


def _hollowed(value: Any) -> Any:  # noqa: ANN401  # any argument
    if not isinstance(value, torch.Tensor) or value.is_meta:
        return value
    hollow = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
    setattr(hollow, _OURS, True)
    setattr(hollow, _FIELD, field_of(value))
    return hollow


def _check_values(func: torch._ops.OpOverload, args: tuple[Any, ...]) -> None:
    """What a kernel with storage would refuse: rows that a table does not have."""
    if func is torch.ops.aten.embedding.default and not args[1].is_meta and args[1].numel():
        low, high = int(args[1].min()), int(args[1].max())
        if low < 0 or high >= args[0].shape[0]:
            raise IndexError(f"indices run from {low} to {high}, the table has {args[0].shape[0]} rows")


def field_of(tensor: torch.Tensor) -> TensorField | None:
    """The receptive field that the walk has given a tensor, None where the input does not reach it."""
    return getattr(tensor, _FIELD, None)


def _check_size(call: Call, operator: Operator | None, where: str) -> None:
    if operator is None or operator.shape is None:
        return
    expected = operator.shape(call)
    if expected is not None and expected != call.out:
        raise FormulaError(
            f"{call.packet} in {where}: the documented formula gives the size {expected}, torch says {call.out}. "
            f"This is a defect of netgauge; please report it with the call's input sizes."
        )


def input_axes(shape: Sequence[int], dtype: torch.dtype) -> tuple[int, ...]:
    """Axes of an input along which receptive fields are followed: all after batch and channel, or a token sequence."""
    if len(shape) > 2:
        return tuple(range(2, len(shape)))
    return (1,) if len(shape) == 2 and not dtype.is_floating_point else ()


def stand_in(value: Any) -> Any:  # noqa: ANN401  # any input
    """A tensor for an input that is given as a shape; everything else as it is."""
    if isinstance(value, torch.Size | tuple | list) and value and all(type(n) is int for n in value):
        return torch.empty(tuple(value), device="meta")
    return value


@contextmanager
def _watched(mode: _Walk) -> Iterator[None]:
    with ExitStack() as stack:
        stack.callback(register_module_forward_pre_hook(mode.enter).remove)
        stack.callback(register_module_forward_hook(mode.leave).remove)
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        # The fused encoder is an inference shortcut for the very same work; the documented modules are what is counted.
        torch.backends.mha.set_fastpath_enabled(False)
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch._C._AutoDispatchBelowAutograd())  # noqa: SLF001  # pinned by a test
        stack.enter_context(mode)
        yield


def walk(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], visit: Visitor) -> Memory:
    """Run `model(*args, **kwargs)` without storage and show each operator call to `visit`.

    The receptive fields refer to the first tensor among the inputs.

    Args:
        model: left as it is: parameters, buffers, hooks, training flags, devices.
        args: tensors of any device, shapes, or nests of them; other values are passed on as they are.
        kwargs: the same by name.
        visit: called once per operator call, in order.

    Returns:
        The account of activation memory.

    Raises:
        ModelError: the model raised; the message names the module it was in.
        FormulaError: a documented size formula and torch disagree.
    """
    memory = Memory()
    mode = _Walk(model, visit, memory)
    args, kwargs = [stand_in(a) for a in args], {k: stand_in(v) for k, v in kwargs.items()}
    args, kwargs = tree_map(mode.admit_input, (args, kwargs))
    for n, tensor in enumerate(tensors_of((args, kwargs))):
        memory.allocate(tensor.untyped_storage())
        if n == 0:
            setattr(tensor, _FIELD, TensorField.of_input(tensor.shape, input_axes(tensor.shape, tensor.dtype)))
    try:
        with _watched(mode):
            model(*args, **kwargs)
    except NetgaugeError:
        raise
    except Exception as error:
        shapes = ", ".join("x".join(map(str, t.shape)) for t in tensors_of((args, kwargs))) or "none"
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"the model failed in {mode.where} on inputs of size {shapes}: {type(error).__name__}: {reason}"
        ) from error
    return memory
