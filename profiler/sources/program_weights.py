"""Tensors of a torch.export archive: the bytes of raw members, mapped as they lie in the file; nothing is unpickled.

A member that is a pickle stays closed, and a tensor whose values the archive does not hold (a program that was exported
from a model without them) has none here, either: both have their declared size and no storage.
"""

import struct
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from profiler.errors import ModelError
from profiler.sources.limits import Limits
from profiler.sources.program_schema import Payload, TensorMeta

_LOCAL = struct.Struct("<4s22xHH")  # of a member's own header: its signature, the lengths of its name and extra field


class Weights:
    """Makes the tensors of one archive; those that lie in one member share their storage.

    Args:
        path: of the archive.
        members: of the archive by name.
        limits: how much it may ask for.
        native: whether its numbers are in this machine's byte order.
    """

    def __init__(self, path: Path, members: Mapping[str, zipfile.ZipInfo], limits: Limits, *, native: bool) -> None:
        self._path = path
        self._members = members
        self._limits = limits
        self._native = native
        self._bytes: npt.NDArray[np.uint8] | None = None
        self._storages: dict[str, torch.UntypedStorage] = {}
        self._made: dict[tuple[object, ...], torch.Tensor] = {}

    def tensor(self, folder: str, name: str, payload: Payload) -> torch.Tensor:
        """The tensor of a payload; a `Parameter` where it is one.

        Raises:
            ModelError: it reaches beyond its bytes, or is declared in a way that torch never writes.
            RefusedError: it goes beyond a limit.
        """
        meta = payload.meta
        if meta is None:
            raise ModelError(f"{self._path}: {name} is no tensor")
        self._check(name, meta)
        info = self._members.get(f"{folder}{payload.file}")
        if info is None:
            raise ModelError(f"{self._path}: is incomplete: {payload.file}, with the values of {name}, is missing")
        if not info.file_size:  # of a model without values, whose tensors are all said to lie in one empty member
            return self.declared(name, payload)
        sizes, strides, offset = _whole(meta)
        key = (folder, payload.file, meta.dtype, sizes, strides, offset, meta.requires_grad, payload.is_param)
        found = self._made.get(key)
        if found is None:
            storage = self._storage(folder, payload)
            if storage.device.type != "meta" and _reach(payload) > storage.nbytes():
                raise ModelError(f"{self._path}: {name} reaches beyond its {storage.nbytes():,} bytes")
            tensor = torch.empty(0, dtype=meta.dtype, device=storage.device)
            tensor.set_(storage, offset, sizes, strides)
            found = self._made[key] = parameter(tensor, meta) if payload.is_param else tensor
        return found

    def declared(self, name: str, payload: Payload) -> torch.Tensor:
        """A tensor that the archive holds in no member of its own.

        Raises:
            ModelError: it is declared in a way that torch never writes.
            RefusedError: it goes beyond a limit.
        """
        meta = payload.meta
        if meta is None:
            raise ModelError(f"{self._path}: {name} is no tensor")
        self._check(name, meta)
        sizes, strides, _ = _whole(meta)
        tensor = torch.empty_strided(sizes, strides, dtype=meta.dtype, device="meta")
        return parameter(tensor, meta) if payload.is_param else tensor

    def _check(self, name: str, meta: TensorMeta) -> None:
        sizes, strides, offset = _whole(meta)
        if len(sizes) != len(meta.sizes) or len(strides) != len(meta.strides) or not isinstance(meta.offset, int):
            raise ModelError(f"{self._path}: the size of {name} is left open, which no stored tensor's is")
        if len(sizes) != len(strides):
            raise ModelError(f"{self._path}: {name} has {len(sizes)} axes and {len(strides)} strides")
        checked_elements(sizes, f"{self._path}, {name}", self._limits)
        self._limits.check("elements", offset + sum(s * max(n - 1, 0) for n, s in zip(sizes, strides, strict=True)),
                           f"{self._path}, {name}")  # fmt: skip

    def _storage(self, folder: str, payload: Payload) -> torch.UntypedStorage:
        member = f"{folder}{payload.file}"
        found = self._storages.get(member)
        if found is not None:
            return found
        info = self._members[member]
        raw = None if payload.pickled or not self._native else self._raw(info)
        if raw is None:
            raw = torch.empty(max(_reach(payload), info.file_size), dtype=torch.uint8, device="meta")
        self._storages[member] = storage = raw.untyped_storage()
        return storage

    def _raw(self, info: zipfile.ZipInfo) -> torch.Tensor | None:
        """The bytes of a member that is stored as it is, None where this machine cannot map the file."""
        if self._bytes is None:
            try:
                # Copy on write: what is written in memory, by an update of running statistics, never reaches the file.
                self._bytes = np.memmap(self._path, np.uint8, mode="c")
            except (OSError, ValueError):
                return None
        head = bytes(self._bytes[info.header_offset : info.header_offset + _LOCAL.size])
        signature, name, extra = _LOCAL.unpack(head) if len(head) == _LOCAL.size else (b"", 0, 0)
        start = info.header_offset + _LOCAL.size + name + extra
        if signature != b"PK\x03\x04" or start + info.file_size > len(self._bytes):
            raise ModelError(f"{self._path}: is truncated or damaged; copy or download it again")
        part = self._bytes[start : start + info.file_size]
        if part.ctypes.data % 16:
            part = part.copy()  # torch writes members at multiples of 64
        return torch.from_numpy(part)


def parameter(tensor: torch.Tensor, meta: TensorMeta) -> nn.Parameter:
    """The tensor as a parameter."""
    return nn.Parameter(tensor, requires_grad=meta.requires_grad)


def checked_elements(sizes: tuple[int, ...], what: str, limits: Limits) -> None:
    """Refuse a tensor of too many elements, without ever multiplying beyond the limit.

    Raises:
        RefusedError: there are more.
    """
    elements = 0 if 0 in sizes else 1
    for size in sizes:
        elements *= size
        limits.check("elements", elements, what)


def is_native(order: bytes) -> bool:
    """Whether an archive's member `byteorder`, empty where it has none, names this machine's."""
    return order.decode("ascii", "replace").strip() in ("", sys.byteorder)


def _whole(meta: TensorMeta) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Sizes, strides and offset, those left open left out."""
    sizes = tuple(n for n in meta.sizes if isinstance(n, int))
    strides = tuple(n for n in meta.strides if isinstance(n, int))
    return sizes, strides, meta.offset if isinstance(meta.offset, int) else 0


def _reach(payload: Payload) -> int:
    """Bytes up to the last element."""
    if payload.meta is None:
        return 0
    sizes, strides, offset = _whole(payload.meta)
    last = offset + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True)) + 1
    return 0 if 0 in sizes else last * payload.meta.dtype.itemsize
