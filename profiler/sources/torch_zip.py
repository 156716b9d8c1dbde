"""Zip files written by torch.save: whole modules of stock classes, state dicts, nested checkpoints."""

import zipfile
from pathlib import Path
from typing import Any

import torch

from profiler.errors import ModelError, RefusedError
from profiler.sources import _loaders
from profiler.sources.checkpoint import (
    check_module,
    stock_classes,
    storage_bytes,
    tensors_in,
    unknown_names,
)
from profiler.sources.opcodes import Global, Instance, read_symbolically
from profiler.sources.opened import OpenedModel

MOST_MEMBERS = 100_000
MOST_PICKLE_BYTES = 256 << 20


def open_torch_zip(path: Path, *, trust: bool = False) -> OpenedModel:
    """Open a file written by torch.save.

    Raises:
        RefusedError: it would have to run code, or breaks one of the rules in `checkpoint`.
        ModelError: it is damaged.
    """
    tree, names = _checked(path)
    unknown = unknown_names(names)
    if unknown and not trust:
        raise RefusedError(_refusal(path, unknown))
    if unknown or (isinstance(tree, Instance) and trust):
        return _opened(path, _loaders.load_trusted(path))
    check_module(tree, str(path))
    if isinstance(tree, Instance):
        classes = [stock_classes()[n] for n in names if n in stock_classes()]
        return _opened(path, _loaders.load_stock_module(path, classes))
    return OpenedModel(str(path), "weights", tensors=tensors_in(tree, str(path)), path=path)


def _opened(path: Path, value: Any) -> OpenedModel:  # noqa: ANN401  # whatever was stored
    if isinstance(value, torch.nn.Module):
        return OpenedModel(str(path), "module", module=value.eval(), path=path)
    tree, _ = _checked(path)
    return OpenedModel(str(path), "weights", tensors=tensors_in(tree, str(path)), path=path)


def _refusal(path: Path, unknown: tuple[Global, ...]) -> str:
    listed = ", ".join(str(name) for name in unknown[:5]) + (", ..." if len(unknown) > 5 else "")
    return (
        f"{path}: opening this pickle would run code; it asks for {listed}, which is not stock torch.nn. "
        "If you trust its maker pass --trust; else save a state_dict and name the architecture as FILE.py:factory."
    )


def _checked(path: Path) -> tuple[Any, tuple[Global, ...]]:
    """The symbolic tree of the file's pickle, its zip checked against it."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(path, members)
            pickle = next(m for m in members if m.filename.endswith("/data.pkl"))
            if pickle.file_size > MOST_PICKLE_BYTES:
                raise RefusedError(f"{path}: its pickle alone has {pickle.file_size:,} bytes; refused")
            tree, names = read_symbolically(archive.read(pickle), str(path))
    except zipfile.BadZipFile as error:
        raise ModelError(f"{path}: is truncated or damaged ({error}); copy or download it again") from error
    root = pickle.filename.removesuffix("data.pkl")
    stored = {m.filename.removeprefix(f"{root}data/"): m.file_size for m in members}
    if unknown_names(names):
        return tree, names  # its storages may be described in any way
    for key, size in storage_bytes(tree).items():
        if stored.get(key) != size:
            raise ModelError(f"{path}: storage {key} should have {size:,} bytes, the file holds {stored.get(key, 0):,}")
    return tree, names


def _check_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    names = [m.filename for m in members]
    if len(names) > MOST_MEMBERS or len(set(names)) < len(names):
        raise RefusedError(f"{path}: the archive lists {len(names):,} members, some of them twice or too many; refused")
    if any(m.compress_type != zipfile.ZIP_STORED for m in members):
        raise RefusedError(f"{path}: the archive is compressed, which torch.save never does; refused")
