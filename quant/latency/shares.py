"""The part of a quantized model's time that belongs to each node of the float graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quant.graph import name_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx_ir as ir

    from quant.latency.layers import NodeShare

_HEAVY = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"))


def time_shares(graph: ir.Graph, shares: Sequence[NodeShare]) -> dict[ir.Node, float]:
    """Shares by node of the float graph; a node that was fused into another has none.

    The time of a pattern is its matrix product's or convolution's, where it has one.

    Args:
        graph: the float graph.
        shares: of the quantized graph's nodes, which keep the float nodes' names or those of their tensors.
    """
    by_name: dict[str, ir.Node] = {}
    for each in graph:
        for name in (each.name or "", *map(name_of, each.outputs)):
            by_name.setdefault(name, each)
    found: dict[ir.Node, float] = {}
    for entry in shares:
        # Its own name says best which node it is; an integer product has a name of its own and stands for what follows.
        nodes = [by_name[n] for n in sorted(entry.names) if n in by_name]
        nodes = nodes or [by_name[n] for n in sorted(entry.covered) if n in by_name]
        node = next((n for n in nodes if n.op_type in _HEAVY), nodes[0] if nodes else None)
        if node is not None:
            found[node] = found.get(node, 0.0) + entry.share
    return found
