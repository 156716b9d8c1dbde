"""One node of an ONNX graph, its inputs and attributes at hand, and what netgauge knows of an operator."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import AttributeProto, NodeProto, helper

from profiler.onnx_ops.value import Shape, Value
from profiler.receptive.field import TensorField

Cost = tuple[int, int]
"""Multiply-accumulates and floating-point operations."""

Fields = Sequence[TensorField | None]


class UnknownValueError(Exception):
    """An operator's size depends on the elements of an input, and they are not known before the graph runs."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


class UncountedError(Exception):
    """A formula does not cover this use of an operator; the message says why."""


_SIMPLE: dict[int, Callable[[AttributeProto], Any]] = {
    AttributeProto.INT: lambda a: a.i,
    AttributeProto.FLOAT: lambda a: a.f,
    AttributeProto.INTS: lambda a: tuple(a.ints),
    AttributeProto.FLOATS: lambda a: tuple(a.floats),
    AttributeProto.STRING: lambda a: a.s.decode(errors="replace"),
    AttributeProto.STRINGS: lambda a: tuple(s.decode(errors="replace") for s in a.strings),
}


@dataclass(slots=True, eq=False)
class NodeCall:
    """A node with its inputs.

    Attributes:
        node: as the graph has it.
        op: the operator's name, with its domain unless that is the standard one.
        opset: version of the operator's domain that the graph imports.
        inputs: None for an optional input that is left out.
        outputs: one for each output, once the sizes are known.
        attributes: decoded.
    """

    node: NodeProto
    op: str
    opset: int
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for a in self.node.attribute:
            decode = _SIMPLE.get(a.type)
            self.attributes[a.name] = decode(a) if decode else helper.get_attribute_value(a)

    def attr(self, name: str, default: Any = None) -> Any:  # noqa: ANN401  # attributes are of every type
        """An attribute, or its default."""
        return self.attributes.get(name, default)

    def has(self, position: int) -> bool:
        """Whether an optional input is given."""
        return position < len(self.inputs) and self.inputs[position] is not None

    def input(self, position: int) -> Value:
        """An input that must be there.

        Raises:
            ValueError: it is left out.
        """
        value = self.inputs[position] if position < len(self.inputs) else None
        if value is None:
            raise ValueError(f"input {position} is missing")
        return value

    def shape(self, position: int = 0) -> Shape:
        """Size of an input.

        Raises:
            UnknownValueError: it is not known.
        """
        shape = self.input(position).shape
        if shape is None:
            raise UnknownValueError(position)
        return shape

    def array(self, position: int) -> npt.NDArray[Any]:
        """Elements of an input.

        Raises:
            UnknownValueError: they are not known before the graph runs.
        """
        array = self.input(position).array
        if array is None:
            raise UnknownValueError(position)
        return array

    def integers(self, position: int) -> tuple[int, ...]:
        """Elements of an input as integers; raises as `array`."""
        return tuple(int(n) for n in np.ravel(self.array(position)))

    def listed(self, name: str, position: int) -> tuple[int, ...] | None:
        """Integers that older operators have as an attribute, newer ones as an input; None where there is neither."""
        if self.has(position):
            return self.integers(position)
        value = self.attr(name)
        return tuple(value) if value is not None else None

    @property
    def tensors(self) -> tuple[Value, ...]:
        """The inputs that are given."""
        return tuple(v for v in self.inputs if v is not None)

    @property
    def out(self) -> Shape:
        """Size of the first output."""
        shape = self.outputs[0].shape
        return () if shape is None else shape

    @property
    def out_elements(self) -> int:
        """Elements of the first output."""
        return prod(self.out)

    def fields(self) -> list[TensorField]:
        """Receptive fields of the inputs that the network's input reaches."""
        return [v.field for v in self.tensors if v.field is not None]


@dataclass(frozen=True, slots=True)
class Operator:
    """What netgauge knows of an ONNX operator.

    Attributes:
        op: the kind of operation, in the field's words.
        formula: the heading in docs/formulas.md that states the cost.
        cost: from the node, with its outputs, to the cost; None for operators that are free by convention.
        shapes: the documented sizes of the outputs, the first ones at least; None where they follow from ONNX' own
            inference alone. One size is None where only running the graph tells it.
        field: receptive fields of the outputs; None where nothing is known of them.
        dtype: element type of the outputs, where ONNX has no inference; as the first input's by default.
        view: whether the output lies in the memory of the first input.
        integers: whether it counts although its operands are integers: products in 8 bits.
        bound: whether `shapes` gives the largest that may come out, because the data decide.
    """

    op: str
    formula: str
    cost: Callable[[NodeCall], Cost] | None
    shapes: Callable[[NodeCall], Sequence[Shape | None]] | None = None
    field: Callable[[NodeCall], Fields] | None = None
    dtype: Callable[[NodeCall], int] | None = None
    view: bool = False
    integers: bool = False
    bound: bool = False

    @property
    def free(self) -> bool:
        """Whether the operator moves, allocates or reinterprets data and computes nothing."""
        return self.cost is None
