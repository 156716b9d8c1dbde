"""Compiled modules and functions: what torch.compile wrapped is run as it is written, under its own names."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

WRAPPED = "_orig_mod"
_CALL = "_compiled_call_impl"


def as_written(module: nn.Module) -> nn.Module:
    """What `torch.compile(module)` wrapped; any other module itself."""
    if type(module).__name__ != "OptimizedModule":
        return module
    inner: nn.Module = module._modules.get(WRAPPED) or module  # noqa: SLF001  # what named_modules() reads
    return inner


@contextmanager
def not_compiled(modules: Iterable[nn.Module], *, wrapped: bool = True) -> Iterator[None]:
    """Run compiled code eagerly: nothing is traced, and wrappers in these modules make way for what they wrap.

    Args:
        modules: the model and all modules in it.
        wrapped: whether there may be wrappers among them.
    """
    if "torch._dynamo.eval_frame" not in sys.modules:
        yield
        return
    with ExitStack() as stack:
        for module in modules:
            if wrapped:
                children = module._modules  # noqa: SLF001  # as above
                wrappers = {name: m for name, m in children.items() if m is not None and as_written(m) is not m}
                stack.callback(children.update, wrappers)
                children.update({name: as_written(m) for name, m in wrappers.items()})
            if _CALL in module.__dict__:  # `module.compile()`
                stack.callback(module.__dict__.update, {_CALL: module.__dict__.pop(_CALL)})
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield
