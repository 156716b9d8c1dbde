"""The dispatch mode of a training step: under autograd, where every operator of the backward pass arrives."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_map

from profiler.aten.call import Call, on_device, tensors_of
from profiler.aten.gradients import find_gradient
from profiler.aten.overload import Kind, Schema, schema_of
from profiler.backward.attribution import Attribution
from profiler.backward.stand_ins import Keep, is_number, without_values
from profiler.errors import ModelError
from profiler.memory import Memory, storage_key
from profiler.step import ModuleCall

# Operators that hand a value to Python.
_READS = frozenset(f"aten.{name}" for name in ("_local_scalar_dense", "item", "is_nonzero", "equal", "allclose"))
# Operators whose result's size is a matter of masks and lengths alone: of integers, which have values.
_SIZED_BY_INTEGERS = frozenset(
    f"aten.{name}"
    for name in (
        *("index", "_unsafe_index", "index_put", "index_put_", "_unsafe_index_put", "_index_put_impl_"),
        *("masked_select", "masked_scatter", "repeat_interleave", "_pack_padded_sequence"),
    )
)
_ELEMENTWISE = frozenset(("Activations", "Element by element"))
# A training step that has not come to an end by then is taken to loop for ever.
MOST_CALLS = 4_000_000
# The most bytes that are allocated to run such a kernel.
_MOST_BYTES = 1 << 30

Visit = Callable[[Call, ModuleCall, bool], None]


class NeedsValuesError(Exception):
    """The model asks for a value that was not computed."""


class TrainingMode(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves its hook untyped
    """Runs operators without storage, keeps account of memory, and shows the operators of the backward pass.

    Attributes:
        foreign: the storages that are no activations.
        backward: whether the forward pass is over.
    """

    def __init__(self, attribution: Attribution, memory: Memory, visit: Visit, keep: Keep) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self._attribution = attribution
        self._memory = memory
        self._visit = visit
        self._keep = keep
        self._count = 0
        self.foreign: set[int] = set()
        self.backward = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing here is ever compiled; the wrapper that makes sure costs a microsecond a call."""
        return False

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        _types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  # what the operator returns
        """Run one operator; report it where it belongs to the backward pass."""
        self._count += 1
        if self._count > MOST_CALLS:
            where = self._attribution.where
            raise ModelError(f"{where}: more than {MOST_CALLS:,} operator calls; does the model loop without end?")
        schema = schema_of(func)
        call = Call(func, args, kwargs or {}, (), schema.tensors(args, kwargs or {}))
        result = func(*call.args, **call.kwargs) if self._keep is Keep.ALL else self._run(call, schema)
        call.outputs = (result,) if isinstance(result, torch.Tensor) else tuple(tensors_of(result))
        for out in call.outputs:
            if storage_key(out) not in self.foreign:
                self._memory.allocate(out.untyped_storage())
        if self.backward and call.outputs:
            # Nodes of the backward pass run without gradients; what runs with them is a forward pass once more.
            self._visit(call, self._attribution.here, torch.is_grad_enabled())
        return result

    def _run(self, call: Call, schema: Schema) -> Any:  # noqa: ANN401  # as above
        if not call.tensors:
            return self._created(call, schema)
        if not any(t.is_meta for t in call.tensors) and all(self._keep.holds(t) for t in call.tensors):
            args, kwargs = on_device(call.func, call.args, call.kwargs, "cpu")
            return tree_map(self._kept, call.func(*args, **kwargs))
        if schema.packet in _READS:
            raise NeedsValuesError(f"{schema.packet}: a branch or a number taken from a computed tensor")
        for name in schema.written:
            if any(not t.is_meta and self._keep.holds(t) for t in tensors_of(call[name])):
                raise NeedsValuesError(f"{schema.packet}: computed values written over known ones")
        made = _by_formula(call) if schema.kind is Kind.PLAIN else _in_place(call, schema)
        return self._by_kernel(call, schema) if made is None else made

    def _created(self, call: Call, schema: Schema) -> Any:  # noqa: ANN401  # as above
        """A tensor made from nothing; with values where they are kept."""
        if "device" not in schema.signature:
            return call.func(*call.args, **call.kwargs)
        result = call.func(*call.args, **{**call.kwargs, "device": torch.device("meta")})
        if not self._constant(result):
            return result
        return call.func(*call.args, **{**call.kwargs, "device": torch.device("cpu")})

    def _constant(self, made: torch.Tensor) -> bool:
        """Whether what was made from nothing is given values; gradients that start out as zeros are not."""
        gradient = self.backward and not torch.is_grad_enabled() and is_number(made)
        return not gradient and self._keep.holds(made)

    def _kept(self, value: Any) -> Any:  # noqa: ANN401  # any result
        """The same without values where they are not kept."""
        return without_values(value) if isinstance(value, torch.Tensor) and not self._keep.holds(value) else value

    def _by_kernel(self, call: Call, schema: Schema) -> Any:  # noqa: ANN401  # as above
        """Torch's kernel for tensors without storage; or one with storage, where a size is a matter of integers."""
        args, kwargs = call.args, call.kwargs
        if not all(t.is_meta for t in call.tensors):
            args, kwargs = tree_map(_hollowed, (args, kwargs))
        args, kwargs = on_device(call.func, args, kwargs, "meta")
        try:
            result = call.func(*args, **kwargs)
        except NotImplementedError as error:
            return self._with_zeros(call, error)
        if "device" in schema.signature and "dtype" in schema.signature and self._constant(result):
            values = call.func(*call.args, **{**call.kwargs, "device": torch.device("cpu")})
            return result if schema.packet == "aten._to_copy" else values
        return result

    def _with_zeros(self, call: Call, error: Exception) -> Any:  # noqa: ANN401  # as above
        unknown = [t for t in call.tensors if t.is_meta]
        size = sum(t.numel() * t.element_size() for t in unknown)
        known = call.packet in _SIZED_BY_INTEGERS and all(is_number(t) for t in unknown)
        if not known or size > _MOST_BYTES:
            raise NeedsValuesError(f"{call.packet}: {str(error).splitlines()[0]}") from error
        with _disable_current_modes():
            args, kwargs = tree_map(_zeros, (call.args, call.kwargs))
            args, kwargs = on_device(call.func, args, kwargs, "cpu")
            return tree_map(_emptied, call.func(*args, **kwargs))


