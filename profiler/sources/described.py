"""All tensors and storages that a pickle describes, found in its symbolic tree: nothing is built."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from profiler.errors import ModelError
from profiler.sources.checkpoint import FUNCTIONS, ORDERED, TensorEntry
from profiler.sources.layouts import Layout, OddError, Storage, layout_of, storage_of
from profiler.sources.limits import DEFAULT, Limits
from profiler.sources.opcodes import Instance, Persistent, Result


@dataclass(frozen=True, slots=True)
class Described:
    """A tensor of a checkpoint: its path, keys from the outside in, and its layout."""

    path: tuple[str, ...]
    layout: Layout

    @property
    def name(self) -> str:
        """The path in one string."""
        return ".".join(self.path)

    def entry(self, folder: str = "") -> TensorEntry:
        """The same in the words of the parameter table; `folder` tells storages of equal keys apart."""
        layout = self.layout
        size = prod(layout.shape) * layout.dtype.itemsize if layout.bytes is None else layout.bytes
        # A tensor without storage shares none.
        storage = folder + layout.storage if layout.storage else f"{self.name} itself"
        return TensorEntry(self.name, layout.shape, str(layout.dtype).removeprefix("torch."), size, storage)


def tensors_in(tree: Any, source: str, limits: Limits = DEFAULT) -> tuple[Described, ...]:  # noqa: ANN401  # a pickle's tree
    """All tensors in a symbolic tree, each with its path, in order.

    Raises:
        ModelError: a tensor is described in a way that torch.save never does.
        RefusedError: one reaches beyond its storage, or there is more of something than the limits allow.
    """
    found: list[Described] = []
    for path, _, layout in _walk(tree, source, limits):
        if layout is not None:
            found.append(_within(Described(path, layout), source, limits))
            limits.check("tensors", len(found), source)
    return tuple(found)


Versions = dict[str, dict[str, dict[str, Any]]]


def versions_in(tree: Any, source: str, limits: Limits = DEFAULT) -> Versions:  # noqa: ANN401  # a pickle's tree
    """What state dicts note beside their tensors: by the path of the dict and the module, facts such as its version."""
    found: Versions = {}
    for path, node, _ in _walk(tree, source, limits):
        state = node.state if isinstance(node, Result) and node.function == ORDERED else None
        noted = state.get("_metadata") if isinstance(state, dict) else None
        if isinstance(noted, Result):
            facts = {k: v for k, v in noted.items.items() if isinstance(k, str) and isinstance(v, dict)}
            plain = {k: {n: w for n, w in v.items() if isinstance(w, int | str | None)} for k, v in facts.items()}
            found.setdefault(".".join(path), plain)
    return found


def _walk(tree: Any, source: str, limits: Limits) -> Iterator[tuple[tuple[str, ...], Any, Layout | None]]:  # noqa: ANN401  # as above
    """Every node once, a tensor each time that it is named: its path, the node, its layout where it is a tensor."""
    seen: set[int] = set()
    pending: list[tuple[Any, tuple[str, ...], int]] = [(tree, (), 0)]
    while pending:
        value, path, depth = pending.pop()
        layout = layout_of(value, ".".join(path), source)
        if layout is None:
            if id(value) in seen:
                continue
            seen.add(id(value))
            limits.check("nesting", depth, source)
            below = [(v, (*path, k) if k else path, depth + 1) for k, v in children(value) if isinstance(v, _NODES)]
            pending += reversed(below)
        yield path, value, layout


def _within(tensor: Described, source: str, limits: Limits) -> Described:
    limits.check("name_bytes", len(tensor.name), source)
    limits.check("elements", prod(tensor.layout.shape), f"{source}, {tensor.name[:80]}")
    return tensor


_NODES = (dict, list, tuple, Instance, Result)
_CONTAINERS = ("_parameters", "_buffers", "_modules")


def children(value: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401  # any node
    """What lies in a node, each with its key: attributes, items and elements; "" where it adds nothing to a path."""
    if isinstance(value, Instance | Result):
        yield from _inside(value)
    elif isinstance(value, Mapping):
        yield from ((_key(k), v) for k, v in value.items())
    elif isinstance(value, list | tuple):
        yield from ((str(n), v) for n, v in enumerate(value))


def _inside(value: Instance | Result) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Result):
        yield from _arguments(value)
    yield from ((_key(k), v) for k, v in value.items.items())
    # A dictionary of attributes, alone or before one of slots; TorchScript has states of any form.
    state = value.state
    parts = state if isinstance(state, tuple) and len(state) == 2 and isinstance(state[0], dict | None) else (state,)
    for part in parts:
        if isinstance(part, dict):
            yield from (("" if k in _CONTAINERS else _key(k), v) for k, v in part.items())
        else:
            yield "", part


def _arguments(value: Result) -> Iterator[tuple[str, Any]]:
    args = value.args if isinstance(value.args, tuple) else ()
    if value.function == ORDERED:
        yield from ((_key(k), v) for k, v in pairs(value))
    elif value.function.module == "torch.jit._pickle":
        yield "", args[0] if args else None
    elif value.function not in FUNCTIONS:
        yield from ((str(n), v) for n, v in enumerate(args))


def pairs(value: Result) -> list[tuple[Any, Any]]:
    """Items that an OrderedDict is called with, as Python 2 wrote it; none where it is written as now."""
    listed = value.args[0] if isinstance(value.args, tuple) and value.args else ()
    if not isinstance(listed, list):
        return []
    return [(p[0], p[1]) for p in listed if isinstance(p, tuple | list) and len(p) == 2 and isinstance(p[0], str | int)]


def _key(key: Any) -> str:  # noqa: ANN401  # from a file
    if isinstance(key, tuple):
        return f"({', '.join(map(_key, key))})"
    return key if isinstance(key, str) else str(key) if isinstance(key, bytes | int | float | None) else "?"


def storages_in(tree: Any, source: str) -> dict[str, Storage]:  # noqa: ANN401  # a pickle's tree
    """Every storage that the pickle refers to, by its key.

    Raises:
        ModelError: one is described in a way that torch.save never does, or in two ways.
    """
    found: dict[str, Storage] = {}
    pending, seen = [tree], set[int]()
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Persistent):
            try:
                storage = storage_of(value)
            except (OddError, KeyError, TypeError, ValueError) as error:
                raise ModelError(f"{source}: a storage is described in a way that torch.save never does") from error
            before = found.setdefault(storage.key, storage)
            if (before.dtype, before.whole) != (storage.dtype, storage.whole):
                raise ModelError(f"{source}: storage {storage.key} is described in two ways; the file is damaged")
        elif isinstance(value, Result | Instance):
            pending += [value.args, value.state, *value.items, *value.items.values()]
        elif isinstance(value, Mapping):
            pending += [*value, *value.values()]
        elif isinstance(value, list | tuple):
            pending += value
    return found
