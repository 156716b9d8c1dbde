"""The nodes that ONNX Runtime runs, traced back to the nodes of the graph it was given.

ONNX Runtime fuses nodes, moves them, lays tensors out anew and renames them. What stays is, mostly, the name of the
tensor that a fused pattern writes, else the node's own name with something behind it. These are the anchors. From an
anchor the original graph is walked backwards, up to tensors that other nodes still make: what lies on the way was fused
into the node. A kernel on integers also holds what comes after it up to the QuantizeLinear. What then belongs to nobody
went into the node before it. Conversions that only serve other nodes are told apart: into a form, they serve the node
that reads them; out of it, the one that wrote what they read.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from onnx import GraphProto, NodeProto

_SUFFIX = re.compile(r"(_token_\d+|_nchwc|_nhwc)+$")
_INTO = frozenset(("ReorderInput", "QuantizeLinear", "DynamicQuantizeLinear"))
_OUT_OF = frozenset(("ReorderOutput", "DequantizeLinear"))
# Conversions, unless the original graph has them there as well.
_INSERTED = frozenset(("Transpose", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten"))
_FOLDED = frozenset(("Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "Softmax", "QuantizeLinear"))
_RANDOM = frozenset(("RandomNormal", "RandomUniform"))


@dataclass(frozen=True)
class Origin:
    """Where a node of the optimized graph comes from; numbers are positions in the original graph's nodes.

    Attributes:
        node: the node that it stands for (of several, the one that computes most), None where none was found.
        covered: all nodes whose work it does; each node is covered once.
        overhead: whether it only converts, for `node`.
        found: whether a name or tensor says so; False where it is only the neighbour of `node`.
    """

    node: int | None
    covered: tuple[int, ...]
    overhead: bool
    found: bool


def origins(original: GraphProto, optimized: GraphProto, macs: Mapping[str, int] | None = None) -> tuple[Origin, ...]:
    """Where each node of an optimized graph comes from.

    Args:
        original: the graph given to ONNX Runtime.
        optimized: the graph it made of it.
        macs: what the original's nodes compute, by the name of their first output.
    """
    return _Match(_Graph(original), optimized, macs or {}).origins()


class _Graph:
    """The original graph, to be looked up in."""

    def __init__(self, graph: GraphProto) -> None:
        self.nodes: Sequence[NodeProto] = list(graph.node)
        self.producer = {tensor: n for n, node in enumerate(self.nodes) for tensor in node.output if tensor}
        names: defaultdict[str, list[int]] = defaultdict(list)
        self.readers: defaultdict[str, list[int]] = defaultdict(list)
        for n, node in enumerate(self.nodes):
            names[node.name].append(n)
            for tensor in node.input:
                self.readers[tensor].append(n)
        self.named = {name: found[0] for name, found in names.items() if name and len(found) == 1}
        self.constant = {tensor.name for tensor in graph.initializer} | {
            t.values.name for t in graph.sparse_initializer
        }
        self.constant_nodes: set[int] = set()
        for n, node in enumerate(self.nodes):
            holds_graphs = any(attribute.HasField("g") for attribute in node.attribute)
            if (
                node.op_type not in _RANDOM
                and not holds_graphs
                and all(not t or t in self.constant for t in node.input)
            ):
                self.constant_nodes.add(n)
                self.constant.update(node.output)

    def before(self, n: int) -> Iterator[tuple[str, int]]:
        """The tensors a node reads that other nodes compute, and those nodes."""
        for tensor in self.nodes[n].input:
            if tensor not in self.constant and tensor in self.producer:
                yield tensor, self.producer[tensor]

    def by_name(self, name: str) -> int | None:
        """A node whose name, or one of whose tensors, this is but for what ONNX Runtime put behind it."""
        base = _SUFFIX.sub("", name)
        while base:
            found = self.named.get(base, self.producer.get(base))
            if found is not None:
                return found
            base = base.rpartition("/")[0]  # fusions append their own names, one after the other
        return None


class _Match:
    def __init__(self, original: _Graph, optimized: GraphProto, macs: Mapping[str, int]) -> None:
        self.graph, self.macs = original, macs
        self.nodes: Sequence[NodeProto] = list(optimized.node)
        self.writer = {tensor: n for n, node in enumerate(self.nodes) for tensor in node.output if tensor}
        self.readers: defaultdict[str, list[int]] = defaultdict(list)
        for n, node in enumerate(self.nodes):
            for tensor in node.input:
                self.readers[tensor].append(n)

    def origins(self) -> tuple[Origin, ...]:
        anchors = [self._anchors(node) for node in self.nodes]
        regions = self._regions(anchors)
        serving = [self._converts(node, regions[n]) for n, node in enumerate(self.nodes)]
        owner = self._owners(anchors, regions, serving)
        covered: defaultdict[int, list[int]] = defaultdict(list)
        for node, mine in sorted(owner.items()):
            covered[mine].append(node)
        working = {
            n: self._main(anchors[n], covered[n]) for n in range(len(self.nodes)) if not serving[n] and anchors[n]
        }
        return tuple(
            Origin(working[n], tuple(covered[n]), overhead=False, found=True)
            if n in working
            else self._neighbour(n, working, anchors[n], overhead=serving[n])
            for n in range(len(self.nodes))
        )

    def _anchors(self, node: NodeProto) -> list[int]:
        exact = [self.graph.producer[t] for t in node.output if t in self.graph.producer]
        named = [self.graph.named[b] for t in node.output if (b := _SUFFIX.sub("", t)) in self.graph.named]
        found = list(dict.fromkeys((*exact, *named)))
        if not found and node.name and node.op_type not in (_INTO | _OUT_OF):
            by_name = self.graph.by_name(node.name)
            found = [] if by_name is None else [by_name]
        return [n for n in found if n not in self.graph.constant_nodes]

    def _regions(self, anchors: Sequence[Sequence[int]]) -> list[set[int]]:
        """Per node of the optimized graph, the original nodes that may have gone into it."""
        made = {t for node in self.nodes for t in node.output}
        starts = [[*found, *(after for n in found for after in self._folded(n, made))] for found in anchors]
        claimed = {n for found in starts for n in found}
        regions = []
        for found in starts:
            region, waiting = set(found), list(found)
            while waiting:
                for tensor, before in self.graph.before(waiting.pop()):
                    if tensor not in made and before not in claimed and before not in region:
                        region.add(before)
                        waiting.append(before)
            regions.append(region)
        return regions

    def _folded(self, n: int, made: set[str]) -> list[int]:
        """What follows a kernel on integers up to the QuantizeLinear, where that is gone from the graph."""
        path: list[int] = []
        while True:
            tensors = [t for t in self.graph.nodes[n].output if t]
            readers = [r for t in tensors for r in self.graph.readers[t]]
            if any(t in made for t in tensors) or len(readers) != 1:
                return []
            n = readers[0]
            node = self.graph.nodes[n]
            if node.op_type not in _FOLDED:
                return []
            path.append(n)
            if node.op_type == "QuantizeLinear":
                return path

    def _converts(self, node: NodeProto, region: Iterable[int]) -> bool:
        if node.op_type in _INSERTED:
            return all(self.graph.nodes[n].op_type != node.op_type for n in region)
        return node.op_type in _INTO or node.op_type in _OUT_OF

    def _owners(
        self, anchors: Sequence[Sequence[int]], regions: Sequence[set[int]], serving: Sequence[bool]
    ) -> dict[int, int]:
        """Original node -> the optimized node that does its work."""
        owner: dict[int, int] = {}
        order = [n for n in range(len(self.nodes)) if not serving[n]]
        for claims in (anchors, regions):
            for n in order:
                for node in claims[n]:
                    owner.setdefault(node, n)
        for n in range(len(self.graph.nodes)):
            if n not in owner and n not in self.graph.constant_nodes:
                found = next((owner[before] for _, before in self.graph.before(n) if before in owner), None)
                if found is not None:
                    owner[n] = found
        return owner

    def _main(self, anchors: Sequence[int], covered: Sequence[int]) -> int:
        def work(n: int) -> int:
            return max((self.macs.get(t, 0) for t in self.graph.nodes[n].output), default=0)

        heaviest = max(covered, key=work, default=anchors[0])
        if work(heaviest):
            return heaviest
        forms = _INTO | _OUT_OF
        mine = [n for n in (*anchors, *covered) if self.graph.nodes[n].op_type not in forms]
        return mine[0] if mine else anchors[0]

    def _neighbour(self, n: int, working: Mapping[int, int], anchors: Sequence[int], *, overhead: bool) -> Origin:
        """What a node serves: the nearest node that reads it, or the one that wrote what it reads."""
        node = self.nodes[n]
        outwards = node.op_type in _OUT_OF or (node.op_type in _INSERTED and bool(anchors))
        for forward in (not outwards, outwards):
            found = self._nearest(n, working, forward=forward)
            if found is not None:
                return Origin(working[found], (), overhead=overhead, found=overhead)
        return Origin(anchors[0] if anchors else None, (), overhead=overhead, found=bool(anchors))

    def _nearest(self, n: int, working: Mapping[int, int], *, forward: bool) -> int | None:
        seen, waiting = {n}, [n]
        for current in waiting:
            node = self.nodes[current]
            if forward:
                following = [r for t in node.output for r in self.readers[t]]
            else:
                following = [self.writer[t] for t in node.input if t in self.writer]
            for other in following:
                if other in working:
                    return other
                if other not in seen:
                    seen.add(other)
                    waiting.append(other)
        return None