def _by_formula(call: Call) -> Any:  # noqa: ANN401  # the operator's result, None where no formula gives it
    operator = find_gradient(call)
    if operator is None or operator.make is None or operator.shape is None:
        return None
    try:
        shape = operator.shape(call)
    except KeyError:  # stated for the operator before autograd takes it apart, with arguments that this overload lacks
        return None
    return None if shape is None else operator.make(call, shape)


def _in_place(call: Call, schema: Schema) -> torch.Tensor | None:
    """What an element-by-element operator writes to, where all sizes are alike; None elsewhere."""
    operator = find_gradient(call)
    if schema.kind is not Kind.IN_PLACE or operator is None or operator.formula not in _ELEMENTWISE:
        return None
    target = call.first
    alike = call.args[0] is target and all(t.shape == target.shape for t in call.tensors)
    return target if alike and target.is_meta and len(schema.written) == 1 else None


def _hollowed(value: Any) -> Any:  # noqa: ANN401  # any argument
    return without_values(value) if isinstance(value, torch.Tensor) and not value.is_meta else value


def _emptied(value: Any) -> Any:  # noqa: ANN401  # any result
    return without_values(value) if isinstance(value, torch.Tensor) and is_number(value) else value


def _zeros(value: Any) -> Any:  # noqa: ANN401  # any argument
    if not isinstance(value, torch.Tensor) or not value.is_meta:
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype).zero_()
