"""The dispatch mode that stands in for every kernel.

A result is made from the operator's own documented formula where there is one: its size, type and layout, and no
values. Torch's kernels for tensors without storage are asked for views, which must alias, and for what has no formula.
Small constants and integers keep their values, because models branch on masks, positions and lengths.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from profiler.aten import find
from profiler.aten.call import NO_COST, Call, Operator, on_device, tensors_of
from profiler.aten.overload import Kind, Schema, schema_of
from profiler.errors import ModelError
from profiler.foreign import ACTIVATION, SOURCE, Foreign
from profiler.instead import by_formula, check_fit, compare, integral
from profiler.inventory import unique_parameters
from profiler.memory import Memory
from profiler.receptive.field import TensorField
from profiler.receptive.rules import output_fields
from profiler.step import ModuleCall, Step, Visitor
from profiler.values import MOST_INTEGERS, Values, with_values

# A model that has not come to an end by then is taken to loop for ever.
MOST_CALLS = 5_000_000
_FIELD = "_netgauge_field"

INTEGER_WORK = Operator("integer work", "Element by element", None)

# Operators that hand a value to Python.
_READS = frozenset(f"aten.{name}" for name in ("_local_scalar_dense", "item", "is_nonzero", "equal", "allclose"))
# Operators that make a tensor from no more than another's size, type and device.
_CREATORS = frozenset(
    f"aten.{name}"
    for name in (
        *("arange", "zeros", "ones", "full", "eye", "zeros_like", "ones_like", "full_like", "linspace"),
        *("new_zeros", "new_ones", "new_full", "tril_indices", "triu_indices", "scalar_tensor", "empty"),
        *("new_empty", "empty_like", "rand", "randn", "randint", "rand_like", "randn_like", "randint_like", "randperm"),
    )
)
# In-place operators that change a tensor's size, not its contents.
_RESHAPES_IN_PLACE = frozenset(
    f"aten.{name}" for name in ("squeeze_", "unsqueeze_", "transpose_", "t_", "swapaxes_", "resize_", "as_strided_")
)


class NeedsValues(Exception):  # noqa: N818  # not an error: the walk begins anew with values
    """The model asks for a value that was not computed."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(reason)
        self.where = where
        self.reason = reason


