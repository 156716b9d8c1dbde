"""One call of an ATen operator, its arguments reachable by the names of the operator's schema."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch

Shape = tuple[int, ...]


@cache
def _signature(func: torch._ops.OpOverload) -> dict[str, tuple[int, Any]]:
    """Position and default of each argument; keyword-only ones have position -1."""
    arguments = {}
    for position, argument in enumerate(func._schema.arguments):  # noqa: SLF001  # the only way to a schema
        default = argument.default_value if argument.has_default_value() else None
        arguments[argument.name] = (-1 if argument.kwarg_only else position, default)
    return arguments


def argument_names(func: torch._ops.OpOverload) -> tuple[str, ...]:
    """Names of the operator's arguments in schema order."""
    return tuple(_signature(func))


def on_device(
    func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any], device: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with any device that they name replaced; as they are where they name none."""
    position, _ = _signature(func).get("device", (-1, None))
    if 0 <= position < len(args) and args[position] is not None:
        return (*args[:position], torch.device(device), *args[position + 1 :]), kwargs
    if kwargs.get("device") is not None:
        return args, {**kwargs, "device": torch.device(device)}
    return args, kwargs


@dataclass(slots=True, eq=False)  # not frozen: one is made for every operator call, and freezing costs a microsecond
class Call:
    """An operator call as the walk saw it.

    Attributes:
        func: the overload that was called.
        args: positional arguments; read sizes and types of tensors only, most have no storage.
        kwargs: keyword arguments.
        outputs: the tensors that came out, in order.
        tensors: all tensors among the arguments, in order.
    """

    func: torch._ops.OpOverload
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[torch.Tensor, ...] = ()
    tensors: tuple[torch.Tensor, ...] = ()

    def __post_init__(self) -> None:
        if not self.tensors:
            self.tensors = tuple(tensors_of((self.args, self.kwargs)))

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401  # arguments are of every type
        """The argument of that name, or its default."""
        position, default = _signature(self.func)[name]
        if 0 <= position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name, default)

    def get(self, name: str) -> Any:  # noqa: ANN401  # as above
        """The argument of that name, or None where the overload has no such argument."""
        return self[name] if name in _signature(self.func) else None

    def __contains__(self, name: str) -> bool:
        """Whether the overload has an argument of that name."""
        return name in _signature(self.func)

    @property
    def packet(self) -> str:
        """The operator's name without its overload: `aten.conv2d`."""
        return str(self.func.overloadpacket)

    def shape(self, name: str) -> Shape:
        """Shape of a tensor argument."""
        return tuple(self[name].shape)

    @property
    def first(self) -> torch.Tensor:
        """The first tensor argument, whatever its name."""
        return self.tensors[0]

    @property
    def out(self) -> Shape:
        """Shape of the first output."""
        return tuple(self.outputs[0].shape)

    @property
    def out_elements(self) -> int:
        """Elements of the first output."""
        return self.outputs[0].numel()


def tensors_of(values: Any) -> list[torch.Tensor]:  # noqa: ANN401  # any nest of lists, tuples and dicts
    """All tensors in a nest of lists, tuples and dictionaries, in order."""
    if isinstance(values, torch.Tensor):
        return [values]
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, list | tuple):
        return []
    return [t for v in values for t in tensors_of(v)]


class Cost(NamedTuple):
    """Multiply-accumulates and floating-point operations of one call."""

    macs: int
    flops: int


NO_COST = Cost(0, 0)


@dataclass(frozen=True, slots=True)
class Operator:
    """What netgauge knows of an ATen operator.

    Attributes:
        op: the kind of operation, in the field's words.
        formula: the heading in docs/formulas.md that states the cost.
        cost: from the call, with its outputs, to the cost; None for operators that are free by convention.
        shape: from the call to the documented output size; None where the size is not a matter of shapes.
    """

    op: str
    formula: str
    cost: Callable[[Call], Cost] | None
    shape: Callable[[Call], Shape | None] | None = None

    @property
    def free(self) -> bool:
        """Whether the operator moves, allocates or reinterprets data and computes nothing."""
        return self.cost is None


def per_axis(value: int | list[int], axes: int) -> tuple[int, ...]:
    """One number for every spatial axis, from torch's "an int, or one for all, or one each"."""
    if isinstance(value, int):
        return (value,) * axes
    return tuple(value) * axes if len(value) == 1 else tuple(value)
