"""Operator calls run again on other tensors."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_map

from profiler.aten.call import Call, tensors_of

# From a tensor of the walk to its plane of numbers, None where the input does not reach it.
Of = Callable[[Any], torch.Tensor | None]
Planes = Sequence[torch.Tensor]
Structure = Callable[[Call, Of], Planes]


def split(plane: torch.Tensor, axis: int, sizes: tuple[int, ...]) -> torch.Tensor:
    """An axis cut into several; one of the sizes may be -1."""
    axis %= plane.dim()
    return plane.reshape((*plane.shape[:axis], *sizes, *plane.shape[axis + 1 :]))


def rerun(call: Call, **changes: Any) -> Any:  # noqa: ANN401  # the operator's result
    """The operator with some of its arguments replaced."""
    positional, named = [], {}
    for argument in call.func._schema.arguments:  # noqa: SLF001  # the only way to a schema
        value = changes[argument.name] if argument.name in changes else call[argument.name]
        if argument.kwarg_only:
            named[argument.name] = value
        else:
            positional.append(value)
    return call.func(*positional, **named)


def as_it_is(call: Call, of: Of) -> Planes:
    """The operator itself on the numbers: it moves them, or takes the largest. Constants reach nothing: zeros."""

    def numbers(value: Any) -> Any:  # noqa: ANN401  # any argument
        if not isinstance(value, torch.Tensor):
            return value
        plane = of(value)
        if plane is not None:
            return plane
        if value.is_floating_point() or value.is_complex():
            return torch.zeros(tuple(value.shape))
        if value.is_meta:
            raise TypeError(f"{call.packet} needs the values of an integer tensor of size {tuple(value.shape)}")
        return value

    args, kwargs = tree_map(numbers, (call.args, call.kwargs))
    return tensors_of(call.func(*args, **kwargs))
