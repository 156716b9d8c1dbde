"""What a placement is: a decision for every node and the list of tensors to quantize.

A target's rule gives an operator one of five roles:

* matrix: a convolution, matrix product or recurrence. It is where int8 saves time, so each becomes int8 unless
  something forbids it.
* elementwise: has an int8 kernel with an output grid of its own. It is worth that extra rounding only on the way from
  one int8 node to another, where it spares a round trip through float.
* move: moves or selects values (MaxPool, Reshape, ...). Its output has the grid of its input, so it costs no accuracy.
* scale: multiplies by a positive constant. Its output has the integers of its input, read on another grid.
* folded: Relu and Clip. A grid that begins at zero has done the Relu; one inside the limits has done the Clip.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal

import onnx_ir as ir

from quant.affine import Range


class Role(Enum):
    """What quantizing an operator is good for; see the module's description."""

    MATRIX = "matrix"
    ELEMENTWISE = "elementwise"
    MOVE = "move"
    SCALE = "scale"
    FOLDED = "folded"


class Mode(Enum):
    """How a node runs.

    `STATIC`: between grids known from calibration. `DYNAMIC`: the grid of its input is found anew in every run.
    `ABSORBED`: the grids of its neighbours do its work, it needs no kernel.
    """

    FLOAT = "float"
    STATIC = "static"
    DYNAMIC = "dynamic"
    ABSORBED = "absorbed"


@dataclass(frozen=True)
class Operands:
    """Positions of a node's inputs by what becomes of them; an input in none of them stays as it is."""

    activations: tuple[int, ...] = (0,)
    weight: int | None = None
    weight_axis: int | None = None
    bias: int | None = None


def first_operand(_: ir.Node) -> Operands:
    """The operands of an operator whose first input is its only data."""
    return Operands()


def no_obstacle(_: ir.Node) -> str:
    """The obstacle of an operator that always has its int8 kernel."""
    return ""


@dataclass(frozen=True)
class Rule:
    """How a target runs one operator on integers.

    Attributes:
        role: what quantizing it is good for.
        operands: which inputs of a given node are quantized.
        obstacle: why a given node has no int8 kernel, or "".
        float_output: the kernel may also write float, so its output needs no quantizing for its own sake.
        modes: the modes it has kernels for.
        limits: of a folded operator: the values a given node clips to.
        factor: of a scale: what a given node multiplies by.
    """

    role: Role
    operands: Callable[[ir.Node], Operands] = first_operand
    obstacle: Callable[[ir.Node], str] = no_obstacle
    float_output: bool = False
    modes: tuple[Mode, ...] = (Mode.STATIC,)
    limits: Callable[[ir.Node], Range] | None = None
    factor: Callable[[ir.Node], float] | None = None


@dataclass(frozen=True)
class Decision:
    """What becomes of one node, and why."""

    mode: Mode
    reason: str = ""
    operands: Operands | None = None

    @property
    def kernel(self) -> Literal["int8", "float"]:
        """What the node should run as."""
        return "float" if self.mode is Mode.FLOAT else "int8"


@dataclass(frozen=True)
class Quantized:
    """A tensor that is stored as integers.

    Attributes:
        name: of the tensor.
        like: the tensor whose grid it shares; its own name where it has a grid of its own.
        limits: values that its grid must not exceed.
        factor: where given, the tensor has the very integers of `like`, and `factor` times its scale.
    """

    name: str
    like: str
    limits: Range | None = None
    factor: float | None = None


@dataclass(frozen=True)
class Plan:
    """A decision for every node by its name, and the tensors to quantize by theirs, both in graph order."""

    name: str
    nodes: Mapping[str, Decision]
    tensors: Mapping[str, Quantized]

    @property
    def observed(self) -> tuple[str, ...]:
        """The tensors whose ranges `quant.calibrate` must find."""
        return tuple(name for name, tensor in self.tensors.items() if tensor.like == name)

    @property
    def modes(self) -> tuple[Mode, ...]:
        """How each node runs."""
        return tuple(decision.mode for decision in self.nodes.values())

    @property
    def matrices(self) -> tuple[str, ...]:
        """The int8 nodes that multiply by weights."""
        return tuple(
            name
            for name, decision in self.nodes.items()
            if decision.mode is Mode.DYNAMIC or (decision.operands is not None and decision.operands.weight is not None)
        )

    def decision(self, node: ir.Node | None) -> Decision:
        """What becomes of a node; a node that the plan does not know stays float."""
        name = node.name if node is not None else None
        return self.nodes.get(name or "", Decision(Mode.FLOAT))
