"""A torch.export program as small values: what `program_json` makes of its JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Expression:
    """A size that was left free when the program was exported.

    Attributes:
        text: a sympy expression, as the file writes it; `program_sizes` reads it.
        hint: its value for the example inputs, None where the file does not say.
    """

    text: str
    hint: int | None


@dataclass(frozen=True, slots=True)
class TensorMeta:
    """A tensor as the file declares it; sizes, strides and offset in elements."""

    dtype: torch.dtype
    sizes: tuple[int | Expression, ...]
    strides: tuple[int | Expression, ...]
    offset: int | Expression
    requires_grad: bool


@dataclass(frozen=True, slots=True)
class Payload:
    """Where the archive keeps a tensor.

    Attributes:
        file: name of the member, without its folder.
        is_param: whether it is a parameter.
        pickled: whether the member is a pickle; it is never opened then.
        meta: what is declared of it, None for an object that is no tensor.
    """

    file: str
    is_param: bool
    pickled: bool
    meta: TensorMeta | None


@dataclass(frozen=True, slots=True)
class Frame:
    """A module call that an operator lies in: `key` tells two calls of one module apart."""

    key: str
    path: str
    type: str


@dataclass(frozen=True, slots=True)
class Node:
    """One operator call: arguments by name, "" where they go by position; names of what it gives."""

    target: str
    inputs: tuple[tuple[str, Any], ...]
    outputs: tuple[Any, ...]
    stack: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """Operator calls in order. `values` and `sizes` are what the file says of its values, as yet unchecked."""

    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    nodes: tuple[Node, ...]
    values: Mapping[str, Any]
    sizes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What an input of the graph stands for.

    Attributes:
        kind: "parameter", "buffer", "tensor_constant", "user_input", "constant_input", "custom_obj" or "token".
        value: its name in the graph as a `Ref`; for a user's input that is no tensor or size, the value itself.
        target: the dotted name of the tensor it stands for; for a constant input, its name.
        constant: the value of a constant input.
    """

    kind: str
    value: Any
    target: str = ""
    constant: Any = None


@dataclass(frozen=True, slots=True)
class Program:
    """A whole program.

    Attributes:
        graph: its operator calls.
        inputs: what each input of the graph stands for, in order.
        outputs: names of what the user gets, in order.
        ranges: of free sizes by symbol: the least and the most, None for no bound.
        modules: dotted paths of the modules it was exported from, in their order.
        written_by: torch's version.
    """

    graph: Graph
    inputs: tuple[InputSpec, ...]
    outputs: tuple[Any, ...]
    ranges: Mapping[str, tuple[int | None, int | None]]
    modules: tuple[str, ...]
    written_by: str
