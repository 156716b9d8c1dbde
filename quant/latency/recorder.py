"""What recording itself costs, measured on graphs whose nodes do next to nothing.

ONNX Runtime writes down name, sizes and memory of every node that it records. Part of that falls inside the time it
gives for the node, part between two nodes, together some microseconds: more than small nodes take. Here chains of nodes
on a single number are run with and without recording; the difference, per node, is the recorder's. It grows with the
number of tensors that a node reads, so chains of one input and of eight are measured and a line is drawn through them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper

from quant.latency.central import central
from quant.latency.trace import read_trace
from quant.runtime import open_session

_LENGTHS = (16, 48)
_MANY = 8
_RUNS = 60
_WARM = 15


@dataclass(frozen=True)
class Cost:
    """What recording one node costs, in microseconds.

    Attributes:
        whole: of a node without inputs.
        whole_per_input: more for each tensor that it reads.
        between: the part of `whole` that falls between two nodes.
        between_per_input: more for each tensor.
        node: what a node that does nothing takes when nothing is recorded.
    """

    whole: float
    whole_per_input: float
    between: float
    between_per_input: float
    node: float

    def of(self, inputs: int) -> float:
        """All that recording a node adds to a run."""
        return self.whole + self.whole_per_input * inputs

    def between_of(self, inputs: int) -> float:
        """What it adds after the node's time was taken."""
        return self.between + self.between_per_input * inputs


def recording_cost(threads: int = 1) -> Cost:
    """The recorder's cost on this machine at this moment (some tenths of a second).

    Args:
        threads: that one operator may use: recording asks each of them what it did.
    """
    few, many = _chain_cost(1, threads), _chain_cost(_MANY, threads)
    steps = [(b - a) / (_MANY - 1) for a, b in zip(few, many, strict=True)]
    whole, between = max(steps[0], 0.0), max(steps[1], 0.0)
    return Cost(few[0] - whole, whole, few[1] - between, between, few[2])


def _chain_cost(inputs: int, threads: int) -> tuple[float, float, float]:
    """Per node: what recording adds, the part of it between nodes, and the node's own time."""
    short, long = (chain("Neg" if inputs == 1 else "Max", length, inputs) for length in _LENGTHS)
    plain = (_seconds(long, threads) - _seconds(short, threads)) / (_LENGTHS[1] - _LENGTHS[0]) * 1e6
    session, feed = open_session(long, threads=threads, profile=True), {"x": np.ones(1, np.float32)}
    for _ in range(_RUNS):
        session.run(feed)
    trace = read_trace(session.end_profiling()).without(_WARM)
    periods = np.diff(trace.starts, axis=1)
    period = float(np.median(central(periods)))
    gap = float(np.median(central(trace.gaps[:, :-1]))) - 0.5  # the node's end was cut off by half a microsecond
    return max(period - plain, 0.0), max(min(gap, period - plain), 0.0), max(plain, 0.0)


def _seconds(model: bytes, threads: int) -> float:
    session, feed = open_session(model, threads=threads), {"x": np.ones(1, np.float32)}
    times = []
    for _ in range(_RUNS):
        begun = time.perf_counter()
        session.run(feed)
        times.append(time.perf_counter() - begun)
    return float(np.median(times[_WARM:]))


def chain(op: str, length: int, inputs: int = 1, size: int = 1) -> bytes:
    """A graph of nodes one after the other, each reading the one before it `inputs` times."""
    names = ["x", *(f"t{n}" for n in range(length - 1)), "y"]
    nodes = [helper.make_node(op, [names[n]] * inputs, [names[n + 1]], name=f"node{n}") for n in range(length)]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [size]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "chain", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data
