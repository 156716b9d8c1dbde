"""The .npy format: what its header says, checked before anything is allocated, and rows read at their offsets.

Rows are read with seek and read, not mapped: a mapping counts against a limit on address space, and a file that is cut
short meanwhile would end the process instead of giving an error. Nothing is ever unpickled.
"""

from __future__ import annotations

import ast
import os
import struct
import zlib
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from profiler.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LONGEST_HEADER = 10_000  # NumPy's own bound: longer ones can take Python's parser down
MAGIC = b"\x93NUMPY"
_LENGTHS = {b"\x01\x00": struct.Struct("<H"), b"\x02\x00": struct.Struct("<I")}  # by version: the length of the rest
_MOST_AXES = 32
_KINDS = "biufcSU"  # what a model can be fed; no objects, records or dates
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Header:
    """What a .npy says of itself.

    Attributes:
        shape: of the array.
        dtype: of its elements.
        fortran: whether the first axis runs fastest.
        bytes: its own length; the elements follow.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    bytes: int

    @property
    def row_bytes(self) -> int:
        """Of one sample."""
        size = self.dtype.itemsize
        for length in self.shape[1:]:
            size *= length
        return size

    @property
    def data_bytes(self) -> int:
        """Of all samples."""
        return self.row_bytes * (self.shape[0] if self.shape else 1)


def read_header(file: BinaryIO, what: str, size: int) -> Header:
    """Read and check a header.

    Args:
        file: at the beginning of the array.
        what: the file, or its member, for messages.
        size: bytes of header and elements together.

    Raises:
        DataError: it is damaged, says something absurd, or holds objects.
    """
    try:
        shape, fortran, dtype = _parsed(file)
    except (ValueError, TypeError, KeyError, SyntaxError, RecursionError, MemoryError, struct.error) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{what}: cannot be read: no header of an array: {reason}") from error
    header = Header(shape, dtype, fortran, file.tell())
    if dtype.hasobject:
        raise DataError(f"{what}: cannot be read: Object arrays are pickles, which could run code; save plain numbers")
    if dtype.kind not in _KINDS or dtype.itemsize == 0:
        raise DataError(f"{what}: cannot be read: holds {dtype}; expected numbers")
    if len(shape) > _MOST_AXES or any(length < 0 for length in shape):
        raise DataError(f"{what}: cannot be read: its header gives the shape {header.shape}")
    if header.bytes + header.data_bytes != size:
        raise DataError(
            f"{what}: cannot be read: its header speaks of {header.data_bytes:,} bytes ({dtype} of {header.shape}), "
            f"and there are {size - header.bytes:,}; copy or save it again"
        )
    return header


def _parsed(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type, from a header of version 1 or 2; version 3 is for records, which no model takes.

    NumPy's own reader also tries the headers of Python 2, and warns.
    """
    magic, version = file.read(len(MAGIC)), file.read(2)
    if magic != MAGIC or version not in _LENGTHS:
        raise ValueError(f"it begins with {magic + version!r}")
    length = _LENGTHS[version]
    (size,) = length.unpack(file.read(length.size))
    if size > _LONGEST_HEADER:
        raise ValueError(f"it has {size:,} bytes")
    found = ast.literal_eval(file.read(size).decode("latin-1").strip())
    shape, fortran, written = found["shape"], found["fortran_order"], found["descr"]
    if not isinstance(shape, tuple) or not all(type(n) is int for n in shape) or not isinstance(fortran, bool):
        raise TypeError(f"its shape is {shape}")
    if not isinstance(written, str):
        raise TypeError("it holds records, which no model takes")
    return shape, fortran, np.dtype(written)


@dataclass(frozen=True)
class Place:
    """Where the bytes of an array lie.

    Attributes:
        path: the file.
        what: the file and the member, for messages.
        start: of the header in the file; of the compressed bytes where they are compressed.
        stored: bytes in the file.
        identity: device, inode, size and time of change when it was checked.
    """

    path: Path
    what: str
    start: int
    stored: int
    identity: tuple[int, ...]

    def opened(self) -> BinaryIO:
        """The file, once it is known to be the one that was checked."""
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise DataError(f"{self.what}: cannot be read: {error.strerror}") from error
        if identity(file) != self.identity:
            file.close()
            raise DataError(f"{self.what}: the file changed while it was read; start again when it is whole")
        return file

    def damaged(self, why: str) -> DataError:
        """The error for bytes that are not as they should be."""
        return DataError(f"{self.what}: cannot be read: {why}; copy or save it again")


