"""What the walk shows of each operator call."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from profiler.aten.call import Call, Cost, Operator
from profiler.receptive.field import TensorField


class ModuleCall(NamedTuple):
    """One call of a module: its path from the root, its class, and how often it had been called before."""

    name: str
    type: str
    number: int


class Step(NamedTuple):
    """One operator call.

    Attributes:
        call: the call; most tensors have no values.
        operator: its entry in the table, None where it has none.
        cost: by the formula; zero for free and unknown operators.
        module: the innermost module it ran in.
        inputs: sizes of the tensors that went in and depend on the model's inputs: no parameters, no buffers.
        parameters: the model's parameters that were used here for the first time.
        fields: receptive field of each output, None where the input does not reach it.
        written: the tensors it wrote: new ones, or the one it changed in place; none where it only made a view.
        read: bytes of the tensors that went in, parameters included.
    """

    call: Call
    operator: Operator | None
    cost: Cost
    module: ModuleCall
    inputs: tuple[tuple[int, ...], ...]
    parameters: tuple[torch.Tensor, ...]
    fields: tuple[TensorField | None, ...]
    written: tuple[torch.Tensor, ...]
    read: int


Visitor = Callable[[Step], None]
