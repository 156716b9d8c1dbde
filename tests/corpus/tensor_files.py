"""safetensors files whose header lies, and indexes of shards that point elsewhere."""

import json
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .case import Case, Harmless, Scene


def safe(header: Mapping[str, Any] | bytes | str, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file of a header and what follows it."""
    raw = header if isinstance(header, bytes) else (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(shape: tuple[Any, ...] = (4,), start: Any = 0, end: Any = 16, dtype: Any = "F32") -> dict[str, Any]:
    """What a header says of a tensor."""
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


def of(header: Mapping[str, Any] | bytes | str, size: int = 16, length: int | None = None) -> Callable[[Scene], Path]:
    """A file of this header and as many bytes of data."""
    return lambda s: s.put("model.safetensors", safe(header, bytes(size), length))


def _long_header(scene: Scene) -> Path:
    """A header of 300 MB, the most of it a hole in the file."""
    path = scene.put("model.safetensors", struct.pack("<Q", 300_000_000) + json.dumps({"w": entry()}).encode())
    os.truncate(path, 300_000_024)
    return path


def _sparse(scene: Scene) -> Path:
    """A file of 2 TiB that takes no room, whose header claims 1 TiB."""
    path = scene.put("model.safetensors", struct.pack("<Q", 1 << 40) + b'{"w":')
    os.truncate(path, 2 << 40)
    return path


def _many(scene: Scene) -> Path:
    """A million and a half empty tensors."""
    names = ",".join(f'"{n}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for n in range(1_500_000))
    return scene.put("model.safetensors", safe("{" + names + "}"))


_BAD = "safetensors|header|offset|damaged|beyond|bytes|hole|overlap|shape"
SAFETENSORS: dict[str, Case] = {
    "length beyond the file": Case(of({"w": entry()}, length=1 << 30), _BAD, (3, 4)),
    "length of 2**64 - 1": Case(of({"w": entry()}, length=(1 << 64) - 1), "kind|" + _BAD, (3, 4)),
    "length of 0": Case(of({"w": entry()}, length=0), "kind|" + _BAD, (3, 4)),
    "length of 1": Case(of({"w": entry()}, length=1), "kind|" + _BAD, (3, 4)),
    "length cuts the header": Case(of({"w": entry()}, length=12), _BAD, (3, 4)),
    "header of 300 MB": Case(_long_header, _BAD, (3, 4)),
    "sparse file of 2 TiB": Case(_sparse, _BAD, (3, 4)),
    "1,500,000 tensors": Case(_many, "tensors|header", (3, 4)),
    "overlapping tensors": Case(of({"a": entry(), "b": entry(start=8, end=24)}, 24), _BAD, (3, 4)),
    "the same bytes twice": Case(of({"a": entry(), "b": entry()}), _BAD, (3, 4)),
    "a hole": Case(of({"a": entry(), "b": entry(start=32, end=48)}, 48), _BAD, (3, 4)),
    "bytes before the first": Case(of({"a": entry(start=16, end=32)}, 32), _BAD, (3, 4)),
    "bytes after the last": Case(of({"a": entry()}, 1 << 16), _BAD, (3, 4)),
    "offsets beyond the file": Case(of({"a": entry(end=1 << 40)}), _BAD, (3, 4)),
    "offsets reversed": Case(of({"a": entry(start=16, end=0)}), _BAD, (3, 4)),
    "negative offsets": Case(of({"a": entry(start=-16, end=0)}), _BAD, (3, 4)),
    "offsets that are no numbers": Case(of({"a": entry(end="16")}), _BAD, (3, 4)),
    "fractional offsets": Case(of({"a": entry(end=16.5)}), _BAD, (3, 4)),
    "negative size": Case(of({"a": entry((-4,))}), _BAD, (3, 4)),
    "sizes that overflow": Case(of({"a": entry((1 << 33, 1 << 33, 0x10))}), _BAD, (3, 4)),
    "sizes that wrap around to fit": Case(of({"a": entry((1 << 32, 1 << 32, 4))}), _BAD, (3, 4)),
    "size of 100 digits": Case(
        of(f'{{"w":{{"dtype":"F32","shape":[{"9" * 100}],"data_offsets":[0,16]}}}}'), _BAD, (3, 4)
    ),
    "size of 10,000 digits": Case(
        of(f'{{"w":{{"dtype":"F32","shape":[{"9" * 10000}],"data_offsets":[0,16]}}}}'), _BAD, (3, 4)
    ),
    "100,000 dimensions": Case(of({"a": entry((1,) * 100_000, end=4)}, 4), "dimension|" + _BAD, (3, 4)),
    "unknown dtype": Case(of({"a": entry(dtype="F33")}), "F33|" + _BAD, (3, 4)),
    "dtype that is no text": Case(of({"a": entry(dtype=["F32"])}), _BAD, (3, 4)),
    "shape that is a dictionary": Case(of({"a": {**entry(), "shape": {"0": 4}}}), _BAD, (3, 4)),
    "entry that is a list": Case(of({"a": [1, 2]}), _BAD, (3, 4)),
    "entry without offsets": Case(of({"a": {"dtype": "F32", "shape": [4]}}), _BAD, (3, 4)),
    "header that is a list": Case(of(b"[1, 2, 3, 4, 5, 6]"), "kind|" + _BAD, (3, 4)),
    "header that is no JSON": Case(of(b"{'w': 1}"), _BAD, (3, 4)),
    "header that is no UTF-8": Case(of(b'{"\xff\xfe":1}'), _BAD, (3, 4)),
    "header cut": Case(of(b'{"w":{"dtype":"F32"'), _BAD, (3, 4)),
    "a name twice": Case(
        of('{"w":' + json.dumps(entry()) + ',"w":' + json.dumps(entry((2, 2))) + "}"), "twice|duplicate|" + _BAD, (3, 4)
    ),
    "a key twice": Case(
        of('{"w":{"dtype":"F32","dtype":"F16","shape":[4],"data_offsets":[0,16]}}'), "twice|duplicate|" + _BAD, (3, 4)
    ),
    "metadata that is no text": Case(of({"__metadata__": {"a": {"b": 1}}, "w": entry()}), "metadata|" + _BAD, (3, 4)),
    "JSON 100,000 deep": Case(of(b'{"w":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "nest|deep|" + _BAD, (3, 4)),
    "JSON dictionaries 100,000 deep": Case(of(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), "nest|deep|" + _BAD, (3, 4)),
    "NaN": Case(of('{"w":{"dtype":"F32","shape":[NaN],"data_offsets":[0,16]}}'), _BAD, (3, 4)),
    "name of a megabyte": Case(of({"n" * (1 << 20): entry()}), "name"),
    "zero bytes": Case(lambda s: s.put("model.safetensors", bytes(64)), "kind|" + _BAD, (3, 4)),
    "nothing behind the length": Case(lambda s: s.put("model.safetensors", struct.pack("<Q", 4) + b"{"), ".", (3, 4)),
}

INDEX = "model.safetensors.index.json"


def _shard(scene: Scene, name: str = "shard.safetensors") -> Path:
    return scene.put(name, safe({"w": entry()}, bytes(16)))


def _pointing(*names: Any) -> Callable[[Scene], Path]:
    """An index whose tensors lie in these files; `{outside}` stands for the folder of the secret."""

    def make(scene: Scene) -> Path:
        _shard(scene)
        (scene.outside / "shard.safetensors").write_bytes(safe({"w": entry()}, bytes(16)))
        filled = [n.format(outside=scene.outside) if isinstance(n, str) else n for n in names]
        weights = dict(zip(("w", "v", "u"), filled, strict=False))
        return scene.put(INDEX, json.dumps({"metadata": {"total_size": 16}, "weight_map": weights}).encode())

    return make


def _linked(target: Callable[[Scene], Path], *, folder: bool = False, hard: bool = False) -> Callable[[Scene], Path]:
    def make(scene: Scene) -> Path:
        (scene.outside / "shard.safetensors").write_bytes(safe({"w": entry()}, bytes(16)))
        link = scene.model / ("folder" if folder else "linked.safetensors")
        if hard:
            os.link(target(scene), link)
        else:
            link.symlink_to(target(scene))
        named = "folder/shard.safetensors" if folder else link.name
        return scene.put(INDEX, json.dumps({"metadata": {}, "weight_map": {"w": named}}).encode())

    return make


def raw_index(text: str | bytes) -> Callable[[Scene], Path]:
    """An index of this text."""
    return lambda s: s.put(INDEX, text if isinstance(text, bytes) else text.encode())


def _cyclic(scene: Scene) -> Path:
    """Two indexes that name each other."""
    for name, other in (("a", "b"), ("b", "a")):
        scene.put(f"{name}.index.json", json.dumps({"weight_map": {"w": f"{other}.index.json"}}).encode())
    return scene.model / "a.index.json"


def _many_shards(scene: Scene) -> Path:
    weights = {f"w{n}": f"shard-{n}.safetensors" for n in range(20_000)}
    return scene.put(INDEX, json.dumps({"weight_map": weights}).encode())


def _fifo_shard(scene: Scene) -> Path:
    os.mkfifo(scene.model / "shard.safetensors")
    return scene.put(INDEX, json.dumps({"weight_map": {"w": "shard.safetensors"}}).encode())


def _pickled_shard(scene: Scene) -> Path:
    from .assemble import torch_zip
    from .pickles import mkdir

    scene.put("shard.safetensors", torch_zip(mkdir(scene)))
    return scene.put(INDEX, json.dumps({"weight_map": {"w": "shard.safetensors"}}).encode())


_OUT = "outside|folder|shard|index|name"
INDEXES: dict[str, Case] = {
    "../": Case(_pointing("../outside/shard.safetensors"), _OUT, (3, 4)),
    "junk/../..": Case(_pointing("junk/../../outside/shard.safetensors"), _OUT, (3, 4)),
    "absolute": Case(_pointing("{outside}/shard.safetensors"), _OUT, (3, 4)),
    "/proc/self/environ": Case(_pointing("/proc/self/environ"), _OUT, (3, 4)),
    "backslashes": Case(_pointing("..\\outside\\shard.safetensors"), _OUT, (3, 4)),
    "good one and bad one": Case(_pointing("shard.safetensors", "../outside/shard.safetensors"), _OUT, (3, 4)),
    "linked file": Case(_linked(lambda s: s.outside / "shard.safetensors"), "link|" + _OUT, (3, 4)),
    "linked folder": Case(_linked(lambda s: s.outside, folder=True), "link|" + _OUT, (3, 4)),
    "link to /dev/zero": Case(_linked(lambda _: Path("/dev/zero")), "link|regular|" + _OUT, (3, 4)),
    "missing shard": Case(_pointing("missing.safetensors"), "missing", (3, 4)),
    "the folder itself": Case(_pointing("."), "folder|regular|" + _OUT, (3, 4)),
    "empty name": Case(_pointing(""), _OUT, (3, 4)),
    "name with NUL": Case(_pointing("shard\0.safetensors"), _OUT, (3, 4)),
    "name of a megabyte": Case(_pointing("n" * (1 << 20)), "name|long|" + _OUT, (3, 4)),
    "name that is a number": Case(_pointing(7), _OUT, (3, 4)),
    "name that is a list": Case(_pointing(["shard.safetensors"]), _OUT, (3, 4)),
    "itself": Case(_pointing(INDEX), _OUT, (3, 4)),
    "each other": Case(_cyclic, _OUT, (3, 4)),
    "20,000 shards": Case(_many_shards, "shard|files", (3, 4)),
    "named pipe": Case(_fifo_shard, "regular|pipe|" + _OUT, (3, 4)),
    "shard that is a pickle": Case(_pickled_shard, "shard|safetensors|kind", (3, 4)),
    "tensor that the shard lacks": Case(_pointing("shard.safetensors", "shard.safetensors"), "v|lacks|shard", (3, 4)),
    "weight_map that is a list": Case(raw_index('{"weight_map": ["shard.safetensors"]}'), "index|weight_map", (3, 4)),
    "no weight_map": Case(raw_index('{"metadata": {}}'), "index|weight_map", (3, 4)),
    "no JSON": Case(raw_index('{"weight_map": '), "index|JSON", (3, 4)),
    "no UTF-8": Case(raw_index(b'{"weight_map": {"\xff": "a"}}'), "index|JSON|text", (3, 4)),
    "JSON 100,000 deep": Case(
        raw_index('{"weight_map":' + "[" * 100_000 + "]" * 100_000 + "}"), "index|nest|deep", (3, 4)
    ),
    "number of 10,000 digits": Case(
        raw_index('{"metadata": {"total_size": ' + "9" * 10_000 + '}, "weight_map": {}}'),
        "index|number|weight_map",
        (3, 4),
    ),
    "a header that is an index": Case(
        lambda s: s.put("model.safetensors", safe({"weight_map": {"w": "../outside/shard.safetensors"}})), ".", (3, 4)
    ),
}

CASES: dict[str, Case] = {
    **{f"safetensors, {name}": case for name, case in SAFETENSORS.items()},
    **{f"index, {name}": case for name, case in INDEXES.items()},
}
HARMLESS: dict[str, Harmless] = {
    "safetensors, empty, with 2**62 and 0": Harmless(
        of({"a": entry((1 << 62, 1 << 62, 0), 0, 0)}, 0), ("a",), codes=(0, 3, 4)
    ),
    "safetensors, names with escapes": Harmless(
        of({"\x1b[2J</script>\x00\r\u202e": entry()}), ("script",), ("\x1b", "\x00", "\u202e")
    ),
}
