"""Files that torch.save wrote up to torch 1.5, and writes still where it is told to.

A row of pickles: a magic number, the format's version, facts about the machine, the object, and the keys of its
storages. Behind them come the storages in the order of the keys, each as a count of elements (8 bytes, little-endian)
and its bytes.
"""

import io
from pathlib import Path
from typing import Any, BinaryIO

from profiler.errors import ModelError
from profiler.sources.described import storages_in
from profiler.sources.layouts import Storage
from profiler.sources.limits import DEFAULT, Limits
from profiler.sources.opcodes import ForeignPickleError, read_next
from profiler.sources.opened import OpenedModel
from profiler.sources.saved import open_saved
from profiler.sources.stored import Region, Stored

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_COUNT = 8  # bytes of the count before each storage


def open_legacy(path: Path, *, trust: bool = False, limits: Limits = DEFAULT) -> OpenedModel:
    """Open a file that torch.save wrote without a zip archive.

    Raises:
        RefusedError: it would have to run code, or breaks one of the rules in `checkpoint`.
        ModelError: it is damaged.
    """
    return open_saved(path, read_legacy, limits, trust=trust)


def read_legacy(path: Path, limits: Limits = DEFAULT) -> Stored:
    """What such a file stores.

    Raises:
        RefusedError: it uses an opcode that torch.save never writes, or asks for too much.
        ModelError: it is damaged.
    """
    source = str(path)
    with path.open("rb") as file:
        magic = _plain(file, source, limits)
        protocol = _plain(file, source, limits)
        if magic != _MAGIC or protocol != _PROTOCOL:
            raise ModelError(f"{path}: is of a version that torch.save never wrote; it is damaged")
        machine = _plain(file, source, limits)
        tree, names = read_next(file, source, limits)
        keys = _plain(file, source, limits)
        regions = _regions(file, source, keys, storages_in(tree, source))
    big = isinstance(machine, dict) and machine.get("little_endian") is False
    return Stored(path, tree, names, regions, limits, big_endian=big)


def _plain(file: BinaryIO, source: str, limits: Limits) -> Any:  # noqa: ANN401  # numbers, words and lists of them
    """The next pickle, which needs no names: what stands around the object itself."""
    value, names = read_next(file, source, limits)
    if names:
        raise ForeignPickleError(f"{source}: asks for {names[0]} where torch.save has plain values; refused")
    return value


def _regions(file: BinaryIO, source: str, keys: object, storages: dict[str, Storage]) -> dict[str, Region]:
    """Where each storage lies; they fill the file to its end."""
    listed = [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else []
    if len(listed) != len(storages) or set(listed) != set(storages):
        raise ModelError(f"{source}: lists other storages than its tensors need; it is damaged")
    at = file.tell()
    size = file.seek(0, io.SEEK_END)
    regions = {}
    for key in listed:
        file.seek(at)
        count = int.from_bytes(file.read(_COUNT), "little", signed=True)
        storage = storages[key]
        region = regions[key] = Region(at + _COUNT, storage.whole * storage.dtype.itemsize)
        at = region.start + region.size
        if at > size:
            raise ModelError(f"{source}: is truncated: storage {key} ends {at - size:,} bytes beyond the file")
        if count != storage.whole:
            raise ModelError(f"{source}: storage {key} should have {storage.whole:,} elements, the file says {count:,}")
    if at < size:
        raise ModelError(f"{source}: {size - at:,} bytes follow the last storage; it is damaged, or two files in one")
    return regions
