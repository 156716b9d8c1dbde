"""Leaving a model as it was: whatever a forward call does to its modules is undone, also after an exception."""

import random
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import chain
from operator import is_, itemgetter
from types import CodeType
from typing import Any

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from profiler.compiled import not_compiled
from profiler.kept import Kept, same

_TORCHS_OWN = ("torch.nn.modules.", "torch.jit.")
_CONTAINERS = ("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks")
_EACH_CONTAINER = itemgetter(*_CONTAINERS)
_CALL = "_call_impl"
_NONE: dict[str, Any] = {}
Dictionaries = list[dict[str, Any]]


def _callers() -> frozenset[int]:
    """The functions of torch's by which calling a module comes to calling its forward: the identities of their codes.

    A code object's hash is computed anew each time, of all that it holds.
    """
    code = nn.Module._call_impl.__code__  # noqa: SLF001  # pinned by a test
    return frozenset(map(id, (code, *(c for c in code.co_consts if isinstance(c, CodeType)))))


CALLERS = _callers()


@contextmanager
def undisturbed(modules: Collection[nn.Module], *, wrapped: bool = True) -> Iterator[None]:
    """Restore attributes, parameters, buffers, submodules, hooks, random state and torch's global switches.

    Compiled modules and functions run as they are written.

    Args:
        modules: the model and all modules in it, each once.
        wrapped: whether there may be any among them that torch.compile has wrapped.
    """
    # There are thousands of these in a large model, and most are empty.
    users = [m for m in modules if not _is_torchs_own(type(m))]  # type: ignore[arg-type]  # a class is hashed by identity
    containers = list(chain.from_iterable([_containers(m.__dict__) for m in modules]))
    empty = [c for c in containers if not c]
    # A scripted or traced module's are views of C++ objects that hold no Python state.
    now = [*map(vars, users), *[c for c in containers if c and isinstance(c, dict)]]
    before = list(map(dict.copy, now))
    places = [
        (p, p.untyped_storage(), p.dtype, p.storage_offset(), p.shape, p.stride())
        for m in modules
        for p in m.__dict__.get("_parameters", _NONE).values()
        if p is not None
    ]
    with ExitStack() as stack:
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        # The fused encoder is an inference shortcut for the very same work; the documented modules are what is counted.
        torch.backends.mha.set_fastpath_enabled(False)
        stack.enter_context(torch.random.fork_rng(_devices_in_use()))
        stack.callback(random.setstate, random.getstate())
        if numpy := sys.modules.get("numpy.random"):  # what is not imported has no state
            stack.callback(numpy.set_state, numpy.get_state())
        stack.callback(_restore_places, places)
        stack.callback(_restore, now, before)
        stack.callback(_clear, empty)
        stack.callback(Kept(users).put_back)
        stack.enter_context(not_compiled(modules, wrapped=wrapped))
        yield


def _devices_in_use() -> list[int]:
    """The GPUs whose random state `torch.manual_seed` would set; asking one that nobody uses would start it."""
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return list(range(torch.cuda.device_count())) if started else []


@cache
def _is_torchs_own(kind: type) -> bool:
    """Whether a module is a layer of torch's, of which there are many, and which set no attributes in forward.

    Lazy layers do, and recurrent ones where a weight is put in.
    """
    return kind.__module__.startswith(_TORCHS_OWN) and not issubclass(kind, LazyModuleMixin | nn.RNNBase)


def _clear(containers: list[Any]) -> None:
    if any(containers):
        for container in containers:
            if container:
                container.clear()


def _containers(attributes: dict[str, Any]) -> tuple[Any, ...]:
    try:
        return _EACH_CONTAINER(attributes)  # type: ignore[no-any-return]  # a tuple, as it gets several
    except KeyError:
        return tuple(attributes.get(name) for name in _CONTAINERS)


def _restore(now: Dictionaries, before: Dictionaries) -> None:
    """Most often none has changed, which shows soonest for all at once."""
    if _unchanged(now, before):
        return
    for changed, old in zip(now, before, strict=True):
        if not (same(changed.values(), old.values()) and same(changed, old)):
            changed.clear()
            changed.update(old)


def _unchanged(now: Dictionaries, before: Dictionaries) -> bool:
    every = chain.from_iterable
    return (
        list(map(len, now)) == list(map(len, before))
        and list(every(now)) == list(every(before))
        and all(map(is_, every(map(dict.values, now)), every(map(dict.values, before))))
    )


def _restore_places(places: list[tuple[Any, ...]]) -> None:
    """Undo `parameter.data = ...`, which is what a `module.to(...)` inside forward comes to."""
    for parameter, storage, dtype, *place in places:
        if parameter.untyped_storage()._cdata != storage._cdata:  # noqa: SLF001  # a storage's identity
            parameter.data = torch.empty(0, dtype=dtype, device=storage.device).set_(storage, *place)


@contextmanager
def watched(
    modules: Sequence[nn.Module],
    paths: Sequence[str],
    follow: Callable[[nn.Module, str], Callable[..., Any]],
    end: Callable[[Callable[..., Any]], Callable[..., Any]],
) -> Iterator[None]:
    """Have `follow(module, path)` in the place of every module's forward, and `end` around calls with forward hooks.

    Torch's hooks for all modules would do as well, but with any hook about, every module call takes twice as long.
    """
    attributes = list(map(vars, modules))
    before = [a.get("forward") for a in attributes]
    for module, path, own in zip(modules, paths, attributes, strict=True):
        own["forward"] = follow(module, path)
    hooked = [(m, own) for m, own in zip(modules, attributes, strict=True) if own.get("_forward_hooks")]
    for module, own in hooked:
        own[_CALL] = end(module._call_impl)  # noqa: SLF001  # what a module's call comes to
    try:
        yield
    finally:
        for _, own in hooked:
            own.pop(_CALL, None)
        for own, forward in zip(attributes, before, strict=True):
            if forward is None:
                own.pop("forward", None)
            else:
                own["forward"] = forward
