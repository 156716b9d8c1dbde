"""Storages: which one a tensor lies in, and how many bytes are alive."""

import weakref
from dataclasses import dataclass

import torch


def storage_key(tensor: torch.Tensor) -> int:
    """Which storage a tensor's elements lie in: the same for views and tied parameters."""
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001  # data_ptr() is 0 for every meta tensor


@dataclass(slots=True)
class Memory:
    """Bytes of the tensors alive, parameters left out."""

    live: int = 0
    peak: int = 0
    total: int = 0

    def allocate(self, storage: torch.UntypedStorage) -> None:
        """Count a storage until its last tensor goes."""
        size = storage.nbytes()
        self.live += size
        self.total += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, size).atexit = False

    def _free(self, size: int) -> None:
        self.live -= size
