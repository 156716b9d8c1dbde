"""An ONNX file as a graph to edit, with the tensors that it keeps in other files mapped into memory, not read.

onnx and onnx_ir would look for such files themselves, by rules of their own and, without a folder, in the current one.
Here every such tensor is first given a location that no system can open, and then replaced by a view of the file that
was checked.
"""

from __future__ import annotations

import os
import stat
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir

from profiler.errors import ModelError, RefusedError
from profiler.onnx_graph.prepare import ordered
from profiler.sources.external_data import DataFile, OutsideTensor, outside_tensors
from profiler.sources.onnx_parts import is_outside, parts_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

# Neither through a link nor waiting for a pipe, where the system knows these flags.
_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
_MOST = 2**31  # bytes that the int8 and the float file, which hold their tensors, must stay below


def graph_of(model: onnx.ModelProto, path: Path | None, target: str, *, trust: bool = False) -> ir.Model:
    """A checked graph, ready to be edited.

    Args:
        model: the graph, as `profiler.sources` opened it.
        path: its file; None where it comes from none, and then it must hold all its tensors.
        target: what the user called it.
        trust: as for `profiler.open_model`.

    Raises:
        ModelError: it is too large, damaged, or keeps tensors in a form that cannot be edited.
        RefusedError: a file of tensors was exchanged after it was checked.
    """
    parts = parts_of(model)
    if any(graph.sparse_initializer for _, graph in parts.graphs):
        raise ModelError(f"{target}: stores sparse tensors, which cannot be quantized; export it with dense ones")
    inside = {i.name for i in (*model.graph.input, *model.graph.initializer)}
    ordered(model.graph.node, inside)  # says which node is at fault where they cannot be brought in an order
    if not any(is_outside(tensor) for _, tensor in parts.tensors):
        return _deserialized(model, target)
    if path is None:
        raise ModelError(f"{target}: keeps tensors in other files; give the path of its file")
    outside = outside_tensors(parts, path, trust=trust)
    whole = sum(t.bytes for t in outside)
    if whole >= _MOST:
        raise ModelError(
            f"{target}: has {whole / 2**30:.1f} GiB of tensors in other files; the int8 file is made by way "
            "of one ONNX file, which holds at most 2"
        )
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    numbers = iter(range(len(outside)))
    for _, tensor in parts_of(copy).tensors:
        if is_outside(tensor):
            del tensor.external_data[:]
            tensor.external_data.add(key="location", value=f"\0{next(numbers)}")
    return _with_data(_deserialized(copy, target), _Views(outside))


def _deserialized(model: onnx.ModelProto, target: str) -> ir.Model:
    try:
        return ir.serde.deserialize_model(model)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{target}: cannot be taken apart: {reason}") from error


class _Views:
    """Views of the files in place of tensors that are only named."""

    def __init__(self, outside: Sequence[OutsideTensor]) -> None:
        self._outside = outside
        self._files: dict[DataFile, np.ndarray] = {}

    def of(self, tensor: Any) -> Any:  # noqa: ANN401  # a tensor of onnx_ir, any kind
        """The tensor itself, unless it lies in another file."""
        if not isinstance(tensor, ir.ExternalTensor):
            return tensor
        found = self._outside[int(str(tensor.location)[1:])]
        if found.file is None:
            raise ModelError(f"{found.location}: is missing, and the model keeps tensors in it; put it there")
        if found.file not in self._files:
            self._files[found.file] = _mapped(found.file)
        return _view(tensor, self._files[found.file][found.offset : found.offset + found.bytes])


def _with_data(model: ir.Model, views: _Views) -> ir.Model:
    for graph in _graphs(model):
        for value in graph.initializers.values():
            value.const_value = views.of(value.const_value)
    for node in _nodes(model):
        for name, attribute in list(node.attributes.items()):
            if attribute.type == ir.AttributeType.TENSOR and attribute.value is not None:
                node.attributes[name] = ir.AttrTensor(name, views.of(attribute.value))
            elif attribute.type == ir.AttributeType.TENSORS and attribute.value is not None:
                node.attributes[name] = ir.AttrTensors(name, [views.of(tensor) for tensor in attribute.value])
    return model


def _graphs(model: ir.Model) -> Iterator[Any]:
    yield model.graph
    yield from model.graph.subgraphs()
    for function in model.functions.values():
        yield from function.subgraphs()


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    return chain(model.graph.all_nodes(), *(function.all_nodes() for function in model.functions.values()))


def _mapped(file: DataFile) -> np.ndarray:
    """The bytes of a file, read by the system when they are looked at.

    Raises:
        ModelError: it cannot be read.
        RefusedError: it is no longer the file that was checked.
    """
    try:
        number = os.open(file.path, _FLAGS)
    except OSError as error:
        raise ModelError(f"{file.path}: cannot be read: {error.strerror}") from error
    with os.fdopen(number, "rb") as opened:
        found = os.fstat(number)
        now = (found.st_dev, found.st_ino, found.st_size)
        if not stat.S_ISREG(found.st_mode) or now != (file.device, file.inode, file.size):
            raise RefusedError(f"{file.path}: was exchanged after it was checked; refused")
        if not file.size:
            return np.empty(0, np.uint8)
        return np.asarray(np.memmap(opened, np.uint8, mode="r"))


def _view(tensor: ir.ExternalTensor, raw: np.ndarray) -> ir.TensorProtocol:
    kind, shape = tensor.dtype, tuple(tensor.shape.numpy())
    if kind.bitwidth < 8:
        return ir.PackedTensor(raw, kind, shape=shape, name=tensor.name)
    return ir.Tensor(raw.view(kind.numpy()).reshape(shape), dtype=kind, name=tensor.name)
