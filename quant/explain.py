"""What became of every node: which kernel ONNX Runtime really gave it, and why.

A plan is a wish. Here the quantized model is loaded, the graph that ONNX Runtime made of it is read back, and every
node of the float graph is found in it by the tensors that it writes: a float tensor that is still there was written by
a float kernel; its integers, written by anything but QuantizeLinear, by an int8 kernel; and a tensor that is gone went
into the node that reads it.
"""

from __future__ import annotations

import ast
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from quant.graph import is_float, name_of, to_bytes
from quant.place.plan import Mode
from quant.result import NodeRow
from quant.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quant.place.plan import Decision, Plan

_SCOPES = (
    "pkg.torch.onnx.name_scopes"  # written by torch's exporter: module paths from the root to the operator's own name
)

_INT8_PREFIXES = ("QLinear", "QGemm", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulInteger", "ConvInteger")
_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")


@dataclass(frozen=True)
class Explanation:
    """What ONNX Runtime made of a quantized model.

    Attributes:
        rows: one per node of the float graph, in its order.
        operators: operator -> how many nodes of it run.
    """

    rows: tuple[NodeRow, ...]
    operators: Mapping[str, int]

    @property
    def conversions(self) -> int:
        """Nodes that only convert between float and integers."""
        return sum(self.operators.get(operator, 0) for operator in _CONVERSIONS)

    @property
    def unfused(self) -> tuple[NodeRow, ...]:
        """Nodes that were planned as int8 and run in float."""
        return tuple(row for row in self.rows if row.reason.startswith(_UNFUSED))


_UNFUSED = "planned as int8, but ONNX Runtime"


def explain(model: ir.Model, plan: Plan, quantized: ir.Model) -> Explanation:
    """Find out how every node of a float graph runs once quantized.

    Args:
        model: the float graph the plan was made for.
        plan: what was wanted.
        quantized: `quant.place.qdq.apply(plan, model, ...)`.
    """
    optimized = _optimized(quantized)
    kernels = _Kernels(quantized.graph, optimized.graph)
    rows = tuple(_row(node, plan.decision(node), kernels) for node in model.graph)
    return Explanation(rows, dict(sorted(Counter(node.op_type for node in optimized.graph).items())))


def layer_of(node: ir.Node) -> str:
    """The path of the torch module a node comes from, "" where the file does not tell.

    A convolution that a batch norm was folded into carries the batch norm's path; its weight has its own.
    """
    try:
        scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
    except (SyntaxError, ValueError):
        return ""
    if not isinstance(scopes, list) or len(scopes) < 2:
        return ""
    weight = name_of(node.inputs[1]) if len(node.inputs) > 1 else ""
    if "batch_norm" in scopes[-1] and "." in weight:
        return weight.rpartition(".")[0]
    return "" if str(scopes[-2]).startswith("_empty") else str(scopes[-2])


def _optimized(quantized: ir.Model) -> ir.Model:
    """The graph as ONNX Runtime runs it, before it changes memory layouts and renames tensors for that."""
    with tempfile.TemporaryDirectory(prefix="netgauge-") as folder:
        path = Path(folder) / "optimized.onnx"
        open_session(to_bytes(quantized), optimized_path=path, level="extended")
        return ir.serde.deserialize_model(onnx.ModelProto.FromString(path.read_bytes()))


class _Kernels:
    """Looks nodes of the float graph up in the optimized one."""

    def __init__(self, quantized: ir.Graph, optimized: ir.Graph) -> None:
        self.writers = {name_of(output): node.op_type for node in optimized for output in node.outputs}
        self.integers: dict[str, str] = {}  # float tensor -> its integers
        self.raw: dict[str, str] = {}  # graph output -> the name it had before its Q/DQ pair
        for node in quantized:
            if node.op_type == "QuantizeLinear":
                raw, stored = name_of(node.inputs[0]), name_of(node.outputs[0])
                self.integers[raw] = stored
                for use in node.outputs[0].uses():
                    if use.node.outputs[0].is_graph_output():
                        restored = name_of(use.node.outputs[0])
                        self.integers[restored], self.raw[restored] = stored, raw

    def of(self, node: ir.Node) -> tuple[str, bool]:
        """The operator that does a node's work, "" if none is left of it, and whether it computes with integers."""
        seen: set[ir.Node] = set()
        following: ir.Node | None = node
        while following is not None and following not in seen:
            seen.add(following)
            for output in following.outputs:
                found = self._writer(name_of(output))
                if found is not None:
                    return found
            uses = [use.node for output in following.outputs for use in output.uses()]
            following = uses[0] if uses else None
        return "", False

    def _writer(self, tensor: str) -> tuple[str, bool] | None:
        operator = self.writers.get(self.integers.get(tensor, ""), "QuantizeLinear")
        if operator != "QuantizeLinear":
            return operator, True
        operator = self.writers.get(self.raw.get(tensor, tensor), "")
        if operator in {"", "DequantizeLinear"}:
            return None
        return operator, operator.startswith(_INT8_PREFIXES)


def _row(node: ir.Node, decision: Decision, kernels: _Kernels) -> NodeRow:
    operator, int8 = kernels.of(node) if any(is_float(output) for output in node.outputs) else ("", False)
    if decision.mode is Mode.FLOAT:
        # ONNX Runtime may turn to int8 what stands between DQ and Q without having been planned.
        reason = (
            f"{operator}: it stands between int8 nodes" if int8 and operator.startswith("QLinear") else decision.reason
        )
        int8 = int8 and operator.startswith("QLinear")
    elif int8:
        reason = operator if decision.mode is not Mode.ABSORBED else f"{decision.reason} ({operator})"
    else:
        reason = f"{_UNFUSED} runs {operator} in float" if operator else f"{_UNFUSED} left nothing of it"
    return NodeRow(node.name or "", node.op_type, layer_of(node), "int8" if int8 else "float", reason)