class WalkMode(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves its hook untyped
    """Replaces kernels, keeps account of modules and memory, and tells the visitor."""

    def __init__(
        self, modules: Sequence[tuple[str, nn.Module]], visit: Visitor, memory: Memory, *, checked: bool, real: bool
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self._visit = visit
        self._memory = memory
        self._checked = checked
        self._real = real
        self._names = {id(module): name for name, module in modules}
        self._calls: dict[int, int] = {}
        self._count = 0
        self._last = ""
        self._failed = ""
        self._root = ModuleCall("", type(modules[0][1]).__name__, 0)
        self.stack: list[tuple[int, ModuleCall]] = []
        self.foreign = Foreign(unique_parameters(m for _, m in modules), memory)
        self.values = Values(self.foreign)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing here is ever compiled; the wrapper that makes sure costs a microsecond a call."""
        return False

    # Modules -----------------------------------------------------------------------------------------------------

    def enter(self, module: nn.Module) -> None:
        """A module is called. One that is not part of the tree counts as its caller."""
        self._failed = ""
        key = id(module)
        name = self._names.get(key)
        if name is not None:
            number = self._calls.get(key, 0)
            self._calls[key] = number + 1
            self.stack.append((key, ModuleCall(name, type(module).__name__, number)))

    def leave(self, module: nn.Module, *, failed: bool = False) -> None:
        """A module returns nothing, perhaps because it raised, or returns."""
        if failed and not self._failed:
            self._failed = self.where
        if self.stack and self.stack[-1][0] == id(module):
            self.stack.pop()

    @property
    def where(self) -> str:
        """The innermost module that is running and its operator, for messages."""
        if self._failed:
            return self._failed
        module = self.stack[-1][1] if self.stack else self._root
        place = f"{module.name} ({module.type})" if module.name else f"the model itself ({module.type})"
        return f"{place}, {self._last}" if self._last else place

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
        schema = schema_of(func)
        self._last = schema.packet
        self._failed = ""
        kwargs = kwargs or {}
        self._count += 1
        if self._count > MOST_CALLS:
            raise ModelError(f"{self.where}: more than {MOST_CALLS:,} operator calls; does the model loop without end?")
        tensors = schema.tensors(args, kwargs)
        call = Call(func, args, kwargs, (), tensors)
        operator = find(schema.packet)
        result = self.values.computed(call, schema, real=True) if self._real else self._result(call, schema, operator)
        if isinstance(result, torch.Tensor):
            call.outputs = (result,)
        else:
            call.outputs = tuple(tensors_of(result))
            if not call.outputs:
                return result
        self._report(call, schema, operator)
        return result

    def _result(self, call: Call, schema: Schema, operator: Operator | None) -> Any:  # noqa: ANN401  # as above
        tensors = call.tensors
        if not tensors or schema.packet in _CREATORS:
            return self.values.created(call, self._hollow)
        for tensor in tensors:
            if tensor.is_meta:
                break
        else:
            if self.values.kept(call):
                return self.values.computed(call, schema)
        if schema.packet in _READS:
            raise NeedsValues(self.where, "a branch or a number taken from a tensor")
        if schema.kind is Kind.IN_PLACE:
            return self._in_place(call, schema)
        if schema.packet == "aten.to" and _already_is(call):
            return call.first
        made = by_formula(call, operator) if operator is not None and schema.kind is Kind.PLAIN else None
        if made is None:
            return self._by_kernel(call, schema)
        if self._checked:
            with suppress(RuntimeError, NeedsValues):  # kernels without storage are choosier than those with it
                compare(call, made, self._by_kernel(call, schema), self.where)
        return made

    # Without values ----------------------------------------------------------------------------------------------

    def _in_place(self, call: Call, schema: Schema) -> Any:  # noqa: ANN401  # as above
        """What it writes to comes back; its values, if it had any, are no longer known."""
        targets = [call[name] for name in schema.written]
        target = targets[0]
        named = next(iter(schema.signature)) == schema.written[0]
        if len(targets) > 1 or not isinstance(target, torch.Tensor) or not named or schema.packet in _RESHAPES_IN_PLACE:
            if any(not t.is_meta for t in tensors_of(targets)):
                raise NeedsValues(self.where, "values written into a tensor that has them")
            return self._by_kernel(call, schema)
        if len(call.tensors) > 1 and any(t.shape != target.shape for t in call.tensors):
            check_fit(call, target)
        if not target.is_meta:
            self.values.unknown.add(target.untyped_storage()._cdata)  # noqa: SLF001  # a storage's identity
        return target

    def _by_kernel(self, call: Call, schema: Schema) -> Any:  # noqa: ANN401  # as above
        """Torch's own kernel for tensors without storage."""
        args, kwargs = tree_map(self._hollow, (call.args, call.kwargs))
        args, kwargs = on_device(call.func, args, kwargs, "meta")
        try:
            return call.func(*args, **kwargs)
        except NotImplementedError as error:
            raise NeedsValues(self.where, f"the size of {schema.packet} depends on them") from error

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

    def _report(self, call: Call, schema: Schema, operator: Operator | None) -> None:
        foreign = self.foreign
        parameters: list[nn.Parameter] = []
        inputs = []
        reached = False
        for tensor in call.tensors:
            source = getattr(tensor, SOURCE, None)
            if source is None:
                source = foreign.source(tensor)
            if source is ACTIVATION:
                inputs.append(tuple(tensor.shape))
                reached = reached or getattr(tensor, _FIELD, None) is not None
            elif source.parameter is not None:
                parameters += foreign.first_use(source)
        written = self._marked(call, schema)
        outputs = call.outputs
        if not outputs[0].is_floating_point() and integral(call):
            operator = INTEGER_WORK
        cost = NO_COST if operator is None or operator.cost is None else operator.cost(call)
        fields: tuple[TensorField | None, ...]
        if reached:
            fields = tuple(output_fields(call, field_of))
            for out, field in zip(outputs, fields, strict=True):
                setattr(out, _FIELD, field)
        else:
            fields = (None,) * len(outputs)
        module = self.stack[-1][1] if self.stack else self._root
        self._visit(Step(call, operator, cost, module, tuple(inputs), tuple(parameters), fields, written))

    def _marked(self, call: Call, schema: Schema) -> tuple[torch.Tensor, ...]:
        """Mark the outputs as the walk's own, count what is new, and say what was written."""
        if schema.kind is Kind.IN_PLACE:
            return call.outputs[:1]
        written = []
        alive = self._memory.alive
        given = call.tensors
        for out in call.outputs:
            storage = out.untyped_storage()
            key = storage._cdata  # noqa: SLF001  # a storage's identity
            if key not in alive:
                origin = self.foreign.behind(key, given)
                if origin is not None:
                    setattr(out, SOURCE, origin)
                    continue
                self._memory.allocate(storage)
            elif schema.kind is Kind.VIEW or (given and out is given[0]):
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
