"""Which provider runs which nodes of a model.

A session on CUDA or TensorRT hands the nodes without a kernel there to the CPU and says nothing. ONNX Runtime 1.24 and
newer tell the assignment of every node, taken after constants are folded and before nodes are fused.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from profiler.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIG = ("session.record_ep_graph_assignment_info", "1")
MOST_LISTED = 5

# ONNX Runtime computes sizes on the CPU on purpose, since CUDA has a kernel for each of these and needs the result on
# the host. On the CPU they copy nothing large, and are no reason to warn.
_SIZES = frozenset(
    (
        *("Shape", "Size", "Gather", "Slice", "Squeeze", "Unsqueeze", "Concat", "Cast", "Constant", "ConstantOfShape"),
        *("Add", "Sub", "Mul", "Div", "Mod", "Floor", "Ceil", "Neg", "Min", "Max", "Range", "Equal", "Less", "Greater"),
        *("Not", "And", "Or", "Where", "ReduceProd", "Reshape", "Identity", "Expand", "If", "Loop", "Split"),
    )
)


@dataclass(frozen=True)
class Assignment:
    """Nodes by provider.

    Attributes:
        wanted: the provider that was asked for.
        nodes: provider -> operator -> how many nodes of it.
    """

    wanted: str
    nodes: Mapping[str, Mapping[str, int]]

    @property
    def total(self) -> int:
        """Nodes of all providers."""
        return sum(sum(operators.values()) for operators in self.nodes.values())

    @property
    def elsewhere(self) -> dict[str, Mapping[str, int]]:
        """The nodes of other providers than the wanted one."""
        return {provider: operators for provider, operators in self.nodes.items() if provider != self.wanted}

    @property
    def left_out(self) -> bool:
        """Whether another provider computes something that is no size of a tensor."""
        return any(set(operators) - _SIZES for operators in self.elsewhere.values())

    def summary(self) -> str:
        """All in a sentence: "12 of 140 nodes ran on CPU: Shape x8, Gather x4"."""
        if not self.elsewhere:
            return f"{'its one node' if self.total == 1 else f'all {self.total} nodes'} ran on {short(self.wanted)}"
        return "; ".join(
            f"{sum(operators.values())} of {self.total} nodes ran on {short(provider)}: {_listed(operators)}"
            for provider, operators in self.elsewhere.items()
        )

    def warning(self, name: str) -> str | None:
        """What to warn of where the wanted provider does not compute everything; `name` is the model's."""
        if not self.left_out:
            return None
        return f"{name}: {self.summary()}; the times are not those of {short(self.wanted)} alone"

    def check(self, name: str) -> None:
        """Refuse a session in which the wanted provider does nothing.

        Raises:
            ModelError: no node is its own.
        """
        if self.total and not self.nodes.get(self.wanted):
            raise ModelError(
                f"{name}: none of its nodes runs on {short(self.wanted)}: {self.summary()}\n"
                "Run it with --device cpu, or give a model whose operators have kernels there."
            )


def assignment(session: Any, wanted: str) -> Assignment | None:  # noqa: ANN401  # onnxruntime.InferenceSession
    """The assignment of an open session; None before ONNX Runtime 1.24, which does not tell."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return None
    nodes: dict[str, Counter[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        nodes.setdefault(part.ep_name, Counter()).update(node.op_type for node in part.get_nodes())
    return Assignment(wanted, {provider: dict(operators.most_common()) for provider, operators in nodes.items()})


def short(provider: str) -> str:
    """A provider's name as people say it."""
    name = provider.removesuffix("ExecutionProvider")
    return {"Tensorrt": "TensorRT"}.get(name, name)


def _listed(operators: Mapping[str, int]) -> str:
    shown = [f"{operator} x{count}" for operator, count in list(operators.items())[:MOST_LISTED]]
    more = len(operators) - MOST_LISTED
    return ", ".join(shown) + (f" and {more} more operators" if more > 0 else "")
