"""Mutations of files: blind ones of bytes, and ones that know a zip archive, a pickle, JSON or a protobuf message.

Everything is drawn from one `random.Random`, so that a seed and a number give the same file again.
"""

import io
import json
import pickletools
import random
import struct
import zipfile
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import onnx

from .assemble import CENTRAL, END, LOCAL, zipped_pairs
from .seeds import Files

NUMBERS = (0, 1, -1, 2, 7, 255, 256, 65535, 1 << 20, (1 << 31) - 1, -(1 << 31), 1 << 32, (1 << 63) - 1, -(1 << 63))
TEXTS = ("", "a", "../x", "/etc/passwd", "\x00", "\x1b[2J", "</script>", "é\u202e", "n" * 5000, "0", "-1", "__class__")
VALUES = (None, True, False, 1.5, 1e308, [], {}, [[]], *NUMBERS, *TEXTS, 10**40)

Draw = random.Random


# Bytes.


def _flip(draw: Draw, data: bytearray) -> None:
    for _ in range(draw.choice((1, 1, 2, 8, 64))):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def _truncate(draw: Draw, data: bytearray) -> None:
    del data[draw.randrange(len(data)) :]


def _insert(draw: Draw, data: bytearray) -> None:
    at = draw.randrange(len(data) + 1)
    data[at:at] = draw.choice((draw.randbytes(draw.randint(1, 64)), bytes(draw.randint(1, 4096))))


def _delete(draw: Draw, data: bytearray) -> None:
    at = draw.randrange(len(data))
    del data[at : at + draw.choice((1, 2, 4, 8, 64))]


def _repeat(draw: Draw, data: bytearray) -> None:
    at = draw.randrange(len(data))
    data[at:at] = data[at : at + draw.randint(1, 64)] * draw.choice((1, 2, 100))


def _number(draw: Draw, data: bytearray) -> None:
    """A number of 1 to 8 bytes over what was there: most length fields look like one."""
    layout, bits = draw.choice((("<B", 8), ("<H", 16), ("<I", 32), ("<Q", 64), (">I", 32)))
    size = bits // 8
    if len(data) >= size:
        struct.pack_into(layout, data, draw.randrange(len(data) - size + 1), draw.choice(NUMBERS) % (1 << bits))


def _swap(draw: Draw, data: bytearray) -> None:
    a, b, size = draw.randrange(len(data)), draw.randrange(len(data)), draw.randint(1, 32)
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]


BYTES: tuple[Callable[[Draw, bytearray], None], ...] = (_flip, _truncate, _insert, _delete, _repeat, _number, _swap)


def mutate_bytes(draw: Draw, data: bytes) -> bytes:
    """One to three blind mutations."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        if changed:
            draw.choice(BYTES)(draw, changed)
    return bytes(changed)


def splice(draw: Draw, data: bytes, other: bytes) -> bytes:
    """The beginning of one file and the end of another, or one within the other."""
    a, b = draw.randrange(len(data) + 1), draw.randrange(len(other) + 1)
    return draw.choice((data[:a] + other[b:], data[:a] + other + data[a:], data + other))


# JSON.


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every container with every key or index in it."""
    found, pending = [], [tree]
    while pending:
        node = pending.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            found.append((node, key))
            pending.append(node[key])
    return found


def mutate_json(draw: Draw, data: bytes) -> bytes:
    """Values replaced, removed, renamed, moved or put twice."""
    tree = json.loads(data)
    for _ in range(draw.choice((1, 1, 2, 3))):
        places = _places(tree)
        if not places:
            break
        node, key = draw.choice(places)
        kind = draw.randrange(6)
        if kind == 0:
            del node[key]
        elif kind == 1 and isinstance(node, dict):
            node[draw.choice(TEXTS)] = node.pop(key)
        elif kind == 2:
            other, there = draw.choice(places)
            node[key] = json.loads(json.dumps(other[there]))
        elif kind == 3 and isinstance(node, list):
            node[key:key] = [deepcopy(node[key]) for _ in range(draw.choice((1, 3, 300)))]
        elif kind == 4 and isinstance(node[key], int) and not isinstance(node[key], bool):
            node[key] += draw.choice((-1, 1, 1 << 31, -(1 << 31)))
        else:
            node[key] = deepcopy(draw.choice(VALUES))
    text = json.dumps(tree)
    if draw.random() < 0.1:
        text = "{" + text[1:-1] + "," + text[1:-1] + "}"  # every key twice
    return text.encode()


# Pickles.