def identity(file: BinaryIO) -> tuple[int, ...]:
    """By which an open file is known again."""
    found = os.fstat(file.fileno())
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class _Rows:
    """What the two kinds of file have in common: slices and positions become runs of neighbouring rows."""

    def __init__(self, place: Place, header: Header, head: bytes, crc: int | None) -> None:
        """`head` holds the header's bytes and `crc` the sum of them and the elements, None where it is not known."""
        self.place, self.header = place, header
        self._head_sum, self._crc = zlib.crc32(head), crc

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an ndarray."""
        return self.header.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """As of an ndarray."""
        return self.header.dtype

    def __len__(self) -> int:
        """The number of samples."""
        return self.header.shape[0]

    def __getitem__(self, key: slice | np.ndarray) -> np.ndarray:
        """Samples: a slice, or an array of positions."""
        positions = np.arange(len(self), dtype=np.intp)[key]
        wanted, places = np.unique(positions, return_inverse=True)
        found = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        raw = found.reshape(-1).view(np.uint8).reshape(len(wanted), -1) if found.size else found
        for begin, end in _runs(wanted):
            if found.size:
                self._read(int(wanted[begin]), raw[begin:end])
        return found if np.array_equal(wanted, positions) else found[places]

    def whole(self) -> np.ndarray:
        """All of it, and its checksum compared."""
        raw = np.empty(self.header.data_bytes, np.uint8)
        if raw.size:
            self._read(0, raw)
        if self._crc is not None and zlib.crc32(raw.data, self._head_sum) != self._crc:
            raise self.place.damaged("its checksum is wrong")
        return raw.view(self.dtype).reshape(self.shape, order="F" if self.header.fortran else "C")

    def _read(self, first: int, into: np.ndarray) -> None:
        """Fill bytes with the rows from the first on."""
        raise NotImplementedError


class StoredRows(_Rows):
    """An array whose elements lie in a file as they are: any samples at the cost of reading them."""

    def _read(self, first: int, into: np.ndarray) -> None:
        with self.place.opened() as file:
            file.seek(self.place.start + self.header.bytes + first * self.header.row_bytes)
            if file.readinto(into.reshape(-1).data) != into.nbytes:  # type: ignore[attr-defined]  # BinaryIO has it
                raise self.place.damaged("it ends too early")


class DeflatedRows(_Rows):
    """An array that is compressed: read forward at the cost of unpacking; a step back begins anew."""

    def __init__(self, place: Place, header: Header, head: bytes, crc: int | None) -> None:
        super().__init__(place, header, head, crc)
        self._restart()

    def _restart(self) -> None:
        self._unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        self._taken = 0  # compressed bytes
        self._given = 0  # unpacked bytes, the header among them
        self._sum = 0

    def _read(self, first: int, into: np.ndarray) -> None:
        target = self.header.bytes + first * self.header.row_bytes
        if target < self._given:
            self._restart()
        flat, filled = into.reshape(-1), 0
        with self.place.opened() as file:
            while self._given < target:
                self._unpacked(file, min(_CHUNK, target - self._given))
            while filled < len(flat):
                piece = self._unpacked(file, min(_CHUNK, len(flat) - filled))
                flat[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
                filled += len(piece)
        if self._given == self.header.bytes + self.header.data_bytes and self._sum != self._crc:
            raise self.place.damaged("its checksum is wrong")

    def _unpacked(self, file: BinaryIO, most: int) -> bytes:
        """The next bytes, at least one."""
        try:
            piece = self._unpacker.decompress(self._unpacker.unconsumed_tail, most)
            while not piece:
                file.seek(self.place.start + self._taken)
                packed = file.read(min(_CHUNK, self.place.stored - self._taken))
                if not packed or self._unpacker.eof:
                    raise self.place.damaged("it ends too early")
                self._taken += len(packed)
                piece = self._unpacker.decompress(self._unpacker.unconsumed_tail + packed, most)
        except zlib.error as error:
            self._restart()
            raise self.place.damaged(str(error)) from error
        self._given += len(piece)
        self._sum = zlib.crc32(piece, self._sum)
        return piece


def _runs(rising: np.ndarray) -> Iterator[tuple[int, int]]:
    """Where neighbours begin and end in an array of positions that rise."""
    breaks = np.flatnonzero(np.diff(rising) != 1) + 1
    edges = [0, *breaks.tolist(), len(rising)]
    yield from ((a, b) for a, b in pairwise(edges) if b > a)
