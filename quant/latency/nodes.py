"""Times of the nodes that ONNX Runtime really runs, from sessions that record a profile, beside others that do not.

Recording slows a run down, so it is kept apart from the timing of whole models. A model is opened several times; each
session warms up, then takes turns with one that records nothing. Of each node the middle of its times in a session is
taken, and of the sessions the median: where memory happens to lie differs from one session to the next.

A node has two times. *Recorded* is what ONNX Runtime wrote down, plus the half microsecond that it cuts off on average.
*Net* is the time from its start to the start of the next node without what recording a node costs on this machine
(see `quant.latency.recorder`). Neither is scaled to fit anything: how much of the run they come to is `Coverage`.
"""

from __future__ import annotations

import re
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from quant.latency.central import central
from quant.latency.recorder import EVENTS
from quant.latency.trace import read_trace
from quant.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from profiler.sources import Limits
    from quant.latency.recorder import Cost
    from quant.latency.trace import NodeKey, Trace

SESSIONS = 5
_FEWEST = 8
_NUMBER = re.compile(r"_token_\d+|_\d+$")
_WARM_RUNS = 5
_WARM_SECONDS = 0.1
_CUT = 0.5  # microseconds that are lost on average where whole ones are written


@dataclass(frozen=True)
class Coverage:
    """How much of a run the nodes' times come to. Milliseconds; nothing is scaled.

    Attributes:
        run_ms: the recorded run: ONNX Runtime's executor from start to end.
        nodes_ms: the recorded times of all its nodes.
        recorder_ms: what recording takes between the nodes, as measured on nodes that do nothing.
        rest_ms: what is left of the run: starting, freeing tensors, going from node to node.
        part: `nodes_ms` over the run without the recorder's time between the nodes.
        part_of_recording: `nodes_ms` over the whole recorded run, the recorder's time between the nodes included.
        plain_ms: the same model's run where nothing is recorded, timed in turns with the recorded one.
        net_ms: the nodes' net times.
        part_of_plain: `net_ms` over `plain_ms`: 1 if the recorder's cost was taken off rightly.
    """

    run_ms: float
    nodes_ms: float
    recorder_ms: float
    rest_ms: float
    part: float
    part_of_recording: float
    plain_ms: float
    net_ms: float
    part_of_plain: float


@dataclass(frozen=True)
class NodeTime:
    """One node of the optimized graph.

    Attributes:
        key: its name and operator.
        recorded_ms: what ONNX Runtime wrote down.
        net_ms: without the recorder's cost, 0 at least.
        share: `net_ms` as a part of all nodes' net times.
        spread: half the range of its share over the sessions, relative to the share.
    """

    key: NodeKey
    recorded_ms: float
    net_ms: float
    share: float
    spread: float


@dataclass(frozen=True, eq=False)
class NodeTimes:
    """What was measured of a model.

    Attributes:
        nodes: in the order in which they run.
        coverage: how much of the run they come to.
        optimized: the graph as it ran.
        runs: recorded runs that count.
        sessions: in how many sessions.
    """

    nodes: tuple[NodeTime, ...]
    coverage: Coverage
    optimized: onnx.ModelProto = field(repr=False)
    runs: int
    sessions: int


@dataclass(frozen=True, eq=False)
class _Round:
    """The middle of one session's times, in microseconds; arrays have shape (n,)."""

    nodes: tuple[NodeKey, ...]
    recorded: NDArray[np.float64]
    net: NDArray[np.float64]
    between: float
    total: tuple[float, float]  # medians over the runs: of the executor, and of the sum of its nodes
    parts: tuple[float, float]
    plain: float
    runs: int


