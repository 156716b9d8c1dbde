"""One tensor or storage as a pickle describes it, read off its symbolic tree: nothing is built.

torch.save calls one of a few functions for each tensor (`checkpoint.REBUILD`); its arguments say everything: which
storage, from which element on, size, strides and type.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch

from profiler.errors import ModelError, RefusedError
from profiler.sources.checkpoint import (
    DTYPES,
    FROM_TYPE,
    LAYOUT,
    PARAMETER,
    PLAIN_TENSORS,
    REBUILD,
    SIZE,
    storage_types,
)
from profiler.sources.opcodes import Global, Result, read_next

# A file can hold a tuple that doubles with each of sixty opcodes: nothing of it is hashed, compared or written out
# before its type is known.
_MOST_AXES = 64  # torch's own limit
_MOST_WRITTEN = 80  # characters of a tensor's name in a message
_LARGEST = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a tensor's elements lie.

    Attributes:
        dtype: element type.
        shape: its size.
        stride: elements of the storage between neighbours along each axis.
        offset: elements of the storage before the first.
        storage: the storage's key, "" where it has none.
        special: why its values cannot be taken as they lie there, "" where they can.
        bytes: that they take.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...] = ()
    offset: int = 0
    storage: str = ""
    special: str = ""
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Storage:
    """A storage as a persistent id names it; `first` and `elements` are those of a view where it names one."""

    key: str
    dtype: torch.dtype
    whole: int
    first: int
    elements: int


class OddError(Exception):
    """A description that torch.save does not write."""


def layout_of(value: Any, name: str, source: str) -> Layout | None:  # noqa: ANN401  # any node
    """The layout of a node that stands for a tensor, None for any other.

    Raises:
        ModelError: it is described in a way that torch.save never does.
        RefusedError: it reaches beyond its storage.
    """
    name = name[:_MOST_WRITTEN]
    try:
        layout = _layout(value)
    except (OddError, AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise ModelError(f"{source}: the tensor {name!r} is described in a way that torch.save never does") from error
    if layout is not None and layout.offset < 0:
        raise RefusedError(f"{source}: the tensor {name!r} reaches beyond its storage; refused")
    return layout


def _layout(value: Any) -> Layout | None:  # noqa: ANN401  # any node
    for _ in range(4):  # a parameter of a tensor of a class; no honest file nests them deeper
        if not isinstance(value, Result):
            return None
        if value.function in (PARAMETER, REBUILD["parameter_with_state"]):
            value = value.args[0]
        elif value.function in _LAYOUTS:
            return _LAYOUTS[value.function](*value.args)
        else:
            return None
    raise OddError


def _strided(storage: Any, offset: Any, shape: Any, stride: Any, dtype: torch.dtype | None = None) -> Layout:  # noqa: ANN401  # from a file
    held = storage_of(storage)
    dtype = dtype or held.dtype
    shape, stride = sizes(shape), sizes(stride)
    if len(shape) != len(stride) or not _is_size(offset):
        raise OddError
    there = held.elements * held.dtype.itemsize // dtype.itemsize
    first = held.first * held.dtype.itemsize // dtype.itemsize
    reach = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True)) + 1 if 0 not in shape else offset
    # What is expanded over its storage takes no more than that.
    size = min(prod(shape) * dtype.itemsize, held.whole * held.dtype.itemsize)
    return Layout(dtype, shape, stride, offset + first if reach <= there else -1, held.key, bytes=size)


def _dense(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> Layout:  # noqa: ANN401  # from a file
    return _marked(_strided(storage, offset, shape, stride), rest[2] if len(rest) > 2 else None)


def _typed(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> Layout:  # noqa: ANN401  # from a file
    return _marked(_strided(storage, offset, shape, stride, _dtype(rest[2])), rest[3] if len(rest) > 3 else None)


def _marked(layout: Layout, marks: Any) -> Layout:  # noqa: ANN401  # from a file
    """With what `torch._utils.set_tensor_metadata` is told: conjugate and negative views."""
    if not marks:
        return layout
    if not isinstance(marks, dict):
        raise OddError
    words = [mark for mark in marks if isinstance(mark, str) and len(mark) <= _MOST_WRITTEN]
    return replace(layout, special=f"is a view that is {' and '.join(words)}")


def _quantized(storage: Any, offset: Any, shape: Any, stride: Any, *_rest: Any) -> Layout:  # noqa: ANN401  # from a file
    return replace(_strided(storage, offset, shape, stride), special="is quantized")


def _sparse(layout: Any, parts: Any) -> Layout:  # noqa: ANN401  # from a file
    tensors = [_dense(*part.args) for part in parts if isinstance(part, Result) and part.function == _TENSOR]
    shapes = [sizes(part) for part in parts if isinstance(part, Result) and part.function == SIZE]
    named = layout.args[0] if isinstance(layout, Result) and layout.function == LAYOUT else ""
    if not isinstance(named, str) or len(named) > _MOST_WRITTEN:
        raise OddError
    held = sum(prod(t.shape) * t.dtype.itemsize for t in tensors)
    return Layout(tensors[-1].dtype, shapes[0], special=f"is {named.removeprefix('torch.') or 'sparse'}", bytes=held)


def _meta(dtype: Any, shape: Any, *_rest: Any) -> Layout:  # noqa: ANN401  # from a file
    return Layout(_dtype(dtype), sizes(shape), special="was on the device meta and has no values", bytes=0)


def _wrapped(kind: Any, dtype: Any, shape: Any, *_rest: Any) -> Layout:  # noqa: ANN401  # from a file
    return Layout(_dtype(dtype), sizes(shape), special=f"is of the class {_named(kind)}", bytes=0)


def _of_class(function: Any, kind: Any, args: Any, *_rest: Any) -> Layout:  # noqa: ANN401  # from a file
    if _named(function) == FROM_TYPE:
        raise OddError
    layout = _LAYOUTS[function](*args)
    plain = _named(kind) in PLAIN_TENSORS or layout.special
    return layout if plain else replace(layout, special=f"is of the class {kind}")


def _named(value: Any) -> Global:  # noqa: ANN401  # from a file
    if not isinstance(value, Global):
        raise OddError
    return value


def _dtype(value: Any) -> torch.dtype:  # noqa: ANN401  # from a file
    return DTYPES[_named(value)]


_TENSOR = REBUILD["tensor_v2"]
_LAYOUTS: dict[Global, Callable[..., Layout]] = {
    REBUILD["tensor"]: _dense,
    REBUILD["tensor_v2"]: _dense,
    REBUILD["tensor_v3"]: _typed,
    REBUILD["qtensor"]: _quantized,
    REBUILD["sparse_tensor"]: _sparse,
    REBUILD["meta_tensor_no_storage"]: _meta,
    REBUILD["wrapper_subclass"]: _wrapped,
    FROM_TYPE: _of_class,
}


def sizes(value: Any) -> tuple[int, ...]:  # noqa: ANN401  # from a file
    """A size, written as a tuple, a list or a torch.Size."""
    if isinstance(value, Result) and value.function == SIZE:
        value = value.args[0]
    if not isinstance(value, tuple | list) or len(value) > _MOST_AXES or not all(map(_is_size, value)):
        raise OddError
    return tuple(value)


def _is_size(value: Any) -> bool:  # noqa: ANN401  # from a file
    return type(value) is int and 0 <= value <= _LARGEST


def storage_of(value: Any) -> Storage:  # noqa: ANN401  # from a file
    """The storage that a persistent id names; a view of one where it names that."""
    if isinstance(value, Result) and value.function == _FROM_BYTES:
        value = _pickled(*value.args)
    what, kind, key, _location, elements, *view = value.key
    if what != "storage" or not isinstance(key, str) or not _is_size(elements):
        raise OddError
    first, count = 0, elements
    if view and view[0] is not None:
        _, first, count = view[0]
    if not _is_size(first) or not _is_size(count) or first + count > elements:
        raise OddError
    return Storage(key, storage_types()[_named(kind)], elements, first, count)


# pickle.dump has each storage written by torch.save, and keeps the bytes.
_FROM_BYTES = Global("torch.storage", "_load_from_bytes")
_BEFORE = 3  # pickles before that of the object; see `legacy`


def _pickled(data: bytes) -> Any:  # noqa: ANN401  # a persistent id, where all is well
    file = io.BytesIO(data)
    for _ in range(_BEFORE):
        read_next(file, "a storage")
    return read_next(file, "a storage")[0]
