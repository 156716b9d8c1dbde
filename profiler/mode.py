"""The dispatch mode that stands in for every kernel.

A result is made from the operator's own documented formula where there is one: its size, type and layout, and no
values. Torch's kernels for tensors without storage are asked for views, which must alias, and for what has no formula.
Small constants and integers keep their values, because models branch on masks, positions and lengths.
"""

from collections.abc import Sequence
from contextlib import suppress
from threading import get_ident
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from profiler.aten.call import NO_COST, Call, Operator, on_device, tensors_of
from profiler.errors import ModelError
from profiler.foreign import ACTIVATION, SOURCE, Foreign
from profiler.instead import by_formula, check_fit, compare, integral
from profiler.inventory import Inventory
from profiler.known import Known
from profiler.memory import Memory
from profiler.receptive.field import TensorField
from profiler.step import ModuleCall, Step, Visitor
from profiler.values import MOST_INTEGERS, Values, with_values

# A model that has not come to an end by then is taken to loop for ever.
MOST_CALLS = 5_000_000
_FIELD = "_netgauge_field"
_NOTHING: dict[str, Any] = {}

INTEGER_WORK = Operator("integer work", "Element by element", None)


class NeedsValues(Exception):  # noqa: N818  # not an error: the walk begins anew with values
    """The model asks for a value that was not computed."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(reason)
        self.where = where
        self.reason = reason


class WalkMode(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves its hook untyped
    """Replaces kernels, keeps account of modules and memory, and tells the visitor."""

    def __init__(self, inventory: Inventory, visit: Visitor, memory: Memory, *, checked: bool, real: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self._visit = visit
        self._memory = memory
        self._checked = checked
        self._real = real
        self._names = dict(zip(map(id, inventory.modules), inventory.paths, strict=True))
        self._calls: dict[int, int] = {}
        self._count = 0
        self._known: dict[torch._ops.OpOverload, Known] = {}
        self._last: Known | None = None
        self._thread = get_ident()
        self._root = ModuleCall("", type(inventory.modules[0]).__name__, 0)
        self.stack: list[tuple[int, ModuleCall]] = []
        self.foreign = Foreign(inventory, memory)
        self.values = Values(self.foreign)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing here is ever compiled; the wrapper that makes sure costs a microsecond a call."""
        return False

    # Modules -----------------------------------------------------------------------------------------------------

    def enter(self, module: nn.Module, _inputs: object) -> None:
        """A module is called. One that is not part of the tree counts as its caller."""
        key = id(module)
        name = self._names.get(key)
        if name is not None and get_ident() == self._thread:
            number = self._calls.get(key, 0)
            self._calls[key] = number + 1
            self.stack.append((key, ModuleCall(name, type(module).__name__, number)))

    def leave(self, module: nn.Module, _inputs: object, _outputs: object) -> None:
        """A module returns. What is above it on the stack was left by an exception the model caught."""
        key = id(module)
        stack = self.stack
        if stack and stack[-1][0] == key:
            if get_ident() == self._thread:
                stack.pop()
        elif get_ident() == self._thread and any(entry == key for entry, _ in stack):
            while stack.pop()[0] != key:
                pass

    @property
    def where(self) -> str:
        """The innermost module that is running and its operator, for messages."""
        module = self.stack[-1][1] if self.stack else self._root
        place = f"{module.name} ({module.type})" if module.name else f"the model itself ({module.type})"
        return f"{place}, {self._last.schema.packet}" if self._last else place

    # Tensors -----------------------------------------------------------------------------------------------------

    def admit_input(self, tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """What stands in for a tensor that the model is called with: it counts as an activation."""
        integral = not tensor.is_floating_point() and not tensor.is_complex()
        if self._real or (integral and tensor.numel() <= MOST_INTEGERS and not tensor.is_meta):
            admitted = with_values(tensor, generator)
        else:
            admitted = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
        setattr(admitted, SOURCE, ACTIVATION)
        return admitted

    def set_field(self, tensor: torch.Tensor, field: TensorField) -> None:
        """Give a tensor its receptive field."""
        setattr(tensor, _FIELD, field)

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        _types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  # what the operator returns
        """Stand in for one operator and report it."""
        known = self._known.get(func)
        if known is None:
            known = self._known[func] = Known(func)
        self._last = known
        kwargs = kwargs or _NOTHING
        if known.lists or kwargs:
            tensors = known.schema.tensors(args, kwargs)
        else:
            tensors = tuple([a for a in args if isinstance(a, torch.Tensor)])
        call = Call(func, args, kwargs, (), tensors, known.schema)
        result = self._computed(call, known) if self._real else self._result(call, known)
        if isinstance(result, torch.Tensor):
            call.outputs = (result,)
        else:
            call.outputs = tuple(tensors_of(result))
            if not call.outputs:
                return result
        self._report(call, known)
        return result

    def _result(self, call: Call, known: Known) -> Any:  # noqa: ANN401  # as above
        tensors = call.tensors
        if not tensors or known.creates:
            return self.values.created(call, self._hollow)
        if not any(t.is_meta for t in tensors) and self.values.kept(call):
            return self._computed(call, known)
        if known.plain:
            made = self._by_formula(call, known)
            if made is not None:
                return made
        if known.reads:
            raise NeedsValues(self.where, "a branch or a number taken from a tensor")
        if known.in_place:
            return self._in_place(call, known)
        if known.converts and _already_is(call):
            return call.first
        return self._by_kernel(call, known)

    def _computed(self, call: Call, known: Known) -> Any:  # noqa: ANN401  # as above
        self._count += 1
        if self._count > MOST_CALLS:
            raise ModelError(f"{self.where}: more than {MOST_CALLS:,} operator calls; does the model loop without end?")
        return self.values.computed(call, known.schema, real=self._real)

    # Without values ----------------------------------------------------------------------------------------------

    def _by_formula(self, call: Call, known: Known) -> Any:  # noqa: ANN401  # as above
        operator = known.operator
        made = None if operator is None else by_formula(call, operator)
        if self._checked and made is not None:
            with suppress(RuntimeError, NeedsValues):  # kernels without storage are choosier than others
                compare(call, made, self._by_kernel(call, known), self.where)
        return made

    def _in_place(self, call: Call, known: Known) -> Any:  # noqa: ANN401  # as above
        """What it writes to comes back; its values, if it had any, are no longer known."""
        target = call.args[0] if call.args else None
        if not known.overwrites or not isinstance(target, torch.Tensor):
            if any(not t.is_meta for name in known.schema.written for t in tensors_of(call[name])):
                raise NeedsValues(self.where, "values written into a tensor that has them")
            return self._by_kernel(call, known)
        for tensor in call.tensors:
            if tensor.shape != target.shape:
                check_fit(call, target)
        if not target.is_meta:
            self.values.unknown.add(target.untyped_storage()._cdata)  # noqa: SLF001  # a storage's identity
        return target

    def _by_kernel(self, call: Call, known: Known) -> Any:  # noqa: ANN401  # as above
        """Torch's own kernel for tensors without storage."""
        args, kwargs = call.args, call.kwargs
        for tensor in call.tensors:
            if not tensor.is_meta:
                args, kwargs = tree_map(self._hollow, (args, kwargs))
                break
        if known.placed:
            args, kwargs = on_device(call.func, args, kwargs, "meta")
        try:
            return call.func(*args, **kwargs)
        except NotImplementedError as error:
            raise NeedsValues(self.where, f"the size of {call.packet} depends on them") from error

    def _hollow(self, value: Any) -> Any:  # noqa: ANN401  # any argument
        if not isinstance(value, torch.Tensor) or value.is_meta:
            return value
        if getattr(value, SOURCE, None) is not ACTIVATION:
            return self.foreign.stand_in(value)
        hollow = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
        setattr(hollow, SOURCE, ACTIVATION)
        setattr(hollow, _FIELD, field_of(value))
        return hollow

    # Reporting ---------------------------------------------------------------------------------------------------

    def _report(self, call: Call, known: Known) -> None:
        foreign = self.foreign
        unused = foreign.unused
        parameters: tuple[nn.Parameter, ...] = ()
        inputs = []
        reached = False
        for tensor in call.tensors:
            source = getattr(tensor, SOURCE, None)
            if source is ACTIVATION:
                inputs.append(tuple(tensor.shape))
                if not reached and getattr(tensor, _FIELD, None) is not None:
                    reached = True
            elif unused:
                parameter = foreign.first_use(tensor)
                if parameter is not None:
                    parameters += (parameter,)
        outputs = call.outputs
        written = outputs[:1] if known.in_place else self._marked(call, known)
        operator = known.operator
        if not outputs[0].is_floating_point() and integral(call):
            operator = INTEGER_WORK
        cost = NO_COST if operator is None or operator.cost is None else operator.cost(call)
        fields: tuple[TensorField | None, ...]
        if reached:
            fields = self._fields(call, known)
            for out, field in zip(outputs, fields, strict=True):
                setattr(out, _FIELD, field)
        else:
            fields = (None,) * len(outputs)
        module = self.stack[-1][1] if self.stack else self._root
        self._visit(Step(call, operator, cost, module, tuple(inputs), parameters, fields, written))

    def _fields(self, call: Call, known: Known) -> tuple[TensorField | None, ...]:
        """The fields of the outputs; where the algebra fails, unknown ones that say so: counts do not hang on it."""
        try:
            return tuple(known.rule(call, field_of))
        except Exception as error:
            if self._checked:
                raise
            extent = next(f.extent for t in call.tensors if (f := field_of(t)) is not None)
            why = f"netgauge failed to follow {call.packet} ({type(error).__name__}: {error})"
            return tuple([TensorField.unknown(tuple(out.shape), extent, why=why) for out in call.outputs])

    def _marked(self, call: Call, known: Known) -> tuple[torch.Tensor, ...]:
        """Mark the outputs as the walk's own, count what is new, and say what was written."""
        written = []
        alive = self._memory.alive
        given = call.tensors
        for out in call.outputs:
            storage = out.untyped_storage()
            key = storage._cdata  # noqa: SLF001  # a storage's identity
            if key not in alive:
                origin = None if known.plain and out.is_meta else self.foreign.behind(key, given)
                if origin is not None:
                    setattr(out, SOURCE, origin)
                    continue
                self._memory.allocate(storage)
            elif known.view or (given and out is given[0]):
                setattr(out, SOURCE, ACTIVATION)
                continue
            setattr(out, SOURCE, ACTIVATION)
            written.append(out)
        return tuple(written)


def _already_is(call: Call) -> bool:
    """Whether a conversion changes nothing; devices are all one to the walk."""
    if call.get("copy"):
        return False
    other = call.get("other")
    dtype = call.get("dtype") if other is None else other.dtype
    return dtype in (None, call.first.dtype) and call.get("memory_format") in (None, torch.preserve_format)


def field_of(tensor: torch.Tensor) -> TensorField | None:
    """The receptive field that the walk has given a tensor, None where the input does not reach it."""
    return getattr(tensor, _FIELD, None)
