"""Leaving a model as it was: whatever a forward call does to its modules is undone, also after an exception."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

_TORCHS_OWN = ("torch.nn.modules.", "torch.jit.")
_TENSORS = ("_parameters", "_buffers")
_CONTAINERS = ("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks")


@contextmanager
def undisturbed(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Restore attributes, parameters, buffers, submodules, hooks, random state and torch's global switches.

    Args:
        modules: the model and all modules in it, each once.
    """
    kept = [_Kept(module) for module in modules]
    places = [
        (p, p.untyped_storage(), p.dtype, p.storage_offset(), p.shape, p.stride())
        for before in kept
        for p in before.module.__dict__["_parameters"].values()
        if p is not None
    ]
    with ExitStack() as stack:
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        # The fused encoder is an inference shortcut for the very same work; the documented modules are what is counted.
        torch.backends.mha.set_fastpath_enabled(False)
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.callback(_restore_places, places)
        stack.callback(_restore, kept)
        yield


class _Kept:
    """A module's attributes before it runs.

    Torch's own layers set none in forward, so that only what others may put into them is kept; there are many.
    """

    __slots__ = ("attributes", "contents", "module")

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        now = module.__dict__
        maker = type(module).__module__
        stock = maker.startswith(_TORCHS_OWN)
        self.attributes = None if stock else now.copy()
        # A scripted module's containers are views of C++ objects that hold no Python state.
        names = () if maker.startswith("torch.jit.") else _TENSORS if stock else _CONTAINERS
        self.contents = [(name, now[name].copy()) for name in names if now[name]]

    def restore(self) -> None:
        """Put back what differs."""
        now = self.module.__dict__
        if self.attributes is not None and not _same(now, self.attributes):
            now.clear()
            now.update(self.attributes)
        filled = 0
        for name, old in self.contents:
            if not _same(now[name], old):
                now[name].clear()
                now[name].update(old)
            filled += 1
        if self.attributes is not None and filled < len(_CONTAINERS):
            before = {name for name, _ in self.contents}
            for name in _CONTAINERS:
                if now[name] and name not in before:
                    now[name].clear()


def _restore(kept: list[_Kept]) -> None:
    for before in kept:
        before.restore()


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
