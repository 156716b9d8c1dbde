"""Runs operators by torch's own kernels for the meta device: activations and weights have no storage.

This lies under a peer that counts what it sees dispatched, so that the peer sees sizes and no time or memory is spent.
What masks, positions, lengths and small constants hold is kept, because models branch on it; a run wholly on meta would
end there. No size comes from this project's formulas.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from profiler.aten.call import on_device, tensors_of
from profiler.aten.overload import Kind, Schema, schema_of
from profiler.memory import storage_key

# Tensors larger than this carry data, not structure.
MOST_INTEGERS = 1 << 24
_OURS = "_netgauge_on_meta"


class OnMeta(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves its hook untyped
    """A dispatch mode that gives every tensor from outside a stand-in and never writes to it.

    Args:
        most_floats: floating-point constants of up to so many elements keep their values. Recurrent layers refuse that
            their initial state does and their input does not.
    """

    def __init__(self, most_floats: int = 0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self._most_floats = most_floats
        self._stand_ins: dict[tuple[Any, ...], tuple[torch.Tensor, torch.Tensor]] = {}
        self._unknown: dict[int, torch.Tensor] = {}

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        _types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  # what the operator returns
        """Run one operator."""
        args, kwargs = tree_map(self._admitted, (args, kwargs or {}))
        schema = schema_of(func)
        tensors = tensors_of((args, kwargs))
        if any(t.is_meta or storage_key(t) in self._unknown for t in tensors):
            result = self._without_values(func, schema, args, kwargs)
        else:
            result = self._with_values(func, schema, args, kwargs)
        for tensor in tensors_of(result):
            setattr(tensor, _OURS, True)
        return result

    def _admitted(self, value: Any) -> Any:  # noqa: ANN401  # any argument
        if not isinstance(value, torch.Tensor) or getattr(value, _OURS, False):
            return value
        key = (storage_key(value), value.storage_offset(), tuple(value.shape), value.stride(), value.dtype)
        if key not in self._stand_ins:
            keep = self._is_structure(value) and not value.is_meta
            stand_in = value.detach().cpu().clone() if keep else without(value.detach())
            setattr(stand_in, _OURS, True)
            self._stand_ins[key] = (stand_in, value)  # the tensor itself is held so that its key stays its own
        return self._stand_ins[key][0]

    def _without_values(
        self, func: torch._ops.OpOverload, schema: Schema, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:  # noqa: ANN401  # what the operator returns
        written = [kwargs.get(name, args[place] if place < len(args) else None) for name, place in _places(schema)]
        for tensor in tensors_of(written):
            if not tensor.is_meta:
                self._unknown[storage_key(tensor)] = tensor
        hollow, named = tree_map(without, (args, kwargs))
        try:
            result = func(*hollow, **on_device(func, hollow, named, "meta")[1])
        except RuntimeError:  # a few kernels read lengths among their arguments
            result = func(*args, **kwargs)
        return written[0] if schema.kind is Kind.IN_PLACE and len(written) == 1 else result

    def _with_values(
        self, func: torch._ops.OpOverload, schema: Schema, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:  # noqa: ANN401  # as above
        if "device" in schema.signature:
            planned = func(*args, **{**kwargs, "device": torch.device("meta")})
            if isinstance(planned, torch.Tensor) and not self._is_structure(planned):
                return planned
            kwargs = {**kwargs, "device": torch.device("cpu")}
        return tree_map(self._without_bulk, func(*args, **kwargs))

    def _is_structure(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor may be one that a model branches on."""
        if tensor.is_floating_point() or tensor.is_complex():
            return tensor.numel() <= self._most_floats and not isinstance(tensor, nn.Parameter)
        return tensor.numel() <= MOST_INTEGERS

    def _without_bulk(self, value: Any) -> Any:  # noqa: ANN401  # any result
        return value if not isinstance(value, torch.Tensor) or self._is_structure(value) else without(value)


def _places(schema: Schema) -> list[tuple[str, int]]:
    """Name and position of the arguments that an operator writes to."""
    return [(name, list(schema.signature).index(name)) for name in schema.written]


def without(value: Any) -> Any:  # noqa: ANN401  # any argument
    """A tensor of the same size and strides on the meta device; anything else as it is."""
    if not isinstance(value, torch.Tensor) or value.is_meta:
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")


def without_floats(value: torch.Tensor) -> torch.Tensor:
    """As `without` for floats, a stand-in for a parameter or buffer; integers and booleans stay as they are."""
    if value.is_floating_point() or value.is_complex():
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
    return value
