"""What this machine can do at most, measured in ONNX Runtime itself with the threads that the layers had.

Compute: chains of large matrix products and convolutions, in float32 and as uint8 times int8; the fastest run of the
fastest shape counts. Bandwidth: chains of `Neg` on one buffer, which reads and writes it, for buffers from inside the
first cache to beyond the last; the difference between a long and a short chain leaves out what comes before and after.
Nothing is taken from the processor's name.
"""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from quant.latency.recorder import chain, recording_cost
from quant.latency.roofline import Ceilings
from quant.runtime import open_session

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import NodeProto

_DEPTH = 4  # operators in a chain: what converts at its ends weighs less
_SECONDS = 0.03
_FEWEST, _MOST = 3, 400
_PASSES = 3  # over all shapes: what disturbs one pass is gone in another
# rows, columns of square weights; channels, pixels of a side
_MATRICES = ((256, 1024), (512, 512), (1024, 1024))
_CONVOLUTIONS = ((64, 56), (128, 28), (256, 14))
# Floats in a buffer, and the lengths of the short and the long chain. Beyond the largest no cache reaches.
_BUFFERS = ((1 << 13, 8, 72), (1 << 16, 8, 72), (1 << 18, 4, 36), (1 << 21, 2, 18), (1 << 25, 1, 5))
_FLOAT = 4


@cache
def ceilings(threads: int = 1) -> Ceilings:
    """The ceilings of this machine, measured once per process (about three seconds).

    Args:
        threads: that one operator may use.
    """
    float32, int8 = (_fastest_shape(threads, int8=kind) for kind in (False, True))
    node = recording_cost(threads).node
    bandwidth = tuple((2 * _FLOAT * size, _bandwidth(size, few, many, node, threads)) for size, few, many in _BUFFERS)
    return Ceilings(float32[1], int8[1], bandwidth, node, threads, (float32[0], int8[0]))


def _fastest_shape(threads: int, *, int8: bool) -> tuple[str, float]:
    """The shape that reaches most, and 1e9 multiply-accumulates per second."""
    cases = {}
    for rows, n in _MATRICES:
        model = _stack("QLinearMatMul" if int8 else "MatMul", (rows, n), _random((n, n), int8=int8), int8=int8)
        cases[f"matrix product {rows}x{n}x{n}"] = _Case(model, _input((rows, n), int8=int8), threads), rows * n * n
    for c, side in _CONVOLUTIONS:
        shape, weight = (1, c, side, side), _random((c, c, 3, 3), int8=int8)
        model = _stack("QLinearConv" if int8 else "Conv", shape, weight, int8=int8)
        name = f"convolution 3x3, {c} channels, {side}x{side}"
        cases[name] = _Case(model, _input(shape, int8=int8), threads), 9 * c * c * side * side
    for _ in range(_PASSES):
        for case, _macs in cases.values():
            case.run()
    speeds = {name: 1e-9 * _DEPTH * macs / case.best for name, (case, macs) in cases.items()}
    best = max(speeds, key=lambda name: speeds[name])
    return best, speeds[best]


def _random(shape: tuple[int, ...], *, int8: bool) -> NDArray[np.generic]:
    rng = np.random.default_rng(0)
    if int8:
        return rng.integers(-127, 128, shape).astype(np.int8)
    return rng.standard_normal(shape).astype(np.float32) / np.float32(np.sqrt(np.prod(shape[1:])))


def _stack(op: str, shape: tuple[int, ...], weight: NDArray[np.generic], *, int8: bool) -> bytes:
    """One operator several times in a row, its output as large as its input."""
    kind = TensorProto.UINT8 if int8 else TensorProto.FLOAT
    constants: dict[str, NDArray[np.generic] | np.generic] = {"w": weight}
    if int8:
        constants |= {"s": np.float32(0.02), "ws": np.float32(0.01), "z": np.uint8(128), "wz": np.int8(0)}
    attributes: dict[str, Any] = {"pads": [1, 1, 1, 1]} if op.endswith("Conv") else {}
    names = ["x", *(f"t{n}" for n in range(_DEPTH - 1)), "y"]
    nodes: list[NodeProto] = []
    for n in range(_DEPTH):
        reads = [names[n], "s", "z", "w", "ws", "wz", "s", "z"] if int8 else [names[n], "w"]
        nodes.append(helper.make_node(op, reads, [names[n + 1]], name=f"node{n}", **attributes))
    values = [helper.make_tensor_value_info(name, kind, shape) for name in ("x", "y")]
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "ceiling", values[:1], values[1:], tensors)
    data: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    return data


def _input(shape: tuple[int, ...], *, int8: bool) -> NDArray[np.generic]:
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    return (64 * x + 128).clip(0, 255).astype(np.uint8) if int8 else x


def _bandwidth(size: int, few: int, many: int, node_us: float, threads: int) -> float:
    x = np.ones(size, np.float32)
    short, long = (_Case(chain("Neg", length, size=size), x, threads) for length in (few, many))
    for _ in range(_PASSES):
        short.run()
        long.run()
    each = max((long.best - short.best) / (many - few) - 1e-6 * node_us, 1e-9)
    return 1e-9 * 2 * _FLOAT * size / each


class _Case:
    """A model that is run again and again; `best` is its fastest run in seconds."""

    def __init__(self, model: bytes, x: NDArray[np.generic], threads: int) -> None:
        self.session, self.feed = open_session(model, threads=threads), {"x": x}
        self.best = float("inf")

    def run(self) -> None:
        """One pass."""
        count, begun = 0, time.perf_counter()
        while count < _FEWEST or (count < _MOST and time.perf_counter() - begun < _SECONDS):
            started = time.perf_counter()
            self.session.run(self.feed)
            self.best, count = min(self.best, time.perf_counter() - started), count + 1
