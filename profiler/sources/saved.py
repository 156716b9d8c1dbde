"""What becomes of a file that torch.save wrote, as a zip archive or as a row of pickles: the same rules for both."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from profiler.errors import NetgaugeError, RefusedError
from profiler.sources import _loaders
from profiler.sources.build import build_module
from profiler.sources.checkpoint import check_module, stock_classes, unknown_names
from profiler.sources.limits import Limits
from profiler.sources.loaded import opened_from
from profiler.sources.opcodes import ForeignPickleError, Global, Instance
from profiler.sources.opened import OpenedModel
from profiler.sources.stored import Stored
from profiler.sources.subtrees import notes_on


def open_saved(path: Path, read: Callable[[Path, Limits], Stored], limits: Limits, *, trust: bool) -> OpenedModel:
    """A module of stock classes, or the tensors of a checkpoint.

    Args:
        path: the file.
        read: what says what is stored in it.
        limits: how much it may ask for.
        trust: let code in it run.

    Raises:
        RefusedError: it would have to run code, or breaks one of the rules in `checkpoint`.
        ModelError: it is damaged.
    """
    try:
        stored = read(path, limits)
    except ForeignPickleError:
        if not trust:
            raise
        return opened_from(path, _loaders.load_trusted(path))
    unknown = unknown_names(stored.names)
    networks = _networks(stored.tree)
    if trust and (unknown or "" in networks):
        return opened_from(path, _loaders.load_trusted(path))
    if unknown:
        raise RefusedError(_refusal(stored, unknown), known(stored))
    try:
        check_module(stored.tree, str(path))
    except RefusedError as error:
        raise RefusedError(str(error), known(stored)) from error
    stored.check_storages()
    if not networks:
        return _listed(stored)
    (name, tree), *others = networks.items()
    left = f", not {', '.join(repr(other) for other, _ in others)}" if others else ""
    notes = (f"{path}: the network is the one stored as {name!r}{left}",) if name else ()
    return OpenedModel(str(path), "module", module=build_module(replace(stored, tree=tree)), path=path, notes=notes)


def _networks(tree: Any) -> dict[str, Instance]:  # noqa: ANN401  # a pickle's tree
    """Modules with the keys that a checkpoint has them under; under "" where one is all there is."""
    if isinstance(tree, Instance):
        return {"": tree}
    below = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else ()
    return {str(key): value for key, value in below if isinstance(value, Instance)}


def _listed(stored: Stored) -> OpenedModel:
    entries = tuple(tensor.entry() for tensor in stored.tensors)
    notes = notes_on(stored.tensors, module=isinstance(stored.tree, Instance))
    return OpenedModel(str(stored.path), "weights", tensors=entries, path=stored.path, notes=notes)


def known(stored: Stored) -> OpenedModel | None:
    """The tensors of a file that is refused, as far as its pickle describes them the way torch.save does."""
    try:
        return _listed(stored)
    except NetgaugeError:
        return None


def _refusal(stored: Stored, unknown: tuple[Global, ...]) -> str:
    stock = [name.name for name in stored.names if name in stock_classes()]
    beside = f", and for {_some(stock)}, which is" if stock else ""
    return (
        f"{stored.path}: opening this pickle would run code; it asks for {_some(list(map(str, unknown)))}, which is not"
        f" stock torch.nn{beside}. Name the architecture as FILE.py:factory with this file as --weights (only its"
        " tensors are read), save a state_dict or export to ONNX where you trust it, or pass --trust if you trust its"
        " maker."
    )


def _some(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
