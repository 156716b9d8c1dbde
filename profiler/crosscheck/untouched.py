"""Running a peer on the user's model and leaving everything as it was, whatever happens."""

import random
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from profiler.undisturbed import undisturbed


@contextmanager
def untouched(model: nn.Module, contents: Iterable[torch.Tensor] = ()) -> Iterator[None]:
    """Put back what a run leaves behind: attributes, hooks, random state, switches of torch.

    Compiled modules run as they are written, which counters can see into.

    Args:
        model: the user's own.
        contents: tensors that the run may write to, whose values are kept as well.
    """
    values = [(t, t.detach().clone()) for t in contents if not t.is_meta]
    modules = list(model.modules())
    numpy_state = np.random.get_state()  # noqa: NPY002  # the old generator is the one that others draw from
    with ExitStack() as stack:
        stack.callback(_write_back, values)
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, numpy_state)
        for module in modules:
            stack.callback(_refiller(module))
        stack.enter_context(undisturbed(modules))
        stack.enter_context(torch.random.fork_rng())
        stack.enter_context(torch.no_grad())
        for module in modules:
            if isinstance(compiled := vars(module)["_modules"].get("_orig_mod"), nn.Module):
                vars(module)["forward"] = compiled.__call__
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message=".*global hooks on modules", category=UserWarning)  # compiled ones
        yield


def _write_back(values: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Kernels write to running statistics without telling, so that the values themselves are compared."""
    with torch.no_grad():
        for tensor, value in values:
            if not torch.equal(tensor, value):
                tensor.copy_(value)


def _refiller(module: nn.Module) -> Callable[[], None]:
    """Gives a module its attributes back, and its lists, dictionaries and sets what they hold now."""
    containers = [value for value in vars(module).values() if isinstance(value, dict | list | set)]
    held = [(container, container.copy()) for container in (*containers, vars(module))]

    def refill() -> None:
        for container, content in held:
            if not _same(container, content):
                container.clear()
                (container.extend if isinstance(container, list) else container.update)(content)

    return refill


def _same(now: Any, before: Any) -> bool:  # noqa: ANN401  # a dictionary, list or set, and a copy of it
    """Whether a container holds the very same objects, in the same order where it has one."""
    if isinstance(now, dict):
        return _same(list(now), list(before)) and _same(list(now.values()), list(before.values()))
    return len(now) == len(before) and all(a is b for a, b in zip(now, before, strict=True))