def mutate_pickle(draw: Draw, data: bytes) -> bytes:
    """Opcodes removed, doubled, exchanged, or with another argument."""
    try:
        starts = [at for _, _, at in pickletools.genops(data)]
    except Exception:  # noqa: BLE001  # a legacy file: storages follow, or another pickle
        return mutate_bytes(draw, data)
    end = data.index(b".", starts[-1]) + 1
    steps = [data[a:b] for a, b in zip(starts, [*starts[1:], end], strict=True)]
    for _ in range(draw.choice((1, 1, 2, 4))):
        at, other = draw.randrange(len(steps)), draw.randrange(len(steps))
        kind = draw.randrange(6)
        if kind == 0 and len(steps) > 1:
            del steps[at]
        elif kind == 1:
            steps[at:at] = [steps[other]] * draw.choice((1, 2, 50))
        elif kind == 2:
            steps[at], steps[other] = steps[other], steps[at]
        elif kind == 3:
            steps[at] = steps[other]
        elif kind == 4:
            steps[at] = draw.choice(STEPS)
        else:
            changed = bytearray(steps[at])
            changed[draw.randrange(len(changed))] = draw.randrange(256)
            steps[at] = bytes(changed)
    return b"".join(steps) + data[end:]


STEPS = (
    *(b"(", b"t", b"0", b"2", b"1", b"N", b"}", b"]", b")", b"R", b"b", b"\x81", b"\x92", b"o", b"Q", b"s", b"u", b"a"),
    *(b"e", b"\x85", b"\x86", b"\x87", b"\x93", b"\x94", b".", b"h\x00", b"q\x00", b"\x8f", b"\x90", b"\x91", b"K\x00"),
    *(b"J\xff\xff\xff\x7f", b"J\x00\x00\x00\x80", b"\x8a\x09" + b"\xff" * 8 + b"\x7f", b"G\x7f\xf0" + bytes(6)),
    *(b"cos\nsystem\n", b"cbuiltins\neval\n", b"ctorch\nFloatStorage\n", b"ctorch.nn.modules.linear\nLinear\n"),
    *(b"ctorch._utils\n_rebuild_tensor_v2\n", b"X\x01\x00\x00\x00w", b"\x88", b"\x89", b"B\x01\x00\x00\x00w"),
)


# Zip archives, put together anew so that their checksums hold.


