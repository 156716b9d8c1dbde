"""The float model in float16: half the bytes, and on a GPU the arithmetic of its tensor cores.

ONNX Runtime's own converter writes the file. Inputs and outputs stay float32, so that the file takes the place of the
float one. float16 ends at 65504: nodes that were seen to read or write anything near that stay float32, and so do the
operators that ONNX Runtime has no float16 kernels for.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from profiler.errors import DataError, ModelError
from quant import _runtime_errors
from quant.calibrate import observe
from quant.graph import is_float, name_of, values_of, without_traces
from quant.installation import float16_converter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

LARGEST = float(np.finfo(np.float16).max)  # 65504
MARGIN = 2.0  # what may come that the samples did not show


@dataclass(frozen=True)
class Half:
    """A model in float16.

    Attributes:
        file: the model as an ONNX file; its inputs and outputs are float32.
        kept: names of the nodes that stay float32 because their values would overflow.
    """

    file: bytes
    kept: tuple[str, ...]


def to_float16(
    model: ir.Model, batches: Callable[[], Iterable[Mapping[str, np.ndarray]]], *, threads: int = 1
) -> Half:
    """Bring a float graph to float16.

    Args:
        model: as `quant.graph.prepare` gives it.
        batches: gives a few batches of its inputs, to see which values are too large.
        threads: that one operator may use.

    Raises:
        ModelError: the converter fails on the graph.
        UnavailableError: ONNX Runtime is missing.
    """
    kept = tuple(sorted(overflowing(model, batches, threads=threads)))
    convert, blocked = float16_converter()
    proto = ir.serde.serialize_model(without_traces(model))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of weights that are cut off, which `kept` has seen to
            half = convert(proto, keep_io_types=True, op_block_list=blocked, node_block_list=list(kept))
    except Exception as error:  # the converter raises whatever a graph makes it stumble over
        reason = _runtime_errors.one_line(f"{type(error).__name__}: {error}")
        raise ModelError(f"the model cannot be brought to float16: {reason}") from error
    return Half(half.SerializeToString(deterministic=True), kept)


def overflowing(
    model: ir.Model, batches: Callable[[], Iterable[Mapping[str, np.ndarray]]], *, threads: int = 1
) -> set[str]:
    """Names of the nodes that read or write values beyond float16, or near its end, on these batches."""
    tensors = [name for name, value in values_of(model.graph).items() if is_float(value)]
    try:
        ranges = observe(model, batches, tensors, threads=threads)
    except DataError as error:
        raise ModelError(f"the model cannot be brought to float16: {error}") from error
    large = {name for name, seen in ranges.items() if max(-seen.low, seen.high) * MARGIN > LARGEST}
    large |= {
        name
        for name, value in model.graph.initializers.items()
        if is_float(value) and value.const_value is not None and _beyond(value.const_value.numpy())
    }
    return {
        node.name or ""
        for node in model.graph
        if large & {name_of(value) for value in (*node.inputs, *node.outputs) if value is not None}
    }


def _beyond(array: np.ndarray) -> bool:
    return bool(array.size) and float(np.abs(array).max()) > LARGEST
