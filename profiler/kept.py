"""What modules hold beside parameters and submodules: containers, objects, random generators, caches of results.

A forward call may append to a list, fill a cache or draw from a generator of the model's. What it finds is noted
beforehand, a few levels deep, and put back; what is as it was is not touched.
"""

import random
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from logging import Logger
from operator import is_
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn

# How far into containers and objects, and containers of how many entries are looked into.
_DEEPEST = 3
_LONGEST = 1 << 8
_STANDARD = frozenset(nn.Module().__dict__)
_OPAQUE = (torch.Tensor, type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, partial, Logger)
_Cache = type(lru_cache(lambda: None))
_SHAREABLE = frozenset((dict, list, set, deque, OrderedDict, defaultdict, _Cache))

Undo = Callable[[], None]
Note = Callable[[Any], tuple[Undo, Iterable[Any]]]


class Kept:
    """What some modules hold, and the way back to it.

    Args:
        modules: each once. Those of torch's own layers may be left out: they hold nothing more.
        values: keep the values of tensors that they hold, too: they are about to be run for real.
    """

    def __init__(self, modules: Iterable[nn.Module], *, values: bool = False) -> None:
        modules = list(modules)
        self._values = values
        self._seen = set(map(id, modules))
        self._undo: list[Undo] = []
        for module in modules:
            held = module.__dict__
            if len(held) > len(_STANDARD):
                for name in held.keys() - _STANDARD:
                    if values or _NOTES.get(type(held[name]), _UNSEEN) is not None:
                        self._note(held[name], _DEEPEST)
        for value in _shared({type(module) for module in modules}):
            self._note(value, 0)

    def _note(self, value: object, depth: int) -> None:
        note = _NOTES.get(type(value), _UNSEEN)
        if note is _UNSEEN:
            note = _NOTES[type(value)] = _how(type(value))
        if self._values and isinstance(value, torch.Tensor) and not value.is_meta:
            note = _note_tensor
        if note is None or id(value) in self._seen:
            return
        self._seen.add(id(value))
        undo, inside = note(value)
        self._undo.append(undo)
        if depth:
            for part in inside:
                self._note(part, depth - 1)

    def put_back(self) -> None:
        """Give everything its contents of then."""
        for undo in self._undo:
            undo()


def _shared(kinds: set[type]) -> Iterator[object]:
    """Containers and caches that belong to the modules' classes and to the files that these are written in."""
    for base in {base for kind in kinds for base in kind.__mro__} - {nn.Module, object}:
        yield from _of_namespace(vars(base))
    for name in {kind.__module__ for kind in kinds}:
        if not name.startswith("torch.") and (file := sys.modules.get(name)) is not None:
            yield from _of_namespace(vars(file))


def _of_namespace(names: Mapping[str, object]) -> Iterator[object]:
    for name, value in list(names.items()):
        if type(value) in _SHAREABLE and not name.startswith("__"):
            yield value


def same(now: Collection[Any], before: Collection[Any]) -> bool:
    """Whether two containers hold the very same objects in the same order; an object may not say if it is equal."""
    return len(now) == len(before) and all(map(is_, now, before))


def _note_dict(value: dict[Any, Any]) -> tuple[Undo, Iterable[Any]]:
    """A dictionary, asked as the plain one that it is: its class may do more than look entries up."""
    base = OrderedDict if isinstance(value, OrderedDict) else dict
    keys, entries = list(base.keys(value)), list(base.values(value))

    def undo() -> None:
        if not (same(list(base.keys(value)), keys) and same(list(base.values(value)), entries)):
            base.clear(value)
            for key, entry in zip(keys, entries, strict=True):
                base.__setitem__(value, key, entry)

    return undo, _few(entries)


def _note_list(value: Any) -> tuple[Undo, Iterable[Any]]:  # noqa: ANN401  # a list or queue
    before = list(value)

    def undo() -> None:
        if not same(value, before):
            value.clear()
            value.extend(before)

    return undo, _few(before)


def _note_set(value: set[Any]) -> tuple[Undo, Iterable[Any]]:
    before = set(value)

    def undo() -> None:
        if len(value) != len(before) or not value >= before:
            value.clear()
            value.update(before)

    return undo, ()


def _note_tuple(value: Sequence[Any]) -> tuple[Undo, Iterable[Any]]:
    return _nothing, _few(value)


def _note_object(value: object) -> tuple[Undo, Iterable[Any]]:
    return _note_dict(value.__dict__)


def _note_cache(value: Any) -> tuple[Undo, Iterable[Any]]:  # noqa: ANN401  # a function with a cache of results
    """Results that were computed without values must not be handed out later; old ones are computed again."""
    before = value.cache_info().misses

    def undo() -> None:
        if value.cache_info().misses != before:
            value.cache_clear()

    return undo, ()


def _note_tensor(value: torch.Tensor) -> tuple[Undo, Iterable[Any]]:
    before = value.detach().clone()

    def undo() -> None:
        with torch.no_grad():
            if not torch.equal(value, before):
                value.copy_(before)

    return undo, ()


def _note_torchs_generator(value: torch.Generator) -> tuple[Undo, Iterable[Any]]:
    state = value.get_state()

    def undo() -> None:
        value.set_state(state)

    return undo, ()


def _note_random(value: random.Random) -> tuple[Undo, Iterable[Any]]:
    return partial(value.setstate, value.getstate()), ()


def _note_numpys_random(value: Any) -> tuple[Undo, Iterable[Any]]:  # noqa: ANN401  # numpy is not imported for it
    """A `Generator` or a `RandomState`."""
    bits = value.bit_generator if hasattr(value, "bit_generator") else value._bit_generator  # noqa: SLF001  # the old one's
    return partial(setattr, bits, "state", bits.state), ()


def _nothing() -> None:
    pass


def _few(parts: Iterable[Any]) -> Iterable[Any]:
    """What is in a container; a long one carries data."""
    parts = list(parts)
    return parts if len(parts) <= _LONGEST else ()


_NUMPYS = ("numpy.random._generator.Generator", "numpy.random.mtrand.RandomState")
_UNSEEN: Any = object()
_NOTES: dict[type, Note | None] = {}
_BY_BASE: tuple[tuple[type, Note], ...] = (
    (dict, _note_dict),
    (list, _note_list),
    (deque, _note_list),
    (set, _note_set),
    (tuple, _note_tuple),
    (_Cache, _note_cache),
    (torch.Generator, _note_torchs_generator),
    (random.Random, _note_random),
)


def _how(kind: type) -> Note | None:
    """How values of a type are noted; None where they cannot change or are none of the model's."""
    for base, note in _BY_BASE:
        if issubclass(kind, base):
            return note
    if f"{kind.__module__}.{kind.__name__}" in _NUMPYS:
        return _note_numpys_random
    return _note_object if kind.__dictoffset__ and not issubclass(kind, _OPAQUE) else None
