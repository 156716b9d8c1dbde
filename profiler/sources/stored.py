"""What a torch file stores: its pickle read symbolically, and where the bytes of every storage lie in it."""

import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from profiler.errors import ModelError
from profiler.sources.described import Described, storages_in, tensors_in
from profiler.sources.layouts import Layout
from profiler.sources.limits import Limits
from profiler.sources.opcodes import Global


@dataclass(frozen=True, slots=True)
class Region:
    """Bytes of a file.

    Attributes:
        start: where they begin.
        size: how many they are.
        crc: their CRC-32, where the file says.
    """

    start: int
    size: int
    crc: int | None = None


@dataclass(frozen=True)
class Stored:
    """A torch file, read without running anything in it.

    Attributes:
        path: the file.
        tree: what its pickle would build.
        names: the names that the pickle asks for.
        regions: where the storages lie, by their keys.
        limits: how much it may ask for.
        big_endian: whether its numbers are written so.
    """

    path: Path
    tree: Any
    names: tuple[Global, ...]
    regions: Mapping[str, Region]
    limits: Limits
    big_endian: bool = False

    @cached_property
    def tensors(self) -> tuple[Described, ...]:
        """Every tensor, in order.

        Raises:
            ModelError: one is described in a way that torch.save never does.
            RefusedError: one reaches beyond its storage, or they are more than the limits allow.
        """
        return tensors_in(self.tree, str(self.path), self.limits)

    def check_storages(self) -> None:
        """Check that every storage lies in the file and is as large as the pickle says.

        Raises:
            ModelError: one is not.
        """
        for key, storage in storages_in(self.tree, str(self.path)).items():
            size = storage.whole * storage.dtype.itemsize
            there = self.regions[key].size if key in self.regions else 0
            if there != size:
                raise ModelError(
                    f"{self.path}: storage {key} should have {size:,} bytes, the file holds {there:,}; it is damaged"
                )


class Reader:
    """Takes tensors out of a torch file; those that share a storage in the file share it here."""

    def __init__(self, stored: Stored) -> None:
        self.stored = stored
        self.buffers: dict[str, bytearray] = {}

    def read(self, layout: Layout) -> torch.Tensor:
        """The tensor of a layout.

        Raises:
            ModelError: it is of a kind that is not supported, or its bytes are damaged.
        """
        path = self.stored.path
        if layout.special:
            raise ModelError(f"{path}: a tensor in it {layout.special}; that is not supported")
        if layout.storage not in self.buffers:
            self.buffers[layout.storage] = self._bytes(layout.storage)
        try:
            return _view(layout, self.buffers[layout.storage])
        except (RuntimeError, ValueError) as error:  # sizes that torch itself cannot hold
            raise ModelError(f"{path}: torch has no such tensor ({error})") from error

    def _bytes(self, key: str) -> bytearray:
        path = self.stored.path
        if self.stored.big_endian != (sys.byteorder == "big"):
            raise ModelError(f"{path}: its numbers are in another byte order than this machine's; convert it there")
        region = self.stored.regions.get(key)
        if region is None:
            raise ModelError(f"{path}: lacks storage {key}; it is damaged")
        data = bytearray(region.size)
        with path.open("rb") as file:
            file.seek(region.start)
            taken = file.readinto(data)
        if taken != region.size or (region.crc is not None and zlib.crc32(data) != region.crc):
            raise ModelError(f"{path}: storage {key} is damaged; copy or download it again")
        return data


def _view(layout: Layout, data: bytearray) -> torch.Tensor:
    if 0 in layout.shape:
        return torch.empty(layout.shape, dtype=layout.dtype)
    return torch.frombuffer(data, dtype=layout.dtype).as_strided(layout.shape, layout.stride, layout.offset)
