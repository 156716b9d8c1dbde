"""ONNX files: the graph is parsed as data; tensors kept outside the file are listed but not opened."""

from math import prod
from pathlib import Path

import onnx

from profiler.errors import ModelError
from profiler.sources import _loaders
from profiler.sources.checkpoint import TensorEntry
from profiler.sources.limits import DEFAULT, Limits
from profiler.sources.opened import OpenedModel


def open_onnx(path: Path, *, trust: bool = False, limits: Limits = DEFAULT) -> OpenedModel:  # noqa: ARG001  # nothing to trust here
    """Parse an ONNX graph.

    Raises:
        ModelError: it is damaged, or holds no graph.
    """
    model = _loaders.parse_onnx(path)
    if not model.graph.node:
        raise ModelError(f"{path}: holds no ONNX graph")
    return OpenedModel(str(path), "onnx", tensors=_tensors(model), graph=model, path=path)


def _tensors(model: onnx.ModelProto) -> tuple[TensorEntry, ...]:
    entries = []
    for tensor in model.graph.initializer:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        shape = tuple(tensor.dims)
        entries.append(TensorEntry(tensor.name, shape, str(dtype), prod(shape) * dtype.itemsize, tensor.name))
    return tuple(entries)
