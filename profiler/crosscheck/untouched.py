"""Running a peer on the user's model and leaving everything as it was, whatever happens."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from profiler.kept import Kept
from profiler.undisturbed import undisturbed


@contextmanager
def untouched(model: nn.Module, contents: Iterable[torch.Tensor] = ()) -> Iterator[None]:
    """Put back what a run leaves behind: attributes and tensors in them, hooks, random state, switches of torch.

    Args:
        model: the user's own.
        contents: tensors that the run may write to, whose values are kept as well.
    """
    values = [(t, t.detach().clone()) for t in contents if not t.is_meta]
    modules = list(model.modules())
    with ExitStack() as stack:
        stack.callback(_write_back, values)
        stack.callback(Kept(modules, values=True).put_back)
        stack.enter_context(undisturbed(modules))
        stack.enter_context(torch.random.fork_rng())
        stack.enter_context(torch.no_grad())
        yield


def _write_back(values: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Kernels write to running statistics without telling, so that the values themselves are compared."""
    with torch.no_grad():
        for tensor, value in values:
            if not torch.equal(tensor, value):
                tensor.copy_(value)
