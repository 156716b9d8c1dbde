"""Checkpoints in several safetensors files, named by an index such as `model.safetensors.index.json`.

The index maps names of tensors to files beside it. It may not point anywhere else: a file name has no folder in it, and
what it resolves to lies in the index's folder or, as in a Hugging Face cache where both are links into one folder of
blobs, in the folder that the index itself resolves to.
"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import torch

from profiler.errors import ModelError, RefusedError
from profiler.sources.checkpoint import TensorEntry
from profiler.sources.detect import kind_of
from profiler.sources.limits import DEFAULT, Limits, check_file
from profiler.sources.opened import OpenedModel
from profiler.sources.safetensors_file import read_tensors
from profiler.sources.safetensors_header import read_header
from profiler.sources.strict_json import read_json

_WEIGHT_MAP = "weight_map"


def open_index(path: Path, *, trust: bool = False, limits: Limits = DEFAULT) -> OpenedModel:  # noqa: ARG001  # nothing to trust here
    """List the tensors of a sharded checkpoint, from the headers alone.

    Raises:
        ModelError: it is no such index, a shard is missing or damaged, or lacks a tensor.
        RefusedError: it names a file elsewhere, or asks for more than the limits allow.
    """
    places = _weight_map(path, limits)
    shards = _shards(path, places, limits)
    declared = {name: {t.name: t for t in read_header(file, limits)} for name, file in shards.items()}
    entries = [_placed(declared[shard].get(name), name, shard, path) for name, shard in places.items()]
    left_out = sum(len(tensors) for tensors in declared.values()) - len(entries)
    notes = [f"{len(entries)} tensors in {len(shards)} files"]
    if left_out:
        notes.append(f"{left_out} tensors of these files are not in the index and are left out")
    return OpenedModel(str(path), "weights", tensors=tuple(entries), path=path, notes=tuple(notes))


def read_index(path: Path, limits: Limits = DEFAULT) -> dict[str, torch.Tensor]:
    """All tensors of a sharded checkpoint by name.

    Raises:
        ModelError: as `open_index`.
        RefusedError: as `open_index`.
    """
    places = _weight_map(path, limits)
    state: dict[str, torch.Tensor] = {}
    for shard, file in _shards(path, places, limits).items():
        tensors = read_tensors(file, limits)
        for name in [name for name, place in places.items() if place == shard]:
            if name not in tensors:
                raise ModelError(_lacks(path, name, shard))
            state[name] = tensors[name]
    return {name: state[name] for name in places}


def _weight_map(path: Path, limits: Limits) -> dict[str, str]:
    """From tensors to the files that hold them, as the index has it."""
    index = read_json(path, limits)
    if not isinstance(index, dict) or _WEIGHT_MAP not in index:
        raise ModelError(f"{path}: {_no_index(index, path)}")
    places = index[_WEIGHT_MAP]
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise ModelError(f"{path}: its {_WEIGHT_MAP} is no table from tensors to files")
    if not places:
        raise ModelError(f"{path}: names no tensors")
    limits.check("tensors", len(places), str(path))
    limits.check("shards", len(set(places.values())), str(path))
    limits.check("name_bytes", max(len(n.encode("utf-8", "surrogatepass")) for n in places), str(path))
    return places


def _no_index(content: Any, path: Path) -> str:  # noqa: ANN401  # any JSON value
    """What a JSON file that is no index seems to be, and what to do with it."""
    if isinstance(content, Mapping) and ("model_type" in content or "architectures" in content):
        return f"is the configuration of a transformers model; name it as hf:{path.parent}"
    return f"is a JSON file, but no index of safetensors files, which has a {_WEIGHT_MAP}; name the model file"


def _shards(path: Path, places: Mapping[str, str], limits: Limits) -> dict[str, Path]:
    """The files that the index names, each checked to be a safetensors file beside it."""
    shards = {}
    for name in sorted(set(places.values())):
        file = _beside(path, name)
        kind = kind_of(file)
        if kind != "safetensors":
            raise ModelError(f"{path}: names {name[:80]!r} as a safetensors file, but it is {kind}")
        check_file(file, limits)
        shards[name] = file
    return shards


def _beside(index: Path, name: str) -> Path:
    """The file of that name beside an index.

    Raises:
        RefusedError: the name leads elsewhere.
        ModelError: there is no such file, or it is of another kind.
    """
    plain = name == PurePosixPath(name).name == PureWindowsPath(name).name
    if not plain or not name.isprintable():
        raise RefusedError(f"{index}: names the file {name[:80]!r}, which is not a file beside it; refused")
    if not name.endswith(".safetensors"):
        raise ModelError(f"{index}: names {name[:80]!r}; only safetensors files are read through an index")
    try:
        real = (index.parent / name).resolve(strict=True)
        folder, blobs = index.parent.resolve(strict=True), index.resolve(strict=True).parent
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"{index}: the file {name[:80]!r} that it names is missing; copy or download it, too"
        ) from error
    if not real.is_relative_to(folder) and real.parent != blobs:
        raise RefusedError(f"{index}: the file {name[:80]!r} that it names is a link to somewhere else; refused")
    return index.parent / name


def _placed(entry: TensorEntry | None, name: str, shard: str, path: Path) -> TensorEntry:
    if entry is None:
        raise ModelError(_lacks(path, name, shard))
    return TensorEntry(name, entry.shape, entry.dtype, entry.bytes, f"{shard}/{name}")


def _lacks(path: Path, name: str, shard: str) -> str:
    return (
        f"{path}: says that {shard} holds the tensor {name[:80]!r}, and it does not; the files do not belong together"
    )
