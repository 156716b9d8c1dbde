"""Zip archives that two readers take for two things, or that grow when unpacked; and files of two kinds at once."""

import json
import struct
import zipfile
from pathlib import Path

from .assemble import (
    CENTRAL,
    END,
    LOCAL,
    mapping,
    patched,
    pickled,
    tensor,
    torch_members,
    zipped,
    zipped_pairs,
)
from .case import Case, Harmless, Scene
from .pickles import mkdir

STATE = pickled(mapping({"w": tensor((4,), (1,))}))


def state_zip() -> bytes:
    """A small state_dict as torch.save writes it."""
    return zipped(torch_members(STATE))


def changed(signature: bytes, offset: int, layout: str, value: int, nth: int = 0):
    """The small archive with one field of a header changed."""
    return lambda s: s.put("model.pt", patched(state_zip(), signature, offset, layout, value, nth))


def _crc(scene: Scene) -> Path:
    """A byte of the storage is not what the CRC says."""
    data = bytearray(zipped(torch_members(STATE, {"0": b"\x01\x02\x03\x04" * 4})))
    data[data.index(b"\x01\x02\x03\x04" * 4)] ^= 0xFF
    return scene.put("model.pt", bytes(data))


def _pickle_crc(scene: Scene) -> Path:
    data = bytearray(state_zip())
    data[data.index(b"_rebuild_tensor_v2") + 3] ^= 0x01
    return scene.put("model.pt", bytes(data))


def _duplicate(scene: Scene) -> Path:
    """The first pickle is evil, the second is not: Python's reader takes the last, torch's the first."""
    evil = torch_members(pickled(mkdir(scene)))
    return scene.put("model.pt", zipped_pairs([*evil.items(), ("m/data.pkl", STATE)]))


def _two_roots(scene: Scene) -> Path:
    evil = {name.replace("m/", "n/"): data for name, data in torch_members(pickled(mkdir(scene))).items()}
    return scene.put("model.pt", zipped({**torch_members(STATE), **evil}))


def _two_roots_evil_first(scene: Scene) -> Path:
    evil = {name.replace("m/", "n/"): data for name, data in torch_members(pickled(mkdir(scene))).items()}
    return scene.put("model.pt", zipped({**evil, **torch_members(STATE)}))


def _other_case(scene: Scene) -> Path:
    return scene.put("model.pt", zipped({**torch_members(pickled(mkdir(scene))), "m/DATA.PKL": STATE}))


def _overlapping(scene: Scene) -> Path:
    """Two entries of the directory point to the same local header."""
    data = zipped(torch_members(STATE, {"0": bytes(16), "1": bytes(16)}))
    return scene.put("model.pt", patched(data, CENTRAL, 42, "<I", 0, 5))


def _other_local_name(scene: Scene) -> Path:
    data = state_zip()
    return scene.put("model.pt", data.replace(b"m/data.pkl", b"m/fata.pkl", 1))


def _zip64(scene: Scene) -> Path:
    """The directory says that a storage has 2**62 bytes."""
    data = state_zip()
    at = data.index(b"m/data/0", data.index(CENTRAL)) - 46
    extra = struct.pack("<HHQQ", 1, 16, 1 << 62, 1 << 62)
    entry = bytearray(data[at : at + 46 + 8])
    struct.pack_into("<II", entry, 20, 0xFFFFFFFF, 0xFFFFFFFF)
    struct.pack_into("<H", entry, 30, len(extra))
    whole = bytearray(data[:at] + bytes(entry) + extra + data[at + 54 :])
    end = whole.rindex(END)
    struct.pack_into("<I", whole, end + 12, struct.unpack_from("<I", whole, end + 12)[0] + len(extra))
    return scene.put("model.pt", bytes(whole))


