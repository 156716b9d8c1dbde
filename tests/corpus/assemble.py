"""Pickles written opcode by opcode, and zip archives written field by field."""

import io
import struct
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

PROTO2, PROTO4, STOP = b"\x80\x02", b"\x80\x04", b"."
MARK, TUPLE, TUPLE1, TUPLE2, TUPLE3, EMPTY_TUPLE = b"(", b"t", b"\x85", b"\x86", b"\x87", b")"
EMPTY_DICT, EMPTY_LIST, SETITEM, SETITEMS, APPEND, APPENDS = b"}", b"]", b"s", b"u", b"a", b"e"
REDUCE, BUILD, NEWOBJ, NEWOBJ_EX, OBJ, STACK_GLOBAL = b"R", b"b", b"\x81", b"\x92", b"o", b"\x93"
BINPERSID, POP, DUP, MEMOIZE, NONE = b"Q", b"0", b"2", b"\x94", b"N"


def text(value: str) -> bytes:
    """BINUNICODE."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def blob(value: bytes) -> bytes:
    """BINBYTES."""
    return b"B" + struct.pack("<I", len(value)) + value


def number(value: int) -> bytes:
    """BININT where it fits, else LONG1."""
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def name(module: str, attribute: str) -> bytes:
    """GLOBAL."""
    return b"c" + f"{module}\n{attribute}\n".encode()


def put(index: int) -> bytes:
    """BINPUT."""
    return b"q" + bytes([index])


def get(index: int) -> bytes:
    """BINGET."""
    return b"h" + bytes([index])


def sequence(*items: bytes) -> bytes:
    """A tuple of what the items push."""
    return MARK + b"".join(items) + TUPLE


def mapping(items: Mapping[str, bytes]) -> bytes:
    """A dictionary of what the items push."""
    pairs = b"".join(text(key) + value for key, value in items.items())
    return EMPTY_DICT + MARK + pairs + SETITEMS


def call(module: str, attribute: str, *args: bytes) -> bytes:
    """The function with these arguments, by GLOBAL and REDUCE."""
    return name(module, attribute) + sequence(*args) + REDUCE


def instance(module: str, attribute: str, state: Mapping[str, bytes] | None = None) -> bytes:
    """An object of a class, made bare, with a state."""
    bare = name(module, attribute) + EMPTY_TUPLE + NEWOBJ
    return bare if state is None else bare + mapping(state) + BUILD


def storage(key: str = "0", elements: int = 4, kind: str = "FloatStorage") -> bytes:
    """A reference to a storage, as torch.save writes it."""
    parts = (text("storage"), name("torch", kind), text(key), text("cpu"), number(elements))
    return sequence(*parts) + BINPERSID


def tensor(shape: Iterable[int], stride: Iterable[int], offset: int = 0, stored: bytes = b"") -> bytes:
    """A tensor over a storage, as torch.save writes it."""
    return call(
        "torch._utils",
        "_rebuild_tensor_v2",
        stored or storage(),
        number(offset),
        sequence(*map(number, shape)),
        sequence(*map(number, stride)),
        b"\x89",
        call("collections", "OrderedDict"),
    )


def pickled(body: bytes, protocol: bytes = PROTO2) -> bytes:
    """A whole pickle of what the body pushes."""
    return protocol + body + STOP


def torch_members(pickle: bytes, storages: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    """Members of a torch.save archive."""
    stored = {"0": bytes(16)} if storages is None else storages
    return {
        "m/data.pkl": pickle,
        "m/.format_version": b"1",
        "m/.storage_alignment": b"64",
        "m/byteorder": b"little",
        **{f"m/data/{key}": value for key, value in stored.items()},
        "m/version": b"3\n",
    }


def zipped(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive of them, whole and right."""
    return zipped_pairs(members.items(), compression)


def zipped_pairs(members: Iterable[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    """The same of pairs; a name may come twice."""
    import warnings

    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about names that come twice
        with zipfile.ZipFile(file, "w", compression) as archive:
            for member, data in members:
                info = zipfile.ZipInfo(member)
                info.compress_type = compression
                archive.writestr(info, data)
    return file.getvalue()


def unzipped(data: bytes) -> dict[str, bytes]:
    """The members of an archive."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def torch_zip(body: bytes, storages: Mapping[str, bytes] | None = None, protocol: bytes = PROTO2) -> bytes:
    """A torch.save archive whose pickle is the body."""
    return zipped(torch_members(pickled(body, protocol), storages))


# Where fields lie in the headers of a zip archive, from their signatures.
CENTRAL, LOCAL, END = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"


def patched(data: bytes, signature: bytes, offset: int, layout: str, value: Any, nth: int = 0) -> bytes:
    """The archive with one field of its nth header of that kind changed."""
    at = -1
    for _ in range(nth + 1):
        at = data.index(signature, at + 1)
    changed = bytearray(data)
    struct.pack_into(layout, changed, at + offset, value)
    return bytes(changed)