class NodeTimer:
    """Takes sessions of a model, one at a time, so that two models can take turns."""

    def __init__(
        self,
        model: str | Path | bytes,
        feeds: Sequence[Mapping[str, np.ndarray]],
        *,
        threads: int = 1,
        trust: bool = False,
        limits: Limits | None = None,
    ) -> None:
        self.name = "model" if isinstance(model, bytes) else str(model)
        self._model, self._feeds, self._threads = model, feeds, threads
        self._checks = {"trust": trust, "limits": limits}
        self._rounds: list[_Round] = []
        self._optimized: onnx.ModelProto | None = None
        self._plain = open_session(model, threads=threads, trust=trust, limits=limits)

    def round(self, seconds: float, cost: Cost) -> None:
        """Open a session, warm it up, and record for about so many seconds.

        Args:
            seconds: of recording.
            cost: what recording costs, measured shortly before: a busy machine slows it like all else.

        Raises:
            ModelError: the model fails, or ONNX Runtime recorded nothing.
            DataError: the inputs do not fit the model.
        """
        with tempfile.TemporaryDirectory(prefix="netgauge-") as folder:
            path = Path(folder) / "optimized.onnx" if self._optimized is None else None
            session = open_session(
                self._model,
                threads=self._threads,
                profile=True,
                optimized_path=path,
                trust=bool(self._checks["trust"]),
                limits=self._checks["limits"],  # type: ignore[arg-type]
            )
            if path is not None:
                self._optimized = _graph_of(path)
        warm, each = self._warm_up(session.run)
        most = max(_FEWEST, EVENTS // max(1, len(self._optimized.graph.node)) - warm) if self._optimized else 0
        runs = int(np.clip(seconds / each, _FEWEST, most))
        plain = []
        for number in range(runs):
            feed = self._feeds[number % len(self._feeds)]
            session.run(feed)
            begun = time.perf_counter()
            self._plain.run(feed)
            plain.append(time.perf_counter() - begun)
        trace = read_trace(session.end_profiling(), self.name).without(warm)
        self._rounds.append(_round(trace, np.array(plain) * 1e6, cost))

    def _warm_up(self, run: object) -> tuple[int, float]:
        """Runs of the recording session, and seconds of one run of both."""
        begun, count = time.perf_counter(), 0
        while count < _WARM_RUNS or time.perf_counter() - begun < _WARM_SECONDS:
            feed = self._feeds[count % len(self._feeds)]
            run(feed)  # type: ignore[operator]
            self._plain.run(feed)
            count += 1
            if count * len(self._optimized.graph.node if self._optimized else ()) > EVENTS:
                break
        return count, (time.perf_counter() - begun) / count

    def result(self) -> NodeTimes:
        """What the sessions say together; those in which other nodes ran than in the first are left out."""
        first = self._rounds[0]
        rounds = [r for r in self._rounds if _unnumbered(r.nodes) == _unnumbered(first.nodes)]
        net = np.array([r.net for r in rounds])
        shares = net / np.maximum(net.sum(axis=1, keepdims=True), 1e-9)
        middle, recorded = np.median(net, axis=0), np.median([r.recorded for r in rounds], axis=0)
        whole = float(middle.sum()) or 1.0
        spread = (shares.max(axis=0) - shares.min(axis=0)) / 2 / np.maximum(middle / whole, 1e-9)
        rows = zip(first.nodes, recorded, middle, middle / whole, spread, strict=True)
        nodes = tuple(NodeTime(key, r / 1e3, n / 1e3, float(s), float(d)) for key, r, n, s, d in rows)
        if self._optimized is None:
            raise RuntimeError("result() before round()")
        return NodeTimes(nodes, _coverage(rounds), self._optimized, sum(r.runs for r in rounds), len(rounds))


def _unnumbered(nodes: Sequence[NodeKey]) -> list[NodeKey]:
    """Nodes without the numbers that tell added ones apart: each session deals them out anew."""
    return [key._replace(name=_NUMBER.sub("", key.name)) for key in nodes]


def _graph_of(path: Path) -> onnx.ModelProto:
    """The optimized graph without its tensors."""
    model: onnx.ModelProto = onnx.ModelProto.FromString(path.read_bytes())
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
    return model


def _round(trace: Trace, plain: NDArray[np.float64], cost: Cost) -> _Round:
    whole = np.array([cost.of(key.inputs) for key in trace.nodes])
    between = sum(cost.between_of(key.inputs) for key in trace.nodes)
    recorded = central(trace.durations) + _CUT
    after = np.column_stack([trace.starts[:, 1:], trace.begun + trace.lengths])
    net = np.maximum(central(after - trace.starts) - whole, 0.0)
    lengths = trace.lengths + _CUT
    sums = trace.durations.sum(axis=1) + _CUT * len(trace.nodes)
    parts = (float(np.median(sums / np.maximum(lengths - between, sums))), float(np.median(sums / lengths)))
    return _Round(
        trace.nodes,
        recorded,
        net,
        between,
        (float(np.median(lengths)), float(np.median(sums))),
        parts,
        float(np.median(plain)),
        len(lengths),
    )


def _coverage(rounds: Sequence[_Round]) -> Coverage:
    """Medians over the sessions. Parts are taken within a run: what interrupts a run counts on both sides."""
    run, nodes, recorder, plain, net = (
        float(np.median(values)) / 1e3
        for values in (
            [r.total[0] for r in rounds],
            [r.total[1] for r in rounds],
            [r.between for r in rounds],
            [r.plain for r in rounds],
            [r.net.sum() for r in rounds],
        )
    )
    part, of_recording = (float(np.median([r.parts[i] for r in rounds])) for i in (0, 1))
    of_plain = float(np.median([r.net.sum() / r.plain for r in rounds]))
    return Coverage(run, nodes, recorder, run - nodes - recorder, part, of_recording, plain, net, of_plain)
