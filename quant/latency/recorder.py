"""What recording itself costs, measured on graphs whose nodes do next to nothing.

ONNX Runtime writes down name, sizes and memory of every node that it records. Part of that falls inside the time it
gives for the node, part between two nodes, together some microseconds: more than small nodes take. Here chains of nodes
on a single number are run with and without recording; the difference, per node, is the recorder's. It grows with the
number of tensors that a node reads, so nodes of one input and of eight are measured and a line is drawn through them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper

from quant.latency.central import central
from quant.latency.trace import read_trace
from quant.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quant.runtime import RuntimeSession

_LENGTHS = (16, 48)
_MANY = 8
_OPERATORS = {1: "Neg", _MANY: "Max"}
_WARM = 15
_PLAIN_RUNS = 60
# As many as of a model's session: memory that the recorder takes for the first time is slower than memory used before.
EVENTS = 6_000


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
    session, feed = open_session(_mixed(_LENGTHS[1]), threads=threads, profile=True), {"x": np.ones(1, np.float32)}
    for _ in range(EVENTS // _LENGTHS[1]):
        session.run(feed)
    trace = read_trace(session.end_profiling()).without(_WARM)
    inputs = np.array([key.inputs for key in trace.nodes])[:-1]
    periods = central(np.diff(trace.starts, axis=1))
    gaps = central(trace.gaps[:, :-1]) - 0.5  # the node's end was cut off by half a microsecond
    plain = {count: _plain_cost(count, threads) for count in _OPERATORS}
    whole = {n: max(float(np.median(periods[inputs == n])) - plain[n], 0.0) for n in _OPERATORS}
    between = {n: min(max(float(np.median(gaps[inputs == n])), 0.0), whole[n]) for n in _OPERATORS}
    steps = [max((part[_MANY] - part[1]) / (_MANY - 1), 0.0) for part in (whole, between)]
    return Cost(whole[1] - steps[0], steps[0], between[1] - steps[1], steps[1], plain[1])


def _plain_cost(inputs: int, threads: int) -> float:
    """Microseconds of one node when nothing is recorded: a long chain's time less a short one's."""
    short, long = (_plain_session(length, inputs, threads) for length in _LENGTHS)
    return max(1e6 * (_seconds(long) - _seconds(short)) / (_LENGTHS[1] - _LENGTHS[0]), 0.0)


@cache
def _plain_session(length: int, inputs: int, threads: int) -> RuntimeSession:
    return open_session(chain(_OPERATORS[inputs], length, inputs), threads=threads)


def _seconds(session: RuntimeSession) -> float:
    feed, times = {"x": np.ones(1, np.float32)}, []
    for _ in range(_PLAIN_RUNS):
        begun = time.perf_counter()
        session.run(feed)
        times.append(time.perf_counter() - begun)
    return float(np.median(times[_WARM:]))


def _mixed(length: int) -> bytes:
    """A chain in which nodes of one input and of many take turns."""
    counts = [tuple(_OPERATORS)[n % 2] for n in range(length)]
    return _chain([(_OPERATORS[count], count) for count in counts], 1)


def chain(op: str, length: int, inputs: int = 1, size: int = 1) -> bytes:
    """A graph of nodes one after the other, each reading the one before it `inputs` times."""
    return _chain([(op, inputs)] * length, size)


def _chain(operators: Sequence[tuple[str, int]], size: int) -> bytes:
    names = ["x", *(f"t{n}" for n in range(len(operators) - 1)), "y"]
    nodes = [
        helper.make_node(op, [names[n]] * inputs, [names[n + 1]], name=f"node{n}")
        for n, (op, inputs) in enumerate(operators)
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [size]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "chain", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data
