"""One call of an ATen operator, its arguments reachable by the names of the operator's schema."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from profiler.aten.overload import Schema, schema_of

Shape = tuple[int, ...]


def on_device(
    func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any], device: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with any device that they name replaced; as they are where they name none."""
    position, _ = schema_of(func).signature.get("device", (-1, None))
    if 0 <= position < len(args) and args[position] is not None:
        return (*args[:position], torch.device(device), *args[position + 1 :]), kwargs
    if kwargs.get("device") is not None:
        return args, {**kwargs, "device": torch.device(device)}
    return args, kwargs


class Call:
    """An operator call as the walk saw it.

    Attributes:
        func: the overload that was called.
        args: positional arguments; read sizes and types of tensors only, most have no storage.
        kwargs: keyword arguments.
        outputs: the tensors that came out, in order.
        tensors: all tensors among the arguments, in order.
        packet: the operator's name without its overload: `aten.conv2d`.
        plan: what the operator's family has worked out of its arguments, kept for its cost and its receptive field.
    """

    __slots__ = ("_signature", "args", "func", "kwargs", "outputs", "packet", "plan", "tensors")

    def __init__(
        self,
        func: torch._ops.OpOverload,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        outputs: tuple[torch.Tensor, ...] = (),
        tensors: tuple[torch.Tensor, ...] | None = None,
        schema: Schema | None = None,
    ) -> None:
        schema = schema or schema_of(func)
        self.func = func
        self.args = args
        self.kwargs = kwargs
        self.outputs = outputs
        self.tensors = schema.tensors(args, kwargs) if tensors is None else tensors
        self.packet = schema.packet
        self.plan: Any = None
        self._signature = schema.signature

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401  # arguments are of every type
        """The argument of that name, or its default."""
        position, default = self._signature[name]
        if 0 <= position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name, default)

    def get(self, name: str) -> Any:  # noqa: ANN401  # as above
        """The argument of that name, or None where the overload has no such argument."""
        return self[name] if name in self._signature else None

    def __contains__(self, name: str) -> bool:
        """Whether the overload has an argument of that name."""
        return name in self._signature

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


Make = Callable[[Call, Shape], torch.Tensor | None]


@dataclass(frozen=True, slots=True)
class Operator:
    """What netgauge knows of an ATen operator.

    Attributes:
        op: the kind of operation, in the field's words.
        formula: the heading in docs/formulas.md that states the cost.
        cost: from the call, with its outputs, to the cost; None for operators that are free by convention.
        shape: from the call, before it has outputs, to the documented output size; None, or a function that gives
            None, where the size is not a matter of shapes or the arguments do not fit.
        make: from the call and that size to the result, from `allocate`; None where torch's own kernel is needed.
    """

    op: str
    formula: str
    cost: Callable[[Call], Cost] | None
    shape: Callable[[Call], Shape | None] | None = None
    make: Make | None = None

    @property
    def free(self) -> bool:
        """Whether the operator moves, allocates or reinterprets data and computes nothing."""
        return self.cost is None


def per_axis(value: int | Sequence[int], axes: int) -> tuple[int, ...]:
    """One number for every spatial axis, from torch's "an int, or one for all, or one each"."""
    if isinstance(value, int):
        return (value,) * axes
    return tuple(value) * axes if len(value) == 1 else tuple(value)
