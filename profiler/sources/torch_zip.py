"""Zip files written by torch.save: whole modules of stock classes, state dicts, nested checkpoints."""

import zipfile
from pathlib import Path
from typing import Any

from profiler.errors import ModelError, RefusedError
from profiler.sources import _loaders
from profiler.sources.checkpoint import (
    check_module,
    stock_classes,
    storage_bytes,
    tensors_in,
    unknown_names,
)
from profiler.sources.limits import DEFAULT, Limits
from profiler.sources.loaded import opened_from
from profiler.sources.opcodes import Global, Instance, UnusualPickleError, read_symbolically
from profiler.sources.opened import OpenedModel


def open_torch_zip(path: Path, *, trust: bool = False, limits: Limits = DEFAULT) -> OpenedModel:
    """Open a file written by torch.save.

    Raises:
        RefusedError: it would have to run code, or breaks one of the rules in `checkpoint`.
        ModelError: it is damaged.
    """
    try:
        tree, names = _checked(path, limits)
    except UnusualPickleError:
        if not trust:
            raise
        return opened_from(path, _loaders.load_trusted(path))
    unknown = unknown_names(names)
    if unknown and not trust:
        raise RefusedError(_refusal(path, unknown))
    if unknown or (isinstance(tree, Instance) and trust):
        return opened_from(path, _loaders.load_trusted(path))
    check_module(tree, str(path))
    if isinstance(tree, Instance):
        classes = [stock_classes()[n] for n in names if n in stock_classes()]
        return opened_from(path, _loaders.load_stock_module(path, classes))
    return OpenedModel(str(path), "weights", tensors=tensors_in(tree, str(path)), path=path)


def _refusal(path: Path, unknown: tuple[Global, ...]) -> str:
    listed = ", ".join(str(name) for name in unknown[:5]) + (", ..." if len(unknown) > 5 else "")
    return (
        f"{path}: opening this pickle would run code; it asks for {listed}, which is not stock torch.nn. "
        "If you trust its maker pass --trust; else save a state_dict and name the architecture as FILE.py:factory."
    )


def _checked(path: Path, limits: Limits) -> tuple[Any, tuple[Global, ...]]:
    """The symbolic tree of the file's pickle, its zip checked against it."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(path, members, limits)
            pickle = next(m for m in members if m.filename.endswith("/data.pkl"))
            limits.check("header_bytes", pickle.file_size, f"{path}, its pickle")
            tree, names = read_symbolically(archive.read(pickle), str(path), limits)
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


def _check_members(path: Path, members: list[zipfile.ZipInfo], limits: Limits) -> None:
    names = [m.filename for m in members]
    limits.check("members", len(names), str(path))
    if len(set(names)) < len(names):
        raise RefusedError(f"{path}: the archive lists a member twice, which no honest tool does; refused")
    if any(m.compress_type != zipfile.ZIP_STORED for m in members):
        raise RefusedError(f"{path}: the archive is compressed, which torch.save never does; refused")
