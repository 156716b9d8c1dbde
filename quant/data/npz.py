"""Files of NumPy as columns: the members of an .npz, and the one array of an .npy.

What is small is read at once; what is larger than `columns.SMALL` stays in the file and is read a batch at a time.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import DataError
from quant.data.columns import SMALL
from quant.data.npy import DeflatedRows, Place, StoredRows, identity, read_header

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from quant.data.columns import Column
    from quant.data.npy import Header

_LOCAL = struct.Struct("<4s5H3I2H")
_ENCRYPTED = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LARGEST_SAMPLE = 4 << 30
_MOST_MEMBERS = 10_000
_STRONGEST = 1032  # deflate cannot shrink anything further than this
_HEAD = 1 << 16  # unpacked to read a header, which NumPy keeps below 10,000 bytes


def open_npy(path: Path, what: str) -> Column:
    """The array of an .npy file.

    Raises:
        DataError: it is damaged, or of a kind that no model can be fed.
    """
    with path.open("rb") as file:
        known = identity(file)
        header = read_header(file, what, known[2])
    place = Place(path, what, 0, known[2], known)
    return _column(place, header, StoredRows(place, header, b"", None), SMALL)


def open_npz(path: Path, what: str) -> Mapping[str, Column]:
    """The arrays of an .npz file by name, in its order.

    Raises:
        DataError: it is no .npz, damaged, or holds something else than arrays of numbers.
    """
    if not zipfile.is_zipfile(path):
        raise DataError(f"{what}: is no .npz file; write one with np.savez(FILE, x=inputs, y=labels)")
    try:
        with path.open("rb") as file:
            known = identity(file)
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, struct.error, UnicodeError) as error:
        raise DataError(f"{what}: cannot be read: {error}; copy or save it again") from error
    if len(members) > _MOST_MEMBERS:
        raise DataError(f"{what}: holds {len(members):,} members; one array for each input is expected")
    found: dict[str, Column] = {}
    left = SMALL
    for member in members:
        name = member.filename.removesuffix(".npy")
        if name in found:
            raise DataError(f"{what}: holds the array {name!r} twice; save it again with np.savez")
        found[name] = column = _member(path, member, f"{what}: array {name!r}", known, left)
        left -= column.nbytes if isinstance(column, np.ndarray) else 0
    return found


def _member(path: Path, member: zipfile.ZipInfo, what: str, known: tuple[int, ...], small: int) -> Column:
    """One array, in memory where it takes no more than so many bytes."""
    if not member.filename.endswith(".npy"):
        raise DataError(f"{what}: is no array; an .npz holds what np.savez writes")
    if member.flag_bits & _ENCRYPTED or member.compress_type not in _METHODS:
        raise DataError(f"{what}: cannot be read: encrypted, or compressed as NumPy never does; save with np.savez")
    if member.file_size > _STRONGEST * member.compress_size + _HEAD:
        raise DataError(f"{what}: cannot be read: {member.compress_size:,} bytes cannot hold {member.file_size:,}")
    with path.open("rb") as file:
        file.seek(member.header_offset)
        start = _start(file.read(_LOCAL.size), member, what)
        if start + member.compress_size > known[2]:
            raise DataError(f"{what}: cannot be read: it reaches beyond the end of the file; copy or save it again")
        place = Place(path, what, start, member.compress_size, known)
        file.seek(start)
        deflated = member.compress_type == zipfile.ZIP_DEFLATED
        head = file.read(min(_HEAD, member.compress_size))
        if deflated:
            try:
                head = zlib.decompressobj(-zlib.MAX_WBITS).decompress(head, _HEAD)
            except zlib.error as error:
                raise place.damaged(str(error)) from error
        elif member.compress_size != member.file_size:
            raise place.damaged("it is said to have two sizes")
        header = read_header(io.BytesIO(head), what, member.file_size)
    rows = (DeflatedRows if deflated else StoredRows)(place, header, head[: header.bytes], member.CRC)
    return _column(place, header, rows, small)


def _start(local: bytes, member: zipfile.ZipInfo, what: str) -> int:
    """Where a member's bytes begin: behind its local header, whose fields of open length may differ from the list's."""
    if len(local) < _LOCAL.size or not local.startswith(b"PK\x03\x04"):
        raise DataError(f"{what}: cannot be read: its place in the file is wrong; copy or save it again")
    *_, name, extra = _LOCAL.unpack(local)
    return member.header_offset + _LOCAL.size + int(name) + int(extra)


def _column(place: Place, header: Header, rows: StoredRows | DeflatedRows, small: int) -> Column:
    """In memory what is small, a single value, or empty: `Samples` says what is wrong with the last two."""
    if header.data_bytes <= small or not header.shape:
        return rows.whole()
    if header.fortran and len(header.shape) > 1:
        raise DataError(
            f"{place.what}: is stored with its first axis running fastest, so that no sample lies in one piece; "
            "save np.ascontiguousarray(x)"
        )
    if header.row_bytes > _LARGEST_SAMPLE:
        raise DataError(f"{place.what}: one sample takes {header.row_bytes:,} bytes; is axis 0 the samples?")
    return rows
