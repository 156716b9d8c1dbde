"""Zip archives of torch: the directory is checked against the members before a byte of them is used.

Nothing is extracted, so names with `..` or a leading slash are names like any other.
"""

import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from profiler.errors import ModelError, RefusedError
from profiler.sources.limits import Limits
from profiler.sources.stored import Region

_LOCAL = struct.Struct("<4s5H3I2H")
_ENCRYPTED, _SIZES_FOLLOW = 0x1, 0x8
# Small archives of code may well unpack to more than a few times their size.
_HARMLESS = 16 << 20


@dataclass(frozen=True, slots=True)
class Archive:
    """A checked archive.

    Attributes:
        path: the file.
        root: the folder in it that holds data.pkl, with its slash.
        members: by name.
        starts: where the bytes of each member begin in the file.
        limits: how much it may ask for.
    """

    path: Path
    root: str
    members: Mapping[str, zipfile.ZipInfo]
    starts: Mapping[str, int]
    limits: Limits

    def regions(self, folder: str) -> dict[str, Region]:
        """Members of a folder such as "data/", by their names in it: those that are stored as they are."""
        inside = self.root + folder
        return {
            name.removeprefix(inside): Region(self.starts[name], member.file_size, member.CRC)
            for name, member in self.members.items()
            if name.startswith(inside) and member.compress_type == zipfile.ZIP_STORED
        }

    @property
    def big_endian(self) -> bool:
        """Whether its numbers are written so."""
        return f"{self.root}byteorder" in self.members and self.read("byteorder") == b"big"

    def read(self, name: str) -> bytes:
        """The bytes of a member, unpacked, by its name in the root.

        Raises:
            RefusedError: it is larger than what is parsed as a whole.
            ModelError: there is none, or it is damaged.
        """
        member = self.members.get(self.root + name)
        if member is None:
            raise ModelError(f"{self.path}: lacks the member {name}; copy or download it again")
        self.limits.check("header_bytes", member.file_size, f"{self.path}, its {name}")
        with self.path.open("rb") as file:
            file.seek(self.starts[member.filename])
            data = file.read(member.compress_size)
        if member.compress_type == zipfile.ZIP_DEFLATED:
            try:
                data = zlib.decompressobj(-15).decompress(data, member.file_size + 1)
            except zlib.error as error:
                raise ModelError(f"{self.path}: its member {name} is damaged ({error})") from error
        if len(data) != member.file_size or zlib.crc32(data) != member.CRC:
            raise ModelError(f"{self.path}: its member {name} is damaged (wrong CRC); copy or download it again")
        return data


def open_archive(path: Path, limits: Limits, deflated: str = "") -> Archive:
    """Check a zip archive of torch.

    Args:
        path: the file.
        limits: how many members there may be, and how much they may unpack to.
        deflated: the folder in its root whose members may be compressed; "" where none may.

    Raises:
        RefusedError: no honest tool writes it.
        ModelError: it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            directory = archive.start_dir
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, struct.error) as error:
        raise ModelError(f"{path}: is truncated or damaged ({error}); copy or download it again") from error
    limits.check("members", len(members), str(path))
    by_name = {member.filename: member for member in members}
    if len(by_name) < len(members):
        raise RefusedError(f"{path}: the archive lists a member twice, which no honest tool does; refused")
    roots = [name.removesuffix("data.pkl") for name in by_name if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise RefusedError(f"{path}: the archive holds {len(roots)} files data.pkl where torch writes one; refused")
    for member in members:
        _check_member(path, member, f"{roots[0]}{deflated}" if deflated else None, limits)
    unpacked = sum(member.file_size for member in members)
    if unpacked > _HARMLESS:
        limits.check("ratio", unpacked // path.stat().st_size, str(path))
    return Archive(path, roots[0], by_name, _starts(path, members, directory), limits)


def _check_member(path: Path, member: zipfile.ZipInfo, deflated: str | None, limits: Limits) -> None:
    limits.check("name_bytes", len(member.filename), f"{path}, a member")
    if member.flag_bits & _ENCRYPTED:
        raise RefusedError(f"{path}: the archive is encrypted, which torch.save never does; refused")
    if member.compress_type == zipfile.ZIP_STORED:
        if member.compress_size != member.file_size:
            raise ModelError(f"{path}: its member {member.filename!r} has two sizes; copy or download it again")
        return
    packed = member.compress_type == zipfile.ZIP_DEFLATED and deflated is not None
    if not packed or not member.filename.startswith(deflated or ""):
        raise RefusedError(f"{path}: the archive is compressed, which torch.save never does; refused")


def _starts(path: Path, members: list[zipfile.ZipInfo], directory: int) -> dict[str, int]:
    """Where each member's bytes begin, after its own header has been found to say what the directory says."""
    starts, spans = {}, []
    with path.open("rb") as file:
        for member in members:
            begin = starts[member.filename] = _start(path, file, member)
            spans.append((member.header_offset, begin + member.compress_size))
    spans.sort()
    spans.append((directory, directory))
    if any(end > following for (_, end), (following, _) in pairwise(spans)):
        raise RefusedError(f"{path}: members of the archive overlap, which no honest tool writes; refused")
    return starts


def _start(path: Path, file: BinaryIO, member: zipfile.ZipInfo) -> int:
    file.seek(max(member.header_offset, 0))
    head = file.read(_LOCAL.size)
    if member.header_offset < 0 or len(head) < _LOCAL.size:
        raise ModelError(f"{path}: is truncated or damaged; copy or download it again")
    sign, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack(head)
    name = file.read(name_length)
    own = (flags & _ENCRYPTED, method, name.decode("utf-8" if flags & 0x800 else "cp437", "replace"))
    agree = sign == b"PK\x03\x04" and own == (0, member.compress_type, member.orig_filename)
    if not flags & _SIZES_FOLLOW:
        sizes = ((size, member.file_size), (packed, member.compress_size))
        agree = agree and crc == member.CRC and all(a in (b, 0xFFFFFFFF) for a, b in sizes)
    if not agree:
        raise RefusedError(f"{path}: a member's own header disagrees with the archive's directory; refused")
    begin: int = member.header_offset + _LOCAL.size + name_length + extra_length
    return begin
