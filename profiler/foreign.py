"""Tensors that the walk did not make: parameters, buffers, constants. The user's are read, never written.

Most operators need no more of a tensor than its size, so that a parameter goes into them as it is. Where torch itself
must run on one, it gets a stand-in on the meta device; what shares storage outside shares storage there too. Where
values are written for real, the storage's old contents are kept aside and put back at the end.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from profiler.inventory import Inventory
from profiler.memory import Memory, storage_key

if TYPE_CHECKING:
    from profiler.receptive.field import TensorField

MARK = "_netgauge"


class Made:
    """What the walk notes on a tensor that it made, or that the model is called with.

    Attributes:
        shape: its size.
        read: bytes that reading it takes.
        field: its receptive field, None where the input does not reach it.
    """

    __slots__ = ("field", "read", "shape")

    def __init__(self, shape: tuple[int, ...], read: int) -> None:
        self.shape = shape
        self.read = read
        self.field: TensorField | None = None


class Given:
    """What the walk notes on a tensor of the model's, or one that stands in for it.

    Attributes:
        parameter: the parameter that it is, or lies in.
        field: its receptive field, once something that the input reaches was written into it.
    """

    __slots__ = ("field", "parameter")

    def __init__(self, parameter: nn.Parameter | None) -> None:
        self.parameter = parameter
        self.field: TensorField | None = None


def bytes_of(tensor: torch.Tensor) -> int:
    """Bytes that reading a tensor takes, each element of its storage once: a repeated axis is not read again."""
    size: int = tensor.nbytes
    return size if tensor.is_contiguous() else min(size, tensor.untyped_storage().nbytes())


class Foreign:
    """The parameters of a model and everything else that comes from outside.

    Attributes:
        unused: parameters that no operator has read yet, by identity; tied ones once.
        marked: the user's own tensors that an operator has returned or written to; their notes go at the end.
    """

    def __init__(self, inventory: Inventory, memory: Memory) -> None:
        self._memory = memory
        self._stored = inventory.stored
        self._tied = len(inventory.stored) != len(inventory.parameters)
        first = inventory.stored.values()
        self.unused = {id(p): p for p in first} if self._tied else inventory.parameters.copy()
        self.marked: list[torch.Tensor] = []
        self._known = inventory.parameters
        self._stand_in_sources: dict[int, Given] = {}
        self._bases: dict[int, torch.Tensor] = {}
        self._stand_ins: dict[tuple[Any, ...], torch.Tensor] = {}
        self._held: list[torch.Tensor] = []  # what has a stand-in lives on, so that its storage's key stays its own
        self._kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def source(self, tensor: torch.Tensor) -> Made | Given:
        """Where a tensor comes from."""
        source: Made | Given | None = getattr(tensor, MARK, None)
        return Given(self._stored.get(storage_key(tensor))) if source is None else source

    def first_use(self, tensor: torch.Tensor) -> nn.Parameter | None:
        """The parameter that a tensor from outside is, or lies in, where no operator has read it before."""
        key = id(tensor)
        parameter = self.unused.pop(key, None)
        if parameter is not None or (key in self._known and not self._tied):
            return parameter
        mark = getattr(tensor, MARK, None)
        within = self._stored.get(storage_key(tensor)) if mark is None else getattr(mark, "parameter", None)
        return None if within is None else self.unused.pop(id(within), None)

    def behind(self, key: int, given: Iterable[torch.Tensor]) -> Made | Given | None:
        """Where a storage that the walk did not make comes from: a stand-in's, or that of an argument; None if new."""
        source = self._stand_in_sources.get(key)
        return source or next((self.source(t) for t in given if storage_key(t) == key), None)

    def stand_in(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor on the meta device in the place of one that has values."""
        key = (storage_key(tensor), tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        found = self._stand_ins.get(key)
        if found is None:
            base = self._bases.get(key[0])
            if base is None:
                base = torch.empty(tensor.untyped_storage().nbytes(), dtype=torch.uint8, device="meta")
                self._bases[key[0]] = base
                self._stand_in_sources[storage_key(base)] = self._given(tensor)
            found = torch.empty(0, dtype=tensor.dtype, device="meta")
            found.set_(base.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())
            setattr(found, MARK, self._given(tensor))
            self._stand_ins[key] = found
            self._held.append(tensor)
        return found

    def on_cpu(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy of a tensor that lives on another device, the same one each time."""
        key = (storage_key(tensor), tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), "cpu")
        found = self._stand_ins.get(key)
        if found is None:
            found = self._stand_ins[key] = tensor.detach().cpu()
            setattr(found, MARK, self._given(tensor))
            self._held.append(tensor)
        return found

    def marked_until_the_end(self, tensor: torch.Tensor) -> Given:
        """What is noted on a tensor of the user's, from now until the end."""
        note = Given(self._stored.get(storage_key(tensor)))
        setattr(tensor, MARK, note)
        self.marked.append(tensor)
        return note

    def _given(self, tensor: torch.Tensor) -> Given:
        source = self.source(tensor)
        return source if isinstance(source, Given) else Given(None)

    def before_writing(self, tensor: torch.Tensor) -> None:
        """Keep the contents of a storage from outside that is about to be written."""
        key = storage_key(tensor)
        if key in self._memory.alive or key in self._kept or tensor.is_meta:
            return
        contents = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(tensor.untyped_storage())
        self._kept[key] = (contents, contents.clone())

    def put_back(self) -> None:
        """Give every storage that was written its old contents, and take the notes off the user's tensors."""
        for tensor in self.marked:
            vars(tensor).pop(MARK, None)
        self.marked.clear()
        for contents, old in self._kept.values():
            contents.copy_(old)
        self._kept.clear()
