"""What the graph is called with: sizes as given, sizes as declared, and named dimensions."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from onnx import GraphProto, TypeProto, ValueInfoProto, helper

from profiler.errors import ModelError, UsageError
from profiler.onnx_graph.prepare import MOST_FLOATS, MOST_INTEGERS
from profiler.onnx_ops.value import FLOATS, Shape, Value

Given = Sequence[Any] | Mapping[str, Any]
"""Sizes or arrays, by position or by the names of the graph's inputs; None where the declared size will do."""


_NAMELESS = ("", "?", "-1", "None")


def bind_inputs(graph: GraphProto, given: Given, dims: Mapping[str, int]) -> dict[str, Value]:
    """A value for each input of the graph.

    Args:
        graph: its inputs that are initializers as well are defaults, not inputs.
        given: as `Given`; an array of integers brings its elements along.
        dims: sizes of named dimensions; a nameless one is called `input[axis]`.

    Raises:
        UsageError: an input is named that the graph does not have, or a size does not fit the graph.
        ModelError: a dimension is left open.
    """
    stored = {t.name for t in graph.initializer}
    infos = [i for i in graph.input if i.name not in stored]
    by_name = _by_name(infos, given)
    _check_dims(infos, dims)
    sizes = dict(dims)
    for info in infos:
        if by_name.get(info.name) is not None:
            _fit(info, _shape_of(by_name[info.name]), sizes)
    _check_open([info for info in infos if by_name.get(info.name) is None], sizes)
    return {info.name: _value(info, by_name.get(info.name), sizes) for info in infos}


def _by_name(infos: Sequence[ValueInfoProto], given: Given) -> dict[str, Any]:
    names = [i.name for i in infos]
    if isinstance(given, Mapping):
        wrong = [name for name in given if name not in names]
        if wrong:
            raise UsageError(f"the graph has no input {wrong[0]!r}; it has {', '.join(names) or 'none'}")
        return dict(given)
    if len(given) > len(names):
        raise UsageError(f"{len(given)} inputs were given, the graph has {len(names)}: {', '.join(names) or 'none'}")
    return dict(zip(names, given, strict=False))


def _shape_of(value: Any) -> Shape:  # noqa: ANN401  # a size, or any kind of array
    size = getattr(value, "shape", value)
    try:
        return tuple(int(n) for n in size)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{value!r} is neither a size such as (1, 3, 224, 224) nor an array") from error


def _fit(info: ValueInfoProto, shape: Shape, sizes: dict[str, int]) -> None:
    """Take the sizes of named dimensions from a size that was given; it must fit what is declared."""
    tensor = info.type.tensor_type
    if not tensor.HasField("shape"):
        return
    declared = tensor.shape.dim
    if len(declared) != len(shape):
        raise UsageError(f"input {info.name!r} has {len(declared)} axes in the graph, {shape} was given")
    for axis, (dim, size) in enumerate(zip(declared, shape, strict=True)):
        if dim.HasField("dim_value") and dim.dim_value > 0 and dim.dim_value != size:
            raise UsageError(f"input {info.name!r} has size {dim.dim_value} on axis {axis} in the graph, got {size}")
        if dim.dim_param not in _NAMELESS:
            known = sizes.setdefault(dim.dim_param, size)
            if known != size:
                raise UsageError(
                    f"input {info.name!r} has {size} on axis {axis}, whose name {dim.dim_param!r} stands for {known}"
                )


def _value(info: ValueInfoProto, given: Any, sizes: Mapping[str, int]) -> Value:  # noqa: ANN401  # as above
    kind = info.type.WhichOneof("value")
    if kind != "tensor_type":
        kind = str(kind).removesuffix("_type")
        raise ModelError(f"input {info.name!r} is of the kind {kind}; only tensors can be profiled")
    dtype = info.type.tensor_type.elem_type
    shape = _shape_of(given) if given is not None else _declared(info, sizes)
    if any(n < 0 for n in shape):
        raise UsageError(f"input {info.name!r} cannot have the size {shape}")
    return Value(shape, dtype, _elements(given, dtype), reached=True)


def _name(info: ValueInfoProto, axis: int) -> str:
    """What an open dimension is called: by its place where the graph has no name for it."""
    name = info.type.tensor_type.shape.dim[axis].dim_param
    return f"{info.name}[{axis}]" if name in _NAMELESS else name


def _check_open(infos: Sequence[ValueInfoProto], sizes: Mapping[str, int]) -> None:
    """All sizes that are still to be given are named at once."""
    axes = [(info, axis, dim) for info in infos for axis, dim in enumerate(info.type.tensor_type.shape.dim)]
    missing = [(info, axis) for info, axis, dim in axes if dim.dim_value <= 0 and _name(info, axis) not in sizes]
    if missing:
        info, axis = missing[0]
        names = dict.fromkeys(_name(*place) for place in missing)
        options = " ".join(f"--dim {name}=N" for name in names)
        raise ModelError(
            f"axis {axis} of input {info.name!r} has no fixed size; pass {options}, or the whole input's size"
        )


def _declared(info: ValueInfoProto, sizes: Mapping[str, int]) -> Shape:
    if not info.type.tensor_type.HasField("shape"):
        raise ModelError(f"input {info.name!r} has no size in the graph; pass it, such as --input 1x3x224x224")
    dims = enumerate(info.type.tensor_type.shape.dim)
    return tuple(sizes.get(_name(info, axis), dim.dim_value) for axis, dim in dims)


def declared_shape(kind: TypeProto, sizes: Mapping[str, int]) -> Shape | None:
    """A size that the graph declares for a value, names replaced; None where a part of it is open."""
    tensor = kind.tensor_type
    if not tensor.HasField("shape"):
        return None
    shape = [d.dim_value if d.HasField("dim_value") else sizes.get(d.dim_param, -1) for d in tensor.shape.dim]
    return tuple(shape) if all(n >= 0 for n in shape) else None


def _check_dims(infos: Sequence[ValueInfoProto], dims: Mapping[str, int]) -> None:
    names = {
        _name(info, axis)
        for info in infos
        for axis, dim in enumerate(info.type.tensor_type.shape.dim)
        if dim.dim_value <= 0
    }
    for name in dims:
        if name not in names:
            known = ", ".join(sorted(names)) or "none"
            raise UsageError(f"--dim {name}: no open dimension of the inputs has this name; there is {known}")


def _elements(given: Any, dtype: int) -> "np.ndarray[Any, np.dtype[Any]] | None":  # noqa: ANN401  # as above
    """Elements of a small array, on which sizes may depend; a size and a meta tensor have none."""
    if not hasattr(given, "dtype") or getattr(given, "is_meta", False):
        return None
    if prod(_shape_of(given)) > (MOST_FLOATS if dtype in FLOATS else MOST_INTEGERS):
        return None
    array = np.asarray(given)
    fits = array.dtype.kind in ("f" if dtype in FLOATS else "iub")
    return array.astype(helper.tensor_dtype_to_np_dtype(dtype)) if fits else None


def input_axes(value: Value) -> tuple[int, ...]:
    """Axes along which receptive fields are followed: all after batch and channel, or a token sequence."""
    rank = len(value.shape or ())
    if rank > 2:
        return tuple(range(2, rank))
    return (1,) if rank == 2 and not value.floating else ()
