"""Reading what ONNX Runtime recorded: the nodes of every run with their start and duration, in order.

ONNX Runtime writes one event per node as the node ends, then one for the executor, then one for the whole run. Times
are whole microseconds, cut off. The nodes inside an `If`, `Loop` or `Scan` end before it does and lie inside its time,
so they are left out; what they took is the outer node's.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from profiler.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

_NODE = "_kernel_time"
_EXECUTOR = "SequentialExecutor::Execute"
_RUN = "model_run"
_HOLDERS = frozenset(("If", "Loop", "Scan", "SequenceMap", "BeamSearch", "GreedySearch", "Sampling"))


class NodeKey(NamedTuple):
    """What tells the nodes of one graph apart in a trace.

    Attributes:
        name: of the optimized graph's node.
        op: its operator.
        inputs: how many tensors go in.
        outputs: how many come out.
    """

    name: str
    op: str
    inputs: int
    outputs: int


@dataclass(frozen=True, eq=False)
class Trace:
    """The runs that a session recorded, all of the same n nodes.

    Attributes:
        nodes: in the order in which they ran, length n.
        starts: in microseconds, shape (runs, n).
        durations: as ONNX Runtime cut them off, shape (runs, n).
        begun: when the executor began, shape (runs,).
        lengths: how long it took, shape (runs,).
    """

    nodes: tuple[NodeKey, ...]
    starts: NDArray[np.float64] = field(repr=False)
    durations: NDArray[np.float64] = field(repr=False)
    begun: NDArray[np.float64] = field(repr=False)
    lengths: NDArray[np.float64] = field(repr=False)

    @property
    def gaps(self) -> NDArray[np.float64]:
        """From the end of each node to the start of the next, for the last one to the executor's end, (runs, n)."""
        ends = self.starts + self.durations
        after = np.column_stack([self.starts[:, 1:], self.begun + self.lengths])
        return after - ends

    def without(self, runs: int) -> Trace:
        """The trace without its first runs."""
        return Trace(self.nodes, self.starts[runs:], self.durations[runs:], self.begun[runs:], self.lengths[runs:])


@dataclass
class _Run:
    nodes: list[tuple[NodeKey, float, float]] = field(default_factory=list)
    executor: tuple[float, float] | None = None


def read_trace(events: Iterable[Mapping[str, Any]], name: str = "model") -> Trace:
    """Order a session's events by run.

    Runs in which other nodes ran than in most of them (an event was lost, or the recorder was full) are left out.

    Args:
        events: as `RuntimeSession.end_profiling` gives them.
        name: of the model, for messages.

    Raises:
        ModelError: the trace holds no complete run.
    """
    runs = [run for run in _runs(events) if run.nodes and run.executor is not None]
    orders = Counter(tuple(key for key, _, _ in run.nodes) for run in runs)
    if not orders:
        raise ModelError(f"{name}: ONNX Runtime recorded no complete run, so its layers have no times")
    order = orders.most_common(1)[0][0]
    alike = [run for run in runs if tuple(key for key, _, _ in run.nodes) == order]
    executors = np.array([run.executor for run in alike], np.float64)
    return Trace(
        order,
        np.array([[start for _, start, _ in run.nodes] for run in alike], np.float64),
        np.array([[length for _, _, length in run.nodes] for run in alike], np.float64),
        executors[:, 0],
        executors[:, 1],
    )


def _runs(events: Iterable[Mapping[str, Any]]) -> list[_Run]:
    runs, run = [], _Run()
    for event in events:
        label, start, length = event.get("name"), _number(event.get("ts")), _number(event.get("dur"))
        if not isinstance(label, str) or start is None or length is None:
            continue
        if label == _RUN:
            runs.append(run)
            run = _Run()
        elif label == _EXECUTOR:
            run.executor = (start, length)  # those of inner graphs come first, the run's own last
        elif event.get("cat") == "Node" and label.endswith(_NODE):
            _add(run, _key(label, event.get("args")), start, length)
    return runs


def _add(run: _Run, key: NodeKey, start: float, length: float) -> None:
    if key.op in _HOLDERS:
        while run.nodes and run.nodes[-1][1] >= start:
            run.nodes.pop()
    run.nodes.append((key, start, length))


def _key(label: str, arguments: object) -> NodeKey:
    known: Mapping[str, Any] = arguments if isinstance(arguments, dict) else {}
    counts = [len(known[k]) if isinstance(known.get(k), list) else 1 for k in ("input_type_shape", "output_type_shape")]
    return NodeKey(label.removesuffix(_NODE), str(known.get("op_name", "")), counts[0], counts[1])


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None
