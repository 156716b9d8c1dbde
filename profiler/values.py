"""Values: the few tensors that keep theirs. Models branch on masks, positions and lengths, and on small constants."""

from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import nn
from torch.utils._pytree import tree_map

from profiler.aten.call import Call, on_device, tensors_of
from profiler.aten.overload import Schema
from profiler.foreign import MARK, Foreign
from profiler.memory import storage_key

# Tensors larger than this carry data, not structure; their values are not kept.
MOST_INTEGERS = 1 << 24
MOST_FLOATS = 1 << 12
MOST_PARAMETERS = 1 << 4
# Tensors that an operator writes without saying so in its schema.
_HIDDEN_WRITES = dict.fromkeys(("aten.batch_norm", "aten.instance_norm"), ("running_mean", "running_var"))


class Values:
    """Runs operators for real where everything that goes into them is known and small.

    Attributes:
        unknown: the storages alive that had values until something unknown was written into them.
    """

    def __init__(self, foreign: Foreign) -> None:
        self._foreign = foreign
        self.unknown: WeakValueDictionary[int, torch.UntypedStorage] = WeakValueDictionary()

    def kept(self, call: Call) -> bool:
        """Whether everything that goes in has values, and is small enough that what comes out may have them, too."""
        floats = 0
        for tensor in call.tensors:
            size = tensor.numel()
            if not tensor.is_floating_point() and not tensor.is_complex():
                if size > MOST_INTEGERS:
                    return False
                continue
            floats += size
            if isinstance(tensor, nn.Parameter) and size > MOST_PARAMETERS:
                return False
        if self.unknown and any(self.is_unknown(t) for t in call.tensors):
            return False
        return floats <= MOST_FLOATS and call.packet != "aten.embedding"

    def is_unknown(self, tensor: torch.Tensor) -> bool:
        """Whether something unknown was written into a tensor that has values."""
        return storage_key(tensor) in self.unknown

    def computed(self, call: Call, schema: Schema, *, real: bool = False) -> Any:  # noqa: ANN401  # the operator's result
        """Run the operator with values."""
        args, kwargs = call.args, call.kwargs
        if any(t.device.type != "cpu" for t in call.tensors):
            args, kwargs = tree_map(self._on_cpu, (args, kwargs))
        args, kwargs = on_device(call.func, args, kwargs, "cpu")
        for name in schema.written or _HIDDEN_WRITES.get(schema.packet, ()):
            target = call[name]
            for tensor in tensors_of(target):
                self._foreign.before_writing(tensor)
        result = call.func(*args, **kwargs)
        if real:
            return result
        return (
            tree_map(self._without_bulk, result) if not isinstance(result, torch.Tensor) else self._without_bulk(result)
        )

    def _on_cpu(self, value: Any) -> Any:  # noqa: ANN401  # any argument
        return self._foreign.on_cpu(value) if isinstance(value, torch.Tensor) and value.device.type != "cpu" else value

    def _without_bulk(self, value: Any) -> Any:  # noqa: ANN401  # any result
        """The same without values where it is larger than what keeps them; a view stays what it is."""
        if not isinstance(value, torch.Tensor) or getattr(value, MARK, None) is not None:
            return value
        most = MOST_FLOATS if value.is_floating_point() or value.is_complex() else MOST_INTEGERS
        if value.untyped_storage().nbytes() <= most * value.element_size():
            return value
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")

    def created(self, call: Call, hollow: Callable[[Any], Any]) -> Any:  # noqa: ANN401  # as above
        """A tensor made from nothing: with values where it is small."""
        if "device" not in call and not call.tensors:
            return call.func(*call.args, **call.kwargs)
        args, kwargs = tree_map(hollow, (call.args, call.kwargs))
        result = call.func(*args, **{**kwargs, "device": torch.device("meta")})
        floats = result.is_floating_point() or result.is_complex()
        if result.numel() <= (MOST_FLOATS if floats else MOST_INTEGERS):
            return self._computed_like(call, result)
        return result

    def _computed_like(self, call: Call, hollow: torch.Tensor) -> Any:  # noqa: ANN401  # as above
        """The creator's result with values; its model may have none."""
        tensors = call.tensors
        if not tensors:
            return call.func(*call.args, **{**call.kwargs, "device": torch.device("cpu")})
        guide = (
            torch.empty_strided(tensors[0].shape, tensors[0].stride(), dtype=tensors[0].dtype)
            if (tensors[0].numel() <= MOST_INTEGERS)
            else None
        )
        if guide is None:
            return hollow
        args = tuple(guide if a is tensors[0] else a for a in call.args)
        return call.func(*args, **{**call.kwargs, "device": torch.device("cpu")})


def with_values(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A tensor with values for an input: its own, or drawn where it is given by its size alone."""
    if not tensor.is_meta:
        return tensor.detach().cpu().clone()
    if tensor.is_floating_point():
        return torch.randn(tensor.shape, dtype=tensor.dtype, generator=generator)
    return torch.zeros(tensor.shape, dtype=tensor.dtype)
