"""Tensors that the walk did not make: parameters, buffers, constants. The user's are read, never written.

Most operators need no more of a tensor than its size, so that a parameter goes into them as it is. Where torch itself
must run on one, it gets a stand-in on the meta device; what shares storage outside shares storage there too. Where
values are written for real, the storage's old contents are kept aside and put back at the end.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from profiler.inventory import Inventory
from profiler.memory import Memory, storage_key

SOURCE = "_netgauge_source"


class Source:
    """Where a tensor's storage comes from: the walk itself, a parameter, or another constant of the model."""

    __slots__ = ("constant", "parameter")

    def __init__(self, *, constant: bool, parameter: nn.Parameter | None = None) -> None:
        self.constant = constant
        self.parameter = parameter


ACTIVATION = Source(constant=False)
CONSTANT = Source(constant=True)


class Foreign:
    """The parameters of a model and everything else that comes from outside.

    Attributes:
        unused: parameters that no operator has read yet, by identity; tied ones once.
    """

    def __init__(self, inventory: Inventory, memory: Memory) -> None:
        self._memory = memory
        self._stored = inventory.stored
        self.unused = {id(p): p for p in inventory.stored.values()}
        self._known = {id(p) for p in inventory.parameters}
        self._tied = len(inventory.stored) != len(inventory.parameters)
        self._stand_in_sources: dict[int, Source] = {}
        self._bases: dict[int, torch.Tensor] = {}
        self._stand_ins: dict[tuple[Any, ...], torch.Tensor] = {}
        self._kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def source(self, tensor: torch.Tensor) -> Source:
        """Where a tensor comes from."""
        source = getattr(tensor, SOURCE, None)
        if source is None:
            parameter = self._stored.get(storage_key(tensor))
            source = CONSTANT if parameter is None else Source(constant=True, parameter=parameter)
        return source

    def first_use(self, tensor: torch.Tensor) -> nn.Parameter | None:
        """The parameter that a tensor from outside is, or lies in, where no operator has read it before."""
        parameter = self.unused.pop(id(tensor), None)
        if parameter is None and (self._tied or id(tensor) not in self._known):
            behind = self.source(tensor).parameter
            parameter = self.unused.pop(id(behind), None)
        return parameter

    def behind(self, key: int, given: Iterable[torch.Tensor]) -> Source | None:
        """Where a storage that the walk did not make comes from: a stand-in's, or that of an argument; None if new."""
        source = self._stand_in_sources.get(key)
        if source is None:
            source = next((self.source(t) for t in given if storage_key(t) == key), None)
        return source

    def stand_in(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor on the meta device in the place of one that has values."""
        key = (storage_key(tensor), tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        found = self._stand_ins.get(key)
        if found is None:
            base = self._bases.get(key[0])
            if base is None:
                base = torch.empty(tensor.untyped_storage().nbytes(), dtype=torch.uint8, device="meta")
                self._bases[key[0]] = base
                self._stand_in_sources[storage_key(base)] = self.source(tensor)
            found = torch.empty(0, dtype=tensor.dtype, device="meta")
            found.set_(base.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())
            setattr(found, SOURCE, self.source(tensor))
            self._stand_ins[key] = found
        return found

    def on_cpu(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy of a tensor that lives on another device, the same one each time."""
        key = (storage_key(tensor), tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), "cpu")
        found = self._stand_ins.get(key)
        if found is None:
            found = self._stand_ins[key] = tensor.detach().cpu()
            setattr(found, SOURCE, self.source(tensor))
        return found

    def before_writing(self, tensor: torch.Tensor) -> None:
        """Keep the contents of a storage from outside that is about to be written."""
        key = storage_key(tensor)
        if key in self._memory.alive or key in self._kept or tensor.is_meta:
            return
        contents = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(tensor.untyped_storage())
        self._kept[key] = (contents, contents.clone())

    def put_back(self) -> None:
        """Give every storage that was written its old contents."""
        for contents, old in self._kept.values():
            contents.copy_(old)
        self._kept.clear()
