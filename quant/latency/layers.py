"""Time per layer: measured nodes of the optimized graph, traced to the model's layers and held against the roof."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from profiler.errors import NetgaugeError
from profiler.onnx_graph.costs import NodeCosts, node_costs, node_layers
from quant.latency import roofline
from quant.latency.fusions import origins
from quant.latency.moved import Traffic
from quant.latency.roofline import Work

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    import onnx
    from onnx import NodeProto

    from quant.latency.fusions import Origin
    from quant.latency.nodes import Coverage, NodeTime, NodeTimes
    from quant.latency.roofline import Ceilings, Verdict

_INT8 = (
    "QLinear",
    "QGemm",
    "QAttention",
    "DynamicQuantizeMatMul",
    "DynamicQuantizeLSTM",
    "MatMulInteger",
    "ConvInteger",
)
UNKNOWN = "(not found in the model)"
FORMATS = frozenset(("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast"))


@dataclass(frozen=True)
class LayerTime:
    """What one layer of the model takes. Times are net of what recording costs, and not scaled.

    Attributes:
        layer: path of the module, or the node's name where the file tells no modules.
        ops: the operators that ran for it, in order, as ONNX Runtime calls them.
        fused: other layers whose work these operators do as well.
        ms: time of all its operators.
        share: part of all layers' times.
        overhead_ms: the part of `ms` that only converts layouts or number formats.
        macs: multiply-accumulates, None where they could not be counted.
        moved: bytes that its operators read and write, None as above.
        int8: whether any of its operators computes on integers.
        verdict: where it stands under the roof; None without ceilings or counts.
    """

    layer: str
    ops: tuple[str, ...]
    fused: tuple[str, ...]
    ms: float
    share: float
    overhead_ms: float
    macs: int | None
    moved: int | None
    int8: bool
    verdict: Verdict | None

    @property
    def gmac_s(self) -> float | None:
        """1e9 multiply-accumulates per second; None for a layer that has none."""
        return 1e-6 * self.macs / self.ms if self.macs and self.ms > 0 else None

    @property
    def gb_s(self) -> float | None:
        """1e9 bytes read and written per second; None for a layer that moves none."""
        return 1e-6 * self.moved / self.ms if self.moved and self.ms > 0 else None

    @property
    def intensity(self) -> float | None:
        """Arithmetic intensity: FLOPs of the multiply-accumulates per byte."""
        return 2 * self.macs / self.moved if self.macs is not None and self.moved else None

    def to_dict(self) -> dict[str, object]:
        """As JSON."""
        return {
            "ops": list(self.ops),
            "fused": list(self.fused),
            "share": self.share,
            "overhead_ms": self.overhead_ms,
            "gmac_s": self.gmac_s,
            "gb_s": self.gb_s,
            "bytes": self.moved,
            "intensity": self.intensity,
            "kernel": "int8" if self.int8 else "float",
            "bound": self.verdict.bound if self.verdict else None,
            "of_ceiling": self.verdict.of_ceiling if self.verdict else None,
        }


@dataclass(frozen=True)
class NodeShare:
    """The part of the time that belongs to one node of the model.

    Attributes:
        names: its name and those of the tensors that it writes.
        covered: the same of all nodes whose work is done with it.
        share: of all nodes' times, conversions that serve it included.
    """

    names: frozenset[str]
    covered: frozenset[str]
    share: float


@dataclass(frozen=True, eq=False)
class LayerTimes:
    """What the layers of a model take.

    Attributes:
        layers: in the order in which they first run.
        coverage: how much of a run the times come to.
        mapped: part of the time that names or tensors trace back to layers of the model.
        ceilings: of this machine; None where they were not asked for.
        nodes: part of the time by node of the model.
        runs: recorded runs that count.
        sessions: in how many sessions.
        threads: that one operator could use.
        notes: what could not be told, in sentences.
    """

    layers: tuple[LayerTime, ...]
    coverage: Coverage
    mapped: float
    ceilings: Ceilings | None
    nodes: tuple[NodeShare, ...] = field(repr=False)
    runs: int
    sessions: int
    threads: int
    notes: tuple[str, ...] = ()

    @property
    def most_limited(self) -> tuple[str, ...]:
        """The two layers that lose most time beyond what the ceilings need, each in a sentence."""
        rows = [(row.layer, row.ms, row.verdict) for row in self.layers if row.verdict is not None]
        return tuple(roofline.in_words(*rows[n]) for n in roofline.most_limited(rows))

    def to_dict(self) -> dict[str, object]:
        """As JSON."""
        return {
            "layers": [{"layer": row.layer, "ms": row.ms, "macs": row.macs, **row.to_dict()} for row in self.layers],
            **self.summary(),
            "ceilings": self.ceilings.to_dict() if self.ceilings else None,
        }

    def summary(self) -> dict[str, object]:
        """All but the layers and ceilings, as JSON."""
        return {
            "coverage": {**asdict(self.coverage), "mapped": self.mapped},
            "most_limited": list(self.most_limited),
            "runs": self.runs,
            "sessions": self.sessions,
            "threads": self.threads,
            "notes": list(self.notes),
        }


def layers_of(
    model: onnx.ModelProto,
    times: NodeTimes,
    feed: Mapping[str, np.ndarray],
    *,
    ceilings: Ceilings | None,
    threads: int,
) -> LayerTimes:
    """Bring measured nodes to the layers of the graph they came from.

    Args:
        model: the graph that was given to ONNX Runtime.
        times: what was measured.
        feed: inputs of one run, by name: their sizes decide what is computed.
        ceilings: of the machine; None leaves bounds out.
        threads: for the report.
    """
    notes: list[str] = []
    costs: NodeCosts | None = None
    try:
        costs = node_costs(model, feed)
    except NetgaugeError as error:
        notes.append(f"what the layers compute could not be counted: {error}")
    nodes = list(model.graph.node)
    optimized = list(times.optimized.graph.node)
    found = origins(model.graph, times.optimized.graph, costs.macs if costs else None)
    traffic = Traffic(nodes, optimized, found, costs, {o.name for o in model.graph.output})
    paths = node_layers(nodes)
    rows: dict[str, _Row] = {}
    shares: defaultdict[int, float] = defaultdict(float)
    together: defaultdict[int, set[int]] = defaultdict(set)
    mapped = 0.0
    for time, number in zip(times.nodes, _linked(times.nodes, optimized), strict=True):
        origin = found[number] if number is not None else None
        layer = paths[origin.node] if origin is not None and origin.node is not None else UNKNOWN
        row = rows.setdefault(layer, _Row(layer))
        covered = [n for n in origin.covered if nodes[n].op_type not in FORMATS] if origin else []
        row.add(time, number, origin, traffic, [paths[n] for n in covered])
        if origin is not None and origin.node is not None:
            mapped += time.share if origin.found else 0.0
            shares[origin.node] += time.share
            together[origin.node].update(origin.covered)
    whole = sum(row.ms for row in rows.values()) or 1.0
    if costs and costs.uncounted:
        listed = ", ".join(sorted(costs.uncounted)[:4])
        notes.append(f"{listed}: no formula is known, so their layers look further from the ceilings than they are")
    layers = tuple(row.finished(whole, costs is not None, ceilings) for row in rows.values())
    by_node = tuple(
        NodeShare(_names([nodes[n]]), _names([nodes[c] for c in together[n]]), share) for n, share in shares.items()
    )
    return LayerTimes(
        layers, times.coverage, mapped, ceilings, by_node, times.runs, times.sessions, threads, tuple(notes)
    )


def _names(nodes: Iterable[NodeProto]) -> frozenset[str]:
    return frozenset(name for node in nodes for name in (node.name, *node.output) if name)


class _Row:
    """A layer while its nodes are collected."""

    def __init__(self, layer: str) -> None:
        self.layer = layer
        self.ops: list[str] = []
        self.fused: list[str] = []
        self.works: list[Work] = []

    @property
    def ms(self) -> float:
        return sum(work.ms for work in self.works)

    def add(
        self, time: NodeTime, number: int | None, origin: Origin | None, traffic: Traffic, covered: Sequence[str]
    ) -> None:
        op = time.key.op
        int8 = op.startswith(_INT8)
        macs, moved = traffic.of(number, int8=int8) if number is not None else (0, 0)
        self.ops.append(op)
        self.fused += [path for path in covered if path != self.layer and path not in self.fused]
        self.works.append(Work(macs, moved, time.net_ms, int8, overhead=origin is not None and origin.overhead))

    def finished(self, whole: float, counted: bool, ceilings: Ceilings | None) -> LayerTime:  # noqa: FBT001
        return LayerTime(
            layer=self.layer,
            ops=tuple(self.ops),
            fused=tuple(self.fused),
            ms=self.ms,
            share=self.ms / whole,
            overhead_ms=sum(work.ms for work in self.works if work.overhead),
            macs=sum(work.macs for work in self.works) if counted else None,
            moved=sum(work.moved for work in self.works) if counted else None,
            int8=any(work.int8 for work in self.works),
            verdict=roofline.judge(self.works, ceilings) if counted and ceilings else None,
        )


def _linked(times: Sequence[NodeTime], optimized: Sequence[NodeProto]) -> list[int | None]:
    """Which node of the optimized graph each recorded one is: by name, else the next unnamed one of its operator.

    ONNX Runtime records a node without a name under its operator and number.
    """
    named: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for n, node in enumerate(optimized):
        named[node.name, node.op_type].append(n)
    links: list[int | None] = []
    for time in times:
        waiting = named.get((time.key.name, time.key.op)) or named.get(("", time.key.op))
        links.append(waiting.pop(0) if waiting else None)
    return links