def mutate_zip(draw: Draw, data: bytes) -> bytes:
    """A member changed by what it is, renamed, dropped, doubled or compressed; or a field of a header."""
    if draw.random() < 0.25:
        return _mutate_headers(draw, data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    kind = draw.randrange(10)
    at = draw.randrange(len(members))
    name, content = members[at]
    if kind == 0:
        del members[at]
    elif kind == 1:
        members[at] = (
            draw.choice((name + "x", name.upper(), "../" + name, name.replace("/", "\\"), *TEXTS[1:])),
            content,
        )
    elif kind == 2:
        members.insert(draw.randrange(len(members) + 1), (name, content))
    elif kind == 3:
        members[at] = (name, draw.choice(members)[1])
    else:
        likely = [n for n, (m, _) in enumerate(members) if m.endswith((".pkl", ".json", ".py"))] or [at]
        at = draw.choice((draw.choice(likely), draw.choice(likely), at))
        name, content = members[at]
        members[at] = (name, mutate_member(draw, name, content))
    compression = zipfile.ZIP_DEFLATED if draw.random() < 0.05 else zipfile.ZIP_STORED
    return zipped_pairs(members, compression)


def mutate_member(draw: Draw, name: str, content: bytes) -> bytes:
    """A member by its kind."""
    if not content:
        return draw.randbytes(4)
    if name.endswith(".json") and draw.random() < 0.8:
        return mutate_json(draw, content)
    if name.endswith("pkl") and draw.random() < 0.8:
        return mutate_pickle(draw, content)
    return mutate_bytes(draw, content)


_FIELDS = {LOCAL: (30, 4), CENTRAL: (46, 4), END: (22, 4)}


def _mutate_headers(draw: Draw, data: bytes) -> bytes:
    signature = draw.choice(list(_FIELDS))
    length, skipped = _FIELDS[signature]
    starts = [at for at in range(len(data)) if data.startswith(signature, at)]
    at = draw.choice(starts) + draw.randrange(skipped, length - 1)
    layout, bits = draw.choice((("<H", 16), ("<I", 32)))
    changed = bytearray(data)
    if at + bits // 8 <= len(changed):
        struct.pack_into(layout, changed, at, draw.choice((*NUMBERS, draw.randrange(1 << bits))) % (1 << bits))
    return bytes(changed)


# safetensors: the header is JSON, and its length is made to fit again.


def mutate_safetensors(draw: Draw, data: bytes) -> bytes:
    """The header as JSON, with the right length most of the time."""
    length = int.from_bytes(data[:8], "little")
    header = mutate_json(draw, data[8 : 8 + length])
    told = len(header) if draw.random() < 0.9 else draw.choice(NUMBERS) % (1 << 64)
    return struct.pack("<Q", told) + header + data[8 + length :]


# ONNX: fields of the messages themselves.


def _messages(message: Any) -> list[Any]:
    """The message and all that lie in it."""
    found, pending = [], [message]
    while pending:
        node = pending.pop()
        found.append(node)
        for field, value in node.ListFields():
            if field.message_type:
                pending += value if _many(field) else [value]
    return found


def _many(field: Any) -> bool:
    return bool(getattr(field, "is_repeated", None)) if hasattr(field, "is_repeated") else field.label == 3


def _drawn(draw: Draw, field: Any) -> Any:
    """A value of the field's type."""
    code = field.type
    if code in (5, 14):  # int32, enum
        return draw.choice((*range(30), 1 << 20, -1))
    if code in (3, 4):  # int64, uint64
        return abs(draw.choice(NUMBERS)) if code == 4 else draw.choice((*NUMBERS, 1 << 40))
    if code in (1, 2):
        return draw.choice((0.0, 1.0, -1.0, 1e30, float("inf"), float("nan")))
    if code == 8:
        return draw.random() < 0.5
    text = draw.choice((*TEXTS, "x", "y", "w", "Conv", "Reshape", "Loop", "com.microsoft", "data.bin"))
    return text.encode() if code == 12 else text


def mutate_onnx(draw: Draw, data: bytes) -> bytes:
    """Fields set, cleared, doubled, exchanged or moved between messages."""
    model = onnx.ModelProto.FromString(data)
    for _ in range(draw.choice((1, 1, 2, 3, 5))):
        messages = _messages(model)
        message = draw.choice(messages)
        try:
            _mutate_message(draw, message, messages)
        except (TypeError, ValueError, IndexError):  # it does not go in there
            continue
    return model.SerializeToString()


def _bytes(message: Any) -> bytes:
    """A copy that stays whole while a message is put into itself."""
    data: bytes = message.SerializePartialToString()
    return data


def _mutate_message(draw: Draw, message: Any, messages: list[Any]) -> None:
    fields = list(message.DESCRIPTOR.fields)
    present = [field for field, _ in message.ListFields()]
    field = draw.choice(present or fields) if draw.random() < 0.8 else draw.choice(fields)
    name = field.name
    kind = draw.randrange(5)
    if kind == 0:
        message.ClearField(name)
    elif _many(field):
        values = getattr(message, name)
        if field.message_type:
            alike = [m for m in messages if m.DESCRIPTOR is field.message_type]
            if kind == 1 and len(values):
                del values[draw.randrange(len(values))]
            elif alike:
                values.add().MergeFromString(_bytes(draw.choice(alike)))
        elif kind < 3 and len(values):
            values[draw.randrange(len(values))] = _drawn(draw, field)
        elif kind == 3 and len(values):
            del values[draw.randrange(len(values))]
        else:
            values.append(_drawn(draw, field))
    elif field.message_type:
        alike = [m for m in messages if m.DESCRIPTOR is field.message_type]
        if alike:
            copied = _bytes(draw.choice(alike))
            message.ClearField(name)
            getattr(message, name).MergeFromString(copied)
    else:
        setattr(message, name, _drawn(draw, field))


def _legacy(draw: Draw, data: bytes) -> bytes:
    """One of the pickles that a legacy file is a row of."""
    starts, at = [0], 0
    for _ in range(4):
        file = io.BytesIO(data[at:])
        for _step in pickletools.genops(file):
            pass
        at += file.tell()
        starts.append(at)
    part = draw.choice((2, 3, 3, 3, 4))
    ends = [*starts[1:], len(data)]
    start, end = starts[part], ends[part]
    changed = mutate_pickle(draw, data[start:end]) if data[start:end] else b""
    return data[:start] + changed + data[end:]


# By kind: what knows its structure.
STRUCTURED: dict[str, Callable[[Draw, bytes], bytes]] = {
    "state_dict": mutate_zip,
    "checkpoint": mutate_zip,
    "module": mutate_zip,
    "recurrent": mutate_zip,
    "legacy": _legacy,
    "legacy module": _legacy,
    "torchscript": mutate_zip,
    "program": mutate_zip,
    "safetensors": mutate_safetensors,
    "onnx": mutate_onnx,
    "onnx control": mutate_onnx,
    "onnx external": mutate_onnx,
}


def mutated(draw: Draw, kind: str, all_seeds: dict[str, Files]) -> Files:
    """A mutated set of files of a kind."""
    files = dict(all_seeds[kind])
    names = list(files)
    name = names[0] if draw.random() < 0.7 else draw.choice(names)
    data = files[name]
    roll = draw.random()
    if roll < 0.3:
        files[name] = mutate_bytes(draw, data)
    elif roll < 0.35:
        other = draw.choice(list(all_seeds))
        files[name] = splice(draw, data, next(iter(all_seeds[other].values())))
    elif name.endswith(".json"):
        files[name] = mutate_json(draw, data)
    elif name.endswith(".safetensors"):
        files[name] = mutate_safetensors(draw, data)
    elif kind in STRUCTURED and name == names[0]:
        files[name] = STRUCTURED[kind](draw, data)
    else:
        files[name] = mutate_bytes(draw, data)
    return files
