"""Storages: which one a tensor lies in, and how many bytes are alive."""

import weakref
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch


def storage_key(tensor: torch.Tensor) -> int:
    """Which storage a tensor's elements lie in: the same for views and tied parameters."""
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001  # data_ptr() is 0 for every meta tensor


@dataclass(slots=True)
class Memory:
    """Bytes of the tensors alive, parameters left out.

    Attributes:
        live: bytes alive now.
        peak: most bytes alive at once.
        total: bytes of all storages together.
        alive: the storages alive, by key.
    """

    live: int = 0
    peak: int = 0
    total: int = 0
    alive: dict[int, Any] = field(default_factory=dict)

    def allocate(self, storage: torch.UntypedStorage) -> int:
        """Count a storage until its last tensor goes; its bytes."""
        key = storage._cdata  # noqa: SLF001  # as above
        size: int = storage.nbytes()
        if key in self.alive:
            return size
        self.live += size
        self.total += size
        self.peak = max(self.peak, self.live)
        self.alive[key] = weakref.ref(storage, partial(self._free, key, size))
        return size

    def _free(self, key: int, size: int, _reference: object) -> None:
        self.live -= size
        del self.alive[key]
