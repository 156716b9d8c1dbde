"""Leaving a model as it was: whatever a forward call does to its modules is undone, also after an exception."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

_CONTAINERS = ("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks")


@contextmanager
def undisturbed(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Restore attributes, parameters, buffers, submodules, hooks, random state and torch's global switches.

    Args:
        modules: the model and all modules in it, each once.
    """
    attributes = [(m, before := m.__dict__.copy(), _contents(before)) for m in modules]
    places = [
        (p, p.untyped_storage(), p.dtype, p.storage_offset(), p.shape, p.stride())
        for _, before, _ in attributes
        for p in before["_parameters"].values()
        if p is not None
    ]
    with ExitStack() as stack:
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        # The fused encoder is an inference shortcut for the very same work; the documented modules are what is counted.
        torch.backends.mha.set_fastpath_enabled(False)
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.callback(_restore_places, places)
        stack.callback(_restore, attributes)
        yield


def _contents(attributes: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Copies of a module's containers that hold anything."""
    return [(name, attributes[name].copy()) for name in _CONTAINERS if attributes[name]]


def _restore(attributes: list[tuple[nn.Module, dict[str, Any], list[tuple[str, dict[str, Any]]]]]) -> None:
    for module, before, filled in attributes:
        if not _same(module.__dict__, before):
            module.__dict__.clear()
            module.__dict__.update(before)
        contents = dict(filled)
        for name in _CONTAINERS:
            container = before[name]
            if container or name in contents:
                old = contents.get(name, {})
                if not _same(container, old):
                    container.clear()
                    container.update(old)


def _restore_places(places: list[tuple[Any, ...]]) -> None:
    """Undo `parameter.data = ...`, which is what a `module.to(...)` inside forward comes to."""
    for parameter, storage, dtype, *place in places:
        if parameter.untyped_storage()._cdata != storage._cdata:  # noqa: SLF001  # a storage's identity
            parameter.data = torch.empty(0, dtype=dtype, device=storage.device).set_(storage, *place)


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Dictionaries compare identities first, in C; only what was replaced is asked, and a tensor may not answer."""
    try:
        return a == b
    except (RuntimeError, ValueError, TypeError):
        return False


@contextmanager
def watched(enter: Callable[..., None], leave: Callable[..., None]) -> Iterator[None]:
    """Call `enter` before and `leave` after every module call, also of other threads; not after an exception.

    Torch's hooks for all modules: the model's own are not touched.
    """
    with ExitStack() as stack:
        stack.callback(register_module_forward_pre_hook(enter).remove)
        stack.callback(register_module_forward_hook(leave).remove)
        yield
