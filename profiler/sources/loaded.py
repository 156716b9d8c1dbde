"""What an unpickled file gives: a network, one among other things in a checkpoint, or tensors without one."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from profiler.errors import ModelError
from profiler.sources.checkpoint import TensorEntry
from profiler.sources.limits import DEFAULT
from profiler.sources.opened import OpenedModel


def opened_from(path: Path, value: Any) -> OpenedModel:  # noqa: ANN401  # whatever was stored
    """The network in what was stored, else its tensors.

    Raises:
        ModelError: there is neither.
    """
    networks = _networks(value)
    if networks:
        (name, module), others = networks[0], [name for name, _ in networks[1:]]
        left = f", not {', '.join(others)}" if others else ""
        notes = (f"{path}: the network is the one stored as {name!r}{left}",) if name else ()
        return OpenedModel(str(path), "module", module=module.eval(), path=path, notes=notes)
    tensors = tuple(_tensors(value))
    if not tensors:
        raise ModelError(f"{path}: holds a {type(value).__name__} with neither a network nor tensors")
    return OpenedModel(str(path), "weights", tensors=tensors, path=path)


def _networks(value: Any) -> list[tuple[str, nn.Module]]:  # noqa: ANN401  # whatever was stored
    """Networks with the keys that they are stored under, "" where one is all there is."""
    if isinstance(value, nn.Module):
        return [("", value)]
    below = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    return [(str(key), module) for key, module in below if isinstance(module, nn.Module)]


def _tensors(value: Any) -> Iterator[TensorEntry]:  # noqa: ANN401  # whatever was stored
    """All tensors, each with its path in the containers."""
    pending: list[tuple[tuple[str, ...], Any]] = [((), value)]
    seen: set[int] = set()
    while pending:
        path, part = pending.pop()
        if isinstance(part, torch.Tensor):
            yield _entry(".".join(path), part)
        elif id(part) not in seen and len(path) < DEFAULT.nesting:
            seen.add(id(part))
            pending += [((*path, str(key)), below) for key, below in reversed(_parts(part))]


def _parts(value: Any) -> list[tuple[Any, Any]]:  # noqa: ANN401  # any of them
    if isinstance(value, nn.Module):
        return list(value.state_dict(keep_vars=True).items())
    if isinstance(value, Mapping):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list | tuple) else []


def _entry(name: str, tensor: torch.Tensor) -> TensorEntry:
    try:
        storage = str(tensor.untyped_storage().data_ptr())
    except (NotImplementedError, RuntimeError):  # sparse and opaque tensors have none
        storage = name
    dtype = str(tensor.dtype).removeprefix("torch.")
    return TensorEntry(name, tuple(tensor.shape), dtype, tensor.numel() * tensor.dtype.itemsize, storage)
