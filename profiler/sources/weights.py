"""Weights for a network: the tensors of a file, put into a module by name.

Only tensors are taken from the file, by what its pickle says of them and the bytes of their storages. No unpickler and
no TorchScript loader sees it, so a checkpoint that asks for more than tensors still gives its tensors.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from profiler.errors import ModelError
from profiler.sources.checkpoint import unknown_names
from profiler.sources.described import Described, Versions, versions_in
from profiler.sources.detect import kind_of
from profiler.sources.fit import Fit, Shape, fits, some
from profiler.sources.index_file import read_index
from profiler.sources.legacy import read_legacy
from profiler.sources.limits import DEFAULT, Limits, check_file
from profiler.sources.safetensors_file import read_tensors
from profiler.sources.stored import Reader, Stored
from profiler.sources.torch_zip import read_zip
from profiler.sources.torchscript import read_torchscript


@dataclass(frozen=True, slots=True)
class Weights:
    """What a file offers.

    Attributes:
        shapes: of its tensors, by name, in order.
        read: tensors by their names.
        versions: what state dicts in it note of their modules; see `described.versions_in`.
        notes: what of the file was left out, in sentences.
    """

    shapes: Mapping[str, Shape]
    read: Callable[[Sequence[str]], dict[str, torch.Tensor]]
    versions: Versions = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def _of_torch(read: Callable[[Path, Limits], Stored]) -> Callable[[Path, Limits], Weights]:
    """Weights of a file whose pickle describes its tensors."""

    def weights(path: Path, limits: Limits) -> Weights:
        stored = read(path, limits)
        stored.check_storages()
        by_name: dict[str, Described] = {}
        for tensor in stored.tensors:
            by_name.setdefault(tensor.name, tensor)
        shapes = {name: tensor.layout.shape for name, tensor in by_name.items()}
        versions = versions_in(stored.tree, str(path), limits)
        return Weights(shapes, lambda names: _taken(stored, by_name, names), versions, tuple(_left_out(stored)))

    return weights


def _taken(stored: Stored, by_name: Mapping[str, Described], names: Sequence[str]) -> dict[str, torch.Tensor]:
    for name in names:
        if special := by_name[name].layout.special:
            raise ModelError(f"{stored.path}: {name} {special}, which cannot be taken as a weight; save it as a tensor")
    reader = Reader(stored)
    return {name: reader.read(by_name[name].layout) for name in names}


def _left_out(stored: Stored) -> Iterable[str]:
    unknown = unknown_names(stored.names)
    if unknown:
        asked = some(list(map(str, unknown)))
        yield f"{stored.path}: only its tensors were read; what it has of {asked} was left alone"


def _of_tensors(read: Callable[[Path, Limits], dict[str, torch.Tensor]]) -> Callable[[Path, Limits], Weights]:
    """Weights of a file that is read as a whole."""

    def weights(path: Path, limits: Limits) -> Weights:
        tensors = read(path, limits)
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        return Weights(shapes, lambda names: {name: tensors[name] for name in names})

    return weights


# By kind, as `kind_of` tells it: what reads weights of a file.
READERS: dict[str, Callable[[Path, Limits], Weights]] = {
    "torch zip": _of_torch(read_zip),
    "legacy torch": _of_torch(read_legacy),
    "torchscript": _of_torch(read_torchscript),
    "safetensors": _of_tensors(read_tensors),
    "index": _of_tensors(read_index),
}

_KINDS = {"onnx": "an ONNX graph", "program": "a torch.export program", "pickle": "a bare pickle"}


def load_weights(module: nn.Module, path: Path, target: str, limits: Limits = DEFAULT) -> tuple[str, ...]:
    """Put a file's tensors into a network.

    Args:
        module: the network; changed.
        path: the file: a checkpoint of any form that has the network's tensors somewhere.
        target: what the user named the network by, for messages.
        limits: how much the file may ask for.

    Returns:
        Which part of the file was taken, where it has several, and what was left out, in sentences.

    Raises:
        ModelError: no part of the file fits; the message says what the nearest lacks.
        RefusedError: the file asks for too much, or no honest tool wrote it.
    """
    kind = kind_of(path)
    if kind not in READERS:
        what = _KINDS.get(kind, "a file")
        raise ModelError(
            f"{path}: is {what} and no source of weights; torch.save files, TorchScript, safetensors and an index are"
        )
    check_file(path, limits)
    weights = READERS[kind](path, limits)
    held = module.state_dict(keep_vars=True)
    network = {name: _shape(value) for name, value in held.items() if isinstance(value, torch.Tensor)}
    found = fits(network, weights.shapes)
    if not found:
        there = some(list(weights.shapes)) or "no tensors"
        raise ModelError(f"{path}: does not fit {target}: the network has {some(list(network))}; the file has {there}")
    best = found[0]
    state = _state(best, weights)
    _check_types(path, held, state)
    try:
        done = module.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise _misfit(path, target, found, " ".join(str(error).split())[:300]) from error
    missing = _missing(getattr(done, "missing_keys", ()), held, state)
    unexpected = getattr(done, "unexpected_keys", ())
    if missing or unexpected:
        raise _misfit(path, target, [Fit(best.prefix, (), tuple(missing), tuple(unexpected), ()), *found[1:]])
    return (*_taken_from(path, best, found, weights), *weights.notes)


def _shape(value: torch.Tensor) -> Shape | None:
    return None if nn.parameter.is_lazy(value) else tuple(value.shape)


def _state(fit: Fit, weights: Weights) -> "OrderedDict[str, Any]":
    """The part as `load_state_dict` takes it, with the versions of modules by which they read old files."""
    tensors = weights.read([fit.prefix + name for name in fit.names])
    state: OrderedDict[str, Any] = OrderedDict((n.removeprefix(fit.prefix), t) for n, t in tensors.items())
    for place, versions in weights.versions.items():
        inside = fit.prefix.removeprefix(f"{place}.") if place else fit.prefix
        if not place or fit.prefix.startswith(f"{place}."):
            noted = {k[len(inside) :]: v for k, v in versions.items() if f"{k}.".startswith(inside) or not inside}
            vars(state)["_metadata"] = OrderedDict(noted)
    return state


def _check_types(path: Path, held: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in state.items():
        there = held.get(name)
        if tensor.is_complex() and isinstance(there, torch.Tensor) and not there.is_complex():
            raise ModelError(f"{path}: {name} is complex and the network's is not; it would lose its imaginary part")


def _missing(names: Sequence[str], held: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> list[str]:
    """Names that nothing was found for: neither a tensor tied to another one nor what is no tensor."""
    filled = {id(held[name]) for name in state if name in held}
    return [n for n in names if not n.endswith("_extra_state") and not (n in held and id(held[n]) in filled)]


def _misfit(path: Path, target: str, found: Sequence[Fit], reason: str = "") -> ModelError:
    told = [why for fit in found[:3] if (why := fit.why_not())]
    return ModelError(f"{path}: does not fit {target}: {'; '.join(told) or reason}")


def _taken_from(path: Path, best: Fit, found: Sequence[Fit], weights: Weights) -> Iterable[str]:
    others = [fit.place for fit in found[1:] if fit.whole]
    if best.prefix or others:
        count = f"{len(best.names):,} of {len(weights.shapes):,} tensors"
        as_well = f"; {some(others)} would fit as well" if others else ""
        yield f"{path}: took {best.place if best.prefix else 'those at the top'} ({count}){as_well}"
