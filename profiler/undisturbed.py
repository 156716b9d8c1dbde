"""Leaving a model as it was: whatever a forward call does to its modules is undone, also after an exception."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from threading import get_ident
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from profiler.inventory import unique_parameters
from profiler.memory import storage_key

_CONTAINERS = ("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks")


@contextmanager
def undisturbed(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Restore attributes, parameters, buffers, submodules, hooks, random state and torch's global switches."""
    modules = list(modules)
    attributes = [(m, m.__dict__.copy(), [m.__dict__[name].copy() for name in _CONTAINERS]) for m in modules]
    contents = [(p, p.detach()) for p in unique_parameters(modules)]
    with ExitStack() as stack:
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        # The fused encoder is an inference shortcut for the very same work; the documented modules are what is counted.
        torch.backends.mha.set_fastpath_enabled(False)
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.callback(_restore_contents, contents)
        stack.callback(_restore, attributes)
        yield


def _restore(attributes: list[tuple[nn.Module, dict[str, Any], list[Any]]]) -> None:
    for module, before, containers in attributes:
        now = module.__dict__
        if not _same(now, before):
            now.clear()
            now.update(before)
        for name, contents in zip(_CONTAINERS, containers, strict=True):
            container = before[name]
            if not _same(container, contents):
                container.clear()
                container.update(contents)


def _restore_contents(contents: list[tuple[nn.Parameter, torch.Tensor]]) -> None:
    """Undo `parameter.data = ...`, which is what a `module.to(...)` inside forward comes to."""
    for parameter, before in contents:
        if storage_key(parameter) != storage_key(before):
            parameter.data = before


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Dictionaries compare identities first, in C; only what was replaced is asked, and a tensor may not answer."""
    try:
        return a == b
    except (RuntimeError, ValueError, TypeError):
        return False


@contextmanager
def watched(enter: Callable[[nn.Module], None], leave: Callable[..., None]) -> Iterator[None]:
    """Call `enter` before and `leave` after every module call of this thread; `leave` is told of an exception.

    Torch's hooks for all modules: the model's own are not touched.
    """
    owner = get_ident()

    def before(module: nn.Module, _inputs: object) -> None:
        if get_ident() == owner:
            enter(module)

    def after(module: nn.Module, _inputs: object, outputs: object) -> None:
        if get_ident() == owner:
            leave(module, failed=outputs is None)

    with ExitStack() as stack:
        stack.callback(register_module_forward_pre_hook(before).remove)
        stack.callback(register_module_forward_hook(after, always_call=True).remove)
        yield
