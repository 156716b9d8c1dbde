"""Leaving a model as it was: whatever a forward call does to its modules is undone, also after an exception."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from operator import itemgetter
from types import CodeType
from typing import Any

import torch
from torch import nn

_CONTAINERS = itemgetter("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks")
Dictionaries = list[dict[str, Any]]


def _callers() -> frozenset[CodeType]:
    """The functions of torch's by which calling a module comes to calling its forward."""
    code = nn.Module._call_impl.__code__  # noqa: SLF001  # pinned by a test
    return frozenset((code, *(c for c in code.co_consts if isinstance(c, CodeType))))


CALLERS = _callers()


@contextmanager
def undisturbed(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Restore attributes, parameters, buffers, submodules, hooks, random state and torch's global switches.

    Args:
        modules: the model and all modules in it, each once.
    """
    # There are thousands of these in a large model: they are copied and compared by the interpreter's own loops.
    attributes = list(map(vars, modules))
    # A scripted module's containers are views of C++ objects that hold no Python state.
    containers = [c for c in chain.from_iterable(map(_CONTAINERS, attributes)) if isinstance(c, dict)]
    now = attributes + containers
    before = list(map(dict.copy, now))
    places = _places(attributes)
    with ExitStack() as stack:
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        # The fused encoder is an inference shortcut for the very same work; the documented modules are what is counted.
        torch.backends.mha.set_fastpath_enabled(False)
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.callback(_restore_places, places)
        stack.callback(_restore, now, before)
        yield


def _restore(now: Dictionaries, before: Dictionaries) -> None:
    if _same(now, before):
        return
    for changed, old in zip(now, before, strict=True):
        if not _same(changed, old):
            changed.clear()
            changed.update(old)


def _same(a: object, b: object) -> bool:
    """Dictionaries compare identities first, in C; only what was replaced is asked, and a tensor may not answer."""
    try:
        return a == b
    except (RuntimeError, ValueError, TypeError):
        return False


def _places(attributes: Dictionaries) -> list[tuple[Any, ...]]:
    """Where each parameter lies: the address of its elements, and a tensor that keeps them and says how they lie."""
    parameters = [p for a in attributes for p in a["_parameters"].values() if p is not None]
    return [(p, p.data_ptr(), p.detach()) for p in parameters]


def _restore_places(places: list[tuple[Any, ...]]) -> None:
    """Undo `parameter.data = ...`, which is what a `module.to(...)` inside forward comes to."""
    for parameter, address, old in places:
        if parameter.data_ptr() != address or (not address and not _alike(parameter, old)):
            parameter.data = old


def _alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors without storage are one."""
    return a.untyped_storage()._cdata == b.untyped_storage()._cdata  # noqa: SLF001  # a storage's identity


@contextmanager
def watched(
    modules: Sequence[nn.Module], paths: Sequence[str], follow: Callable[[nn.Module, str], Callable[..., Any]]
) -> Iterator[None]:
    """Have `follow(module, path)` in the place of every module's forward; a module compiled in place runs as written.

    Torch's hooks for all modules would do as well, but with any hook about, every module call takes twice as long.
    """
    attributes = list(map(vars, modules))
    before = [(a.get("forward"), a.get("_compiled_call_impl")) for a in attributes]
    for module, path, own in zip(modules, paths, attributes, strict=True):
        own["forward"] = follow(module, path)
        if own.get("_compiled_call_impl") is not None:
            own["_compiled_call_impl"] = None
    try:
        yield
    finally:
        for own, (forward, compiled) in zip(attributes, before, strict=True):
            if forward is None:
                own.pop("forward", None)
            else:
                own["forward"] = forward
            if compiled is not None:
                own["_compiled_call_impl"] = compiled
