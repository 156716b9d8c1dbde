"""What each node of the optimized graph computes and moves, from the figures of the original nodes that it covers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.onnx_graph.costs import first_output

if TYPE_CHECKING:
    from collections.abc import Sequence, Set

    from onnx import NodeProto

    from profiler.onnx_graph.costs import NodeCosts
    from quant.latency.fusions import Origin


_READ_NOTHING = frozenset(("Shape", "Size"))


class Traffic:
    """Multiply-accumulates and bytes by optimized node.

    A fused node reads what enters the original nodes that it covers and writes what leaves them; what passes between
    them stays inside. A conversion reads and writes its own tensors, as far as the original graph knows them.
    """

    def __init__(
        self,
        nodes: Sequence[NodeProto],
        optimized: Sequence[NodeProto],
        found: Sequence[Origin],
        costs: NodeCosts | None,
        outputs: Set[str],
    ) -> None:
        self._nodes, self._optimized, self._found, self._costs = nodes, optimized, found, costs
        self._outputs = outputs
        self._producer = {t: n for n, node in enumerate(nodes) for t in node.output if t}
        self._readers: dict[str, list[int]] = {}
        for n, node in enumerate(nodes):
            for tensor in node.input:
                self._readers.setdefault(tensor, []).append(n)

    def of(self, number: int, *, int8: bool) -> tuple[int, int]:
        """Multiply-accumulates and bytes of a node; 0 where nothing is known.

        Args:
            number: position among the optimized graph's nodes.
            int8: whether it reads its constants as integers, from before their DequantizeLinear.
        """
        if self._costs is None:
            return 0, 0
        covered = self._found[number].covered
        if self._optimized[number].op_type in _READ_NOTHING:
            return 0, 0
        if not covered:
            node = self._optimized[number]
            return 0, sum(self._bytes(tensor) for tensor in {*node.input, *node.output})
        firsts = [first_output(self._nodes[n]) for n in covered]
        macs = sum(self._costs.macs.get(first, 0) for first in firsts)
        if all(first in self._costs.views for first in firsts):
            return macs, 0
        return macs, sum(self._bytes(tensor) for tensor in self._crossing(set(covered), int8=int8))

    def _bytes(self, tensor: str) -> int:
        return self._costs.tensor_bytes.get(tensor, 0) if self._costs else 0

    def _crossing(self, covered: Set[int], *, int8: bool) -> set[str]:
        """Tensors that enter or leave a set of original nodes."""
        found: set[str] = set()
        for n in covered:
            for tensor in self._nodes[n].input:
                if self._producer.get(tensor) not in covered:
                    found |= self._stored(tensor) if int8 else {tensor}
            for tensor in self._nodes[n].output:
                readers = self._readers.get(tensor, ())
                if tensor in self._outputs or any(reader not in covered for reader in readers):
                    found.add(tensor)
        return found

    def _stored(self, tensor: str) -> set[str]:
        """What a kernel on integers reads: the integers behind a DequantizeLinear."""
        producer = self._producer.get(tensor)
        if producer is None or self._nodes[producer].op_type != "DequantizeLinear":
            return {tensor}
        return {t for t in self._nodes[producer].input if t}
