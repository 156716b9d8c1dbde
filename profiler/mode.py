"""The dispatch mode that stands in for every kernel.

A result is made from the operator's own documented formula where there is one: its size, type and layout, and no
values. Torch's kernels for tensors without storage are asked for views, which must alias, and for what has no formula.
Small constants and integers keep their values, because models branch on masks, positions and lengths.
"""

from collections.abc import Sequence
from contextlib import suppress
from math import inf
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from profiler.aten.call import NO_COST, Call, Operator, on_device, tensors_of
from profiler.environment import physical_memory
from profiler.errors import ModelError
from profiler.following import Following
from profiler.foreign import MARK, Foreign, Given, Made, bytes_of
from profiler.instead import by_formula, check_fit, compare, integral
from profiler.inventory import Inventory
from profiler.known import KNOWN, Known
from profiler.memory import Memory, storage_key
from profiler.receptive.field import TensorField
from profiler.step import Step, Visitor
from profiler.values import MOST_INTEGERS, Values, with_values

# A model that has not come to an end by then is taken to loop for ever.
MOST_CALLS = 2_000_000
_NO_FIELD = (None,)
_NOTHING: dict[str, Any] = {}

INTEGER_WORK = Operator("integer work", "Element by element", None)


class NeedsValues(Exception):  # noqa: N818  # not an error: the walk begins anew with values
    """The model asks for a value that was not computed."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(reason)
        self.where = where
        self.reason = reason


class WalkMode(Following, TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves its hook untyped
    """Replaces kernels, keeps account of modules and memory, and tells the visitor."""

    def __init__(self, inventory: Inventory, visit: Visitor, memory: Memory, *, checked: bool, real: bool) -> None:
        Following.__init__(self, type(inventory.modules[0]).__name__)
        TorchDispatchMode.__init__(self)  # type: ignore[no-untyped-call]  # as above
        self._visit = visit
        self._memory = memory
        self._checked = checked
        self._real = real
        self._most_bytes = (physical_memory() or inf) / 2 if real else inf
        self._count = 0
        self.foreign = Foreign(inventory, memory)
        self.values = Values(self.foreign)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing here is ever compiled; the wrapper that makes sure costs a microsecond a call."""
        return False

    # Tensors -----------------------------------------------------------------------------------------------------

    def admit_input(self, tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """What stands in for a tensor that the model is called with: it counts as an activation."""
        integral = not tensor.is_floating_point() and not tensor.is_complex()
        if self._real or (integral and tensor.numel() <= MOST_INTEGERS and not tensor.is_meta):
            admitted = with_values(tensor, generator)
        else:
            admitted = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
        setattr(admitted, MARK, Made(tuple(admitted.shape), bytes_of(admitted)))
        return admitted

    def set_field(self, tensor: torch.Tensor, field: TensorField | None) -> None:
        """Give a tensor its receptive field."""
        mark = getattr(tensor, MARK, None)
        if mark is None:  # the user's own, which an operator has written to
            mark = self.foreign.marked_until_the_end(tensor)
        mark.field = field

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        _types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  # what the operator returns
        """Stand in for one operator and report it."""
        known = KNOWN.get(id(func))
        if known is None:
            known = KNOWN[id(func)] = Known(func)
        self._last = known
        self._count += 1
        if self._count > MOST_CALLS:
            raise ModelError(f"{self.where}: more than {MOST_CALLS:,} operator calls; does the model loop without end?")
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
        if not tensors[0].is_meta and not any([t.is_meta for t in tensors]) and self.values.kept(call):  # noqa: C419  # a list is faster
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
        lost = known.view and self.values.unknown and self.values.is_unknown(call.first)
        return self._view_of_unknown(call, known) if lost else self._by_kernel(call, known)

    def _computed(self, call: Call, known: Known) -> Any:  # noqa: ANN401  # as above
        if self._memory.live > self._most_bytes:
            raise ModelError(
                f"{self.where}: the model reads values that it computed, and those alive take more than "
                f"{self._most_bytes / 2**30:.1f} GiB, half of this machine's memory; try smaller inputs"
            )
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
            if tensor is not target and tensor.shape != target.shape:
                check_fit(call, target)
        if not target.is_meta:
            self.values.unknown[storage_key(target)] = target.untyped_storage()
        return target

    def _view_of_unknown(self, call: Call, known: Known) -> Any:  # noqa: ANN401  # as above
        """A view of a tensor that lost its values lies in that tensor, so that what is written to one shows in both."""
        if known.placed or not call.args or call.args[0] is not call.first:
            return self._by_kernel(call, known)
        hollow = self._hollow(call.first)
        result = call.func(hollow, *call.args[1:], **call.kwargs)
        shared = all(storage_key(t) == storage_key(hollow) for t in tensors_of(result))
        return call.func(*call.args, **call.kwargs) if shared else result

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
        mark = getattr(value, MARK, None)
        if type(mark) is not Made:
            return self.foreign.stand_in(value)
        hollow = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
        setattr(hollow, MARK, mark)
        return hollow

    # Reporting ---------------------------------------------------------------------------------------------------

    def _report(self, call: Call, known: Known) -> None:
        foreign = self.foreign
        parameters: tuple[nn.Parameter, ...] = ()
        inputs = []
        read = 0
        reached: list[TensorField] = []
        for tensor in call.tensors:
            mark = getattr(tensor, MARK, None)
            if mark is not None and mark.field is not None:
                reached.append(mark.field)
            if type(mark) is Made:
                inputs.append(mark.shape)
                read += mark.read
            else:
                read += bytes_of(tensor)
                if foreign.unused:
                    parameter = foreign.first_use(tensor)
                    if parameter is not None:
                        parameters += (parameter,)
        outputs = call.outputs
        written = self._renewed(call, known) if known.in_place else self._marked(call, known)
        operator = known.operator
        if not outputs[0].is_floating_point() and integral(call):
            operator = INTEGER_WORK
        cost = NO_COST if operator is None or operator.cost is None else operator.cost(call)
        fields: tuple[TensorField | None, ...]
        if reached:
            fields = self._fields(call, known, reached)
            for out, field in zip(outputs, fields, strict=True):
                self.set_field(out, field)
        else:
            fields = _NO_FIELD if len(outputs) == 1 else (None,) * len(outputs)
        module = self._stack[-1] if self._stack else self._root
        self._visit(Step(call, operator, cost, module, tuple(inputs), parameters, fields, written, read))

    def _fields(self, call: Call, known: Known, reached: list[TensorField]) -> tuple[TensorField | None, ...]:
        """The fields of the outputs; where the algebra fails, unknown ones that say so: counts do not hang on it."""
        if known.pointwise and len(reached) == 1 and len(call.outputs) == 1:
            field = reached[0]
            if field.shape == call.outputs[0].shape:
                return (field,)
        try:
            return tuple(known.rule(call, field_of))
        except Exception as error:
            if self._checked:
                raise
            why = f"netgauge failed to follow {call.packet} ({type(error).__name__}: {error})"
            return tuple([TensorField.unknown(tuple(out.shape), reached[0].extent, why=why) for out in call.outputs])

    def _renewed(self, call: Call, known: Known) -> tuple[torch.Tensor, ...]:
        """Say what an in-place operator wrote; what is noted on it must follow where its size changed."""
        out = call.outputs[0]
        mark = getattr(out, MARK, None)
        if not known.overwrites and type(mark) is Made:
            mark.shape, mark.read = tuple(out.shape), bytes_of(out)
        return call.outputs[:1]

    def _marked(self, call: Call, known: Known) -> tuple[torch.Tensor, ...]:
        """Mark the outputs as the walk's own, count what is new, and say what was written."""
        outputs = call.outputs
        if known.plain and len(outputs) == 1 and outputs[0].is_meta:
            (out,) = outputs
            setattr(out, MARK, Made(tuple(out.shape), self._memory.allocate(out.untyped_storage())))
            return outputs
        written = []
        alive = self._memory.alive
        given = call.tensors
        for out in outputs:
            storage = out.untyped_storage()
            key = storage._cdata  # noqa: SLF001  # a storage's identity
            new = key not in alive
            if new:
                origin = None if known.plain and out.is_meta else self.foreign.behind(key, given)
                if type(origin) is Given:
                    if getattr(out, MARK, None) is None:
                        setattr(out, MARK, origin)
                        self.foreign.marked.append(out)
                    continue
                self._memory.allocate(storage)
            if type(getattr(out, MARK, None)) is not Made:  # an operator may hand on what it was given
                setattr(out, MARK, Made(tuple(out.shape), bytes_of(out)))
            if new or not (known.view or (given and out is given[0])):
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
    mark = getattr(tensor, MARK, None)
    return None if mark is None else mark.field
