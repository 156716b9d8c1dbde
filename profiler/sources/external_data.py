"""Tensors that an ONNX graph keeps in other files: which files these are, and whether they may be read.

A graph names such a file by a path, and whoever made the graph chose the path. It must be relative, without `..`, and
lead to a regular file in the model's own folder; or, where the model is a link (a cache that keeps files under their
hashes and links to them by name), in the folder of the file that the link leads to. Here files are only looked at with
`stat`; nothing is opened.
"""

import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path

from onnx import TensorProto

from profiler.errors import ModelError, RefusedError
from profiler.onnx_ops.value import BITS, bytes_of
from profiler.sources.onnx_parts import Parts, is_outside

_PARTS = re.compile(r"[/\\]")
_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:")
_NUMBER = re.compile(r"-?[0-9]{1,19}")
# How ONNX Runtime marks tensors in its own memory: what follows is an address.
_ADDRESS = "_ORT_MEM_ADDR_"


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file with tensors, looked at and not opened.

    Attributes:
        path: the file itself, links followed.
        device: number of the device that it is on.
        inode: its number there; with the device it names the file whatever happens to the path.
        size: in bytes.
    """

    path: Path
    device: int
    inode: int
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class OutsideTensor:
    """A tensor that lies in another file.

    Attributes:
        name: of the tensor.
        location: path of the file as the graph has it.
        file: the file, None where there is none.
        offset: of its first byte.
        bytes: how many belong to it.
    """

    name: str
    location: str
    file: DataFile | None
    offset: int
    bytes: int


def outside_tensors(parts: Parts, path: Path, *, trust: bool = False) -> tuple[OutsideTensor, ...]:
    """Find the tensors outside the file, in their order.

    Args:
        parts: of the graph.
        path: its file.
        trust: take files that have several names (hard links), which may be files from elsewhere.

    Raises:
        RefusedError: a path leads out of the model's folder, or to something that is no regular file of its own.
        ModelError: a tensor does not lie in its file as it says.
    """
    found: dict[str, DataFile | None] = {}
    tensors = []
    for name, tensor in parts.tensors:
        if not is_outside(tensor):
            continue
        entries = _entries(tensor, f"{path}: tensor {name!r}")
        location = entries.get("location", "")
        if location not in found:
            found[location] = _file(location, path, trust=trust)
        tensors.append(_placed(name, tensor, entries, found[location], path))
    return tuple(tensors)


def missing(tensors: Iterable[OutsideTensor]) -> tuple[str, ...]:
    """Paths of files that are not there, each once."""
    return tuple(dict.fromkeys(t.location for t in tensors if t.file is None))


def _entries(tensor: TensorProto, what: str) -> dict[str, str]:
    """Where a tensor lies, as key and value; keys that nobody knows are of no account."""
    keys = [entry.key for entry in tensor.external_data]
    if len(set(keys)) < len(keys):
        raise RefusedError(f"{what} says twice where it lies, which no honest tool does; refused")
    return {entry.key: entry.value for entry in tensor.external_data}


def _placed(
    name: str, tensor: TensorProto, entries: dict[str, str], file: DataFile | None, path: Path
) -> OutsideTensor:
    what = f"{path}: tensor {name!r}"
    if not BITS.get(tensor.data_type):
        raise ModelError(f"{what} has elements that cannot lie in another file; is the model damaged?")
    size = bytes_of(prod(tensor.dims), tensor.data_type)
    offset = _number(entries.get("offset", "0"), "offset", what)
    length = _number(entries.get("length", str(size)), "length", what)
    if length != size:
        raise ModelError(f"{what} of size {tuple(tensor.dims)} takes {size:,} bytes, the model says {length:,}")
    if file is not None and offset + length > file.size:
        raise ModelError(
            f"{what} should lie at bytes {offset:,} to {offset + length:,} of {file.path.name}, which has "
            f"{file.size:,}; copy or download both files again"
        )
    return OutsideTensor(name, entries["location"], file, offset, length)


def _number(text: str, what: str, where: str) -> int:
    if not _NUMBER.fullmatch(text) or int(text) < 0:
        raise ModelError(f"{where} has the impossible {what} {text[:40]!r}; the file is damaged")
    return int(text)


def _file(location: str, path: Path, *, trust: bool) -> DataFile | None:
    """The file that a path in a graph leads to, None where there is none.

    Raises:
        RefusedError: it is not one that the graph may ask for.
        ModelError: it cannot be looked at.
    """
    shown = f"{path}: keeps tensors in {location[:200]!r}, "
    _check_words(location, shown)
    try:
        # Both folders may be reached over links, which is the user's affair; only what the graph adds is not.
        folders = (path.parent.resolve(), path.resolve().parent)
        real = (path.parent / location).resolve()
        if not any(real.is_relative_to(folder) for folder in folders):
            raise RefusedError(f"{shown}which is a link out of the model's folder, to {real}; refused")
        found = real.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, RuntimeError, ValueError) as error:  # 3.11 raises RuntimeError for links in a circle
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ModelError(f"{shown}which cannot be looked at: {reason}") from error
    if not stat.S_ISREG(found.st_mode):
        raise RefusedError(f"{shown}which is no regular file; refused")
    if found.st_nlink > 1 and not trust:
        raise RefusedError(
            f"{shown}which has {found.st_nlink} names (hard links), so it may be a file from elsewhere. Stores that "
            "keep one copy of each file do this: if the folder is yours, pass --trust or put a copy in its place"
        )
    return DataFile(real, found.st_dev, found.st_ino, found.st_size)


def _check_words(location: str, shown: str) -> None:
    """The rules that a path must keep before any folder is looked into."""
    if not location:
        raise ModelError(f"{shown}which is no path; the file is damaged")
    if "\0" in location or _ADDRESS in location:
        raise RefusedError(f"{shown}which is no path of a file; refused")
    if _ABSOLUTE.match(location):
        raise RefusedError(f"{shown}an absolute path; a model may only name files in its own folder; refused")
    if ".." in _PARTS.split(location):
        raise RefusedError(f"{shown}a path with '..'; a model may only name files in its own folder; refused")
