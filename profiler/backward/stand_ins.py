"""Tensors in the place of a model's own, so that a training step neither reads nor writes what belongs to the user."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

import torch
from torch import nn

# Tensors larger than this carry data, not structure; their values are not kept.
_MOST_INTEGERS = 1 << 24
_MOST_FLOATS = 1 << 12


def is_number(tensor: torch.Tensor) -> bool:
    """Whether a tensor can have a gradient: floating-point or complex."""
    return tensor.is_floating_point() or tensor.is_complex()


class Keep(Enum):
    """Which values a training step keeps. Models branch on masks, positions and lengths, some on small constants."""

    INTEGERS = "of integers and truth values"
    CONSTANTS = "of those and of small floating-point tensors that do not depend on inputs and parameters"
    ALL = "all: the step is run with values"

    def holds(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor's values are kept."""
        if is_number(tensor):
            most = {Keep.INTEGERS: -1, Keep.CONSTANTS: _MOST_FLOATS}.get(self)
            return most is None or tensor.numel() <= most
        return self is Keep.ALL or tensor.numel() <= _MOST_INTEGERS

    def stand_in(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor in the place of one of the model's or of its inputs."""
        if self is Keep.ALL:
            return tensor.detach().clone()
        if tensor.is_meta or is_number(tensor) or not self.holds(tensor):
            return without_values(tensor)
        return tensor.detach().cpu().clone()


def without_values(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor on the meta device of the same size, type and layout."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


class StandIns:
    """The tensors that stand in for a model's: one each, so that tied parameters stay tied."""

    def __init__(self, make: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._make = make
        self._made: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """The stand-in of a tensor, the same one each time."""
        if id(tensor) not in self._made:
            made: torch.Tensor = self._make(tensor)
            if isinstance(tensor, nn.Parameter):
                made = nn.Parameter(made, requires_grad=tensor.requires_grad)
            elif tensor.requires_grad and tensor.is_leaf:
                made.requires_grad_()
            made.__dict__.update(tensor.__dict__)
            self._made[id(tensor)] = (tensor, made)  # the tensor is held, so that its id stays its own
        return self._made[id(tensor)][1]

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (made for _, made in self._made.values())


@contextmanager
def in_place_of_the_models(modules: Iterable[nn.Module], stand_ins: StandIns) -> Iterator[None]:
    """Put the stand-ins into the modules: for parameters, buffers, and tensors that are plain attributes."""
    kept: list[tuple[dict[str, Any], dict[str, torch.Tensor]]] = []
    try:
        for module in modules:
            holders: tuple[dict[str, Any], ...] = (module._parameters, module._buffers, module.__dict__)  # noqa: SLF001  # where they are
            for holder in holders:
                found = {name: t for name, t in holder.items() if isinstance(t, torch.Tensor)}
                if found:
                    kept.append((holder, found))
                    holder.update({name: stand_ins.of(t) for name, t in found.items()})
        yield
    finally:
        for holder, found in kept:
            holder.update(found)
