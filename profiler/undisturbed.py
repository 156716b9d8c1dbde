"""Leaving a model as it was: whatever a forward call does to its modules is undone, also after an exception."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

_TORCHS_OWN = ("torch.nn.modules.", "torch.jit.")
_CONTAINERS = ("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks")


@contextmanager
def undisturbed(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Restore attributes, parameters, buffers, submodules, hooks, random state and torch's global switches.

    Args:
        modules: the model and all modules in it, each once.
    """
    attributes, contents, empty, places = [], [], [], []
    for module in modules:
        now = module.__dict__
        if not _is_torchs_own(type(module)):  # type: ignore[arg-type]  # a class is hashed by identity
            attributes.append((now, now.copy()))
        for name in _CONTAINERS:
            container = now[name]
            if not container:
                empty.append(container)
            elif _is_plain(container):
                contents.append((container, container.copy()))
        places += [
            (p, p.untyped_storage(), p.dtype, p.storage_offset(), p.shape, p.stride())
            for p in now["_parameters"].values()
            if p is not None
        ]
    with ExitStack() as stack:
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        # The fused encoder is an inference shortcut for the very same work; the documented modules are what is counted.
        torch.backends.mha.set_fastpath_enabled(False)
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.callback(_restore_places, places)
        stack.callback(_restore, attributes + contents)
        stack.callback(_clear, empty)
        yield


@cache
def _is_torchs_own(kind: type) -> bool:
    """Whether a module is a layer of torch's, of which there are many, and which set no attributes in forward."""
    return kind.__module__.startswith(_TORCHS_OWN)


def _is_plain(container: object) -> bool:
    """A scripted module's containers are views of C++ objects that hold no Python state."""
    return isinstance(container, dict)


def _restore(dictionaries: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    for now, before in dictionaries:
        if not _same(now, before):
            now.clear()
            now.update(before)


def _clear(containers: list[dict[str, Any]]) -> None:
    for container in containers:
        if container:
            container.clear()


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
