"""ONNX files: the graph is parsed as data; tensors kept in other files are listed, and these files are not opened."""

from collections.abc import Iterable
from math import prod
from pathlib import Path

import onnx

from profiler.errors import ModelError, RefusedError
from profiler.onnx_ops.value import bytes_of
from profiler.sources import _loaders
from profiler.sources.checkpoint import TensorEntry
from profiler.sources.external_data import missing, outside_tensors
from profiler.sources.limits import DEFAULT, Limits
from profiler.sources.onnx_checks import check_graph
from profiler.sources.opened import OpenedModel

_MOST = 2**31 - 1  # bytes that a protobuf can have


def open_onnx(path: Path, *, trust: bool = False, limits: Limits = DEFAULT) -> OpenedModel:
    """Parse an ONNX graph.

    Args:
        path: the file.
        trust: take files of tensors that have several names (hard links).
        limits: how much the graph may ask for.

    Raises:
        ModelError: it is damaged, or holds no graph.
        RefusedError: it asks for too much, or for files outside its folder.
    """
    size = path.stat().st_size
    if size > _MOST:
        raise ModelError(
            f"{path}: has {size / 2**30:.1f} GiB, and no ONNX file can have more than 2; larger models keep "
            "their tensors in files beside the graph, so this is another kind of file"
        )
    model = _loaders.parse_onnx(path)
    parts = check_graph(model, path, limits)
    tensors = _tensors(model)
    try:
        outside = outside_tensors(parts, path, trust=trust)
    except RefusedError as refused:
        raise RefusedError(str(refused), OpenedModel(str(path), "weights", tensors=tensors, path=path)) from refused
    gone = missing(outside)
    notes = [f"{', '.join(map(repr, gone[:3]))}, where tensors are kept, is missing: their sizes are in the graph"]
    return OpenedModel(str(path), "onnx", tensors=tensors, graph=model, path=path, notes=tuple(notes if gone else ()))


def _tensors(model: onnx.ModelProto) -> tuple[TensorEntry, ...]:
    entries = [
        _entry(t.name, t.dims, t.data_type, bytes_of(prod(t.dims), t.data_type)) for t in model.graph.initializer
    ]
    for sparse in model.graph.sparse_initializer:
        parts = (sparse.values, sparse.indices)
        size = sum(bytes_of(prod(part.dims), part.data_type) for part in parts)
        entries.append(_entry(sparse.values.name, sparse.dims, sparse.values.data_type, size))
    return tuple(entries)


def _entry(name: str, dims: Iterable[int], kind: int, size: int) -> TensorEntry:
    return TensorEntry(name, tuple(dims), str(onnx.helper.tensor_dtype_to_np_dtype(kind)), size, name)