def _members(scene: Scene) -> Path:
    """A directory of 120,000 entries, all of them of one empty member."""
    local = struct.pack("<4sHHHHHIIIHH", LOCAL, 20, 0, 0, 0, 33, 0, 0, 0, 10, 0) + b"m/data.pkl"
    entries = []
    for n in range(120_000):
        name = b"m/data/%d" % n if n else b"m/data.pkl"
        entries.append(
            struct.pack("<4sHHHHHHIIIHHHHHII", CENTRAL, 20, 20, 0, 0, 0, 33, 0, 0, 0, len(name), 0, 0, 0, 0, 0, 0)
            + name
        )
    directory = b"".join(entries)
    start, size = len(local), len(directory)
    end64 = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, len(entries), len(entries), size, start)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, start + size, 1)
    end = struct.pack("<4sHHHHIIH", END, 0, 0, 0xFFFF, 0xFFFF, size, start, 0)
    return scene.put("model.pt", local + directory + end64 + locator + end)


def _deflated_storage(scene: Scene) -> Path:
    """A storage of 64 MiB in 64 KiB."""
    size = 64 << 20
    body = pickled(mapping({"w": tensor((size // 4,), (1,), stored=_storage(size // 4))}))
    return scene.put("model.pt", zipped(torch_members(body, {"0": bytes(size)}), zipfile.ZIP_DEFLATED))


def _storage(elements: int) -> bytes:
    from .assemble import storage

    return storage(elements=elements)


def _deflated_pickle(scene: Scene) -> Path:
    """A pickle of 300 MiB that does nothing, in 300 KiB."""
    return scene.put("model.pt", zipped(torch_members(b"\x80\x02" + b"N0" * (150 << 20) + b"N."), zipfile.ZIP_DEFLATED))


def _prefixed(scene: Scene) -> Path:
    """A shell script with an archive behind it."""
    return scene.put("model.pt", b"#!/bin/sh\nmkdir canary\nexit\n" + state_zip())


def _comment(scene: Scene) -> Path:
    """A second end of the directory in the comment of the first."""
    data = state_zip()
    comment = data[data.rindex(END) :]
    return scene.put("model.pt", data[:-2] + struct.pack("<H", len(comment)) + comment)


def _second_archive(scene: Scene) -> Path:
    return scene.put("model.pt", zipped(torch_members(pickled(mkdir(scene)))) + state_zip())


def _traversal(scene: Scene) -> Path:
    return scene.put("model.pt", zipped({**torch_members(STATE), "../../canary": b"x", "/tmp/canary": b"x"}))


def _symlink_member(scene: Scene) -> Path:
    data = zipped(torch_members(STATE))
    path = scene.put("model.pt", data)
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("m/data/1")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, str(scene.secret))
    return path


def _no_model(scene: Scene) -> Path:
    return scene.put("model.zip", zipped({"readme.txt": b"hello", "model.onnx": b"x"}))


def _cut(scene: Scene) -> Path:
    data = state_zip()
    return scene.put("model.pt", data[: data.index(CENTRAL) + 20])


# Files of two kinds.

HEADER = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
SAFE = struct.pack("<Q", len(HEADER)) + HEADER + bytes(16)


def _safetensors_and_zip(scene: Scene) -> Path:
    return scene.put("model.safetensors", SAFE + zipped(torch_members(pickled(mkdir(scene)))))


def _zip_in_the_tensor(scene: Scene) -> Path:
    """A whole safetensors file whose tensor is an archive."""
    inner = zipped(torch_members(pickled(mkdir(scene))))
    header = json.dumps({"w": {"dtype": "U8", "shape": [len(inner)], "data_offsets": [0, len(inner)]}}).encode()
    return scene.put("model.safetensors", struct.pack("<Q", len(header)) + header + inner)


def _onnx_and_zip(scene: Scene) -> Path:
    from .onnx_files import small

    return scene.put("model.onnx", small().SerializeToString() + zipped(torch_members(pickled(mkdir(scene)))))


def _pickle_and_zip(scene: Scene) -> Path:
    return scene.put("model.pt", pickled(mkdir(scene)) + state_zip())


def _script_and_program(scene: Scene) -> Path:
    members = {
        **torch_members(STATE),
        "m/constants.pkl": STATE,
        "m/archive_format": b"pt2",
        "m/models/model.json": b"{}",
    }
    return scene.put("model.pt2", zipped(members))


def _index_and_header(scene: Scene) -> Path:
    """Eight characters that are a length, too: {"weight is 2.3e18, more than the file."""
    return scene.put("model.safetensors.index.json", b'{"weight":{"weight_map":{"w":"../outside/secret.bin"}}}')


def _tar(scene: Scene) -> Path:
    import io
    import tarfile

    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in {
            "storages": b"",
            "tensors": b"",
            "pickle": pickled(mkdir(scene)),
            "../../canary": b"x",
        }.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return scene.put("model.tar", file.getvalue())


_DAMAGED = "damaged|truncated|refused"
CASES: dict[str, Case] = {
    "zip, wrong CRC of the pickle": Case(_pickle_crc, _DAMAGED, (3, 4)),
    "zip, a member twice": Case(_duplicate, "twice", naive="torch.load"),
    "zip, two roots": Case(_two_roots, "root|two|2 files data.pkl"),
    "zip, two roots, the evil one first": Case(_two_roots_evil_first, "root|two|2 files data.pkl|run code"),
    "zip, names that differ in case": Case(_other_case, "run code|case", naive="torch.load"),
    "zip, encrypted": Case(changed(CENTRAL, 8, "<H", 1), "encrypt|damaged|refused", (3, 4)),
    "zip, locally encrypted": Case(changed(LOCAL, 6, "<H", 1), "encrypt|damaged|refused", (3, 4)),
    "zip, overlapping members": Case(_overlapping, "overlap|damaged|refused", (3, 4)),
    "zip, other name in the local header": Case(_other_local_name, _DAMAGED, (3, 4)),
    "zip, unknown compression": Case(changed(CENTRAL, 10, "<H", 99), "compress|damaged", (3, 4)),
    "zip, local header elsewhere": Case(changed(CENTRAL, 42, "<I", 1 << 30), "stand before|" + _DAMAGED, (3, 4)),
    "zip, directory elsewhere": Case(changed(END, 16, "<I", 1 << 30), _DAMAGED, (3, 4)),
    "zip, directory of 4 GiB": Case(changed(END, 12, "<I", 0xFFFFFFF0), _DAMAGED, (3, 4)),
    "zip, storage of 2**62 bytes": Case(_zip64, "storage|damaged|bytes|times its size", (3, 4)),
    "zip, member larger than the file": Case(
        changed(CENTRAL, 24, "<I", 1 << 30, 4), "storage|damaged|bytes|two sizes", (3, 4)
    ),
    "zip, pickle larger than the file": Case(changed(CENTRAL, 24, "<I", 1 << 30, 0), "bytes|damaged|two sizes", (3, 4)),
    "zip, 120,000 members": Case(_members, "members"),
    "zip, deflated storage": Case(_deflated_storage, "compressed|times its size"),
    "zip, deflated pickle": Case(_deflated_pickle, "compressed|times its size"),
    "zip, an archive before the archive": Case(_second_archive, "stand before"),
    "zip, a script before it": Case(_prefixed, "stand before"),
    "zip, cut in its directory": Case(_cut, _DAMAGED, (4,)),
    "zip, without a model": Case(_no_model, "without a model", (4,)),
    "two kinds, safetensors and zip": Case(_safetensors_and_zip, "at once", naive="zip in it"),
    "two kinds, zip in a safetensors tensor": Case(_zip_in_the_tensor, "at once", naive="zip in it"),
    "two kinds, ONNX and zip": Case(_onnx_and_zip, "at once", naive="zip in it"),
    "two kinds, pickle and zip": Case(_pickle_and_zip, "at once", naive="pickle"),
    "two kinds, TorchScript and program": Case(_script_and_program, "at once"),
    "two kinds, JSON as a header": Case(_index_and_header, ".", (3, 4)),
    "tar, old torch.save": Case(_tar, "tar archive"),
}
HARMLESS: dict[str, Harmless] = {
    "zip, wrong CRC of a storage": Harmless(_crc, ("w|damaged",), codes=(0, 3, 4)),
    "zip, 65,534 entries announced": Harmless(changed(END, 10, "<H", 0xFFFE), ("w|damaged",), codes=(0, 3, 4)),
    "zip, comment with a directory's end": Harmless(_comment, ("w",), codes=(0, 3, 4)),
    "zip, members that would climb out": Harmless(_traversal, ("w",), codes=(0, 3)),
    "zip, member that is a link": Harmless(_symlink_member, ("w",), codes=(0, 3)),
}
