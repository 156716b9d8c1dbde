"""Inputs to run a model on: parsed from what the user wrote, or found in the model itself."""

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import nn

from profiler.errors import DataError, ModelError, NetgaugeError, UsageError
from profiler.walk import walk

_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}
# Picture sizes that networks are commonly made for, the most common first.
_SIZES = (224, 32, 28, 64, 96, 128, 256, 299, 384, 512, 48, 16, 8)
_LENGTHS = (16, 128, 512, 64, 1024, 16000)


def parse_input(text: str) -> torch.Tensor:
    """A storage-free tensor from `1x3x224x224` or `1x16:int64`.

    Raises:
        UsageError: it is written otherwise.
    """
    match = re.fullmatch(r"(\d+(?:x\d+)*)(?::(\w+))?", text.strip())
    if not match:
        raise UsageError(f"--input {text}: write sizes joined by x, such as 1x3x224x224 or 1x16:int64")
    dtype = _DTYPES.get(match[2] or "float32")
    if dtype is None:
        raise UsageError(f"--input {text}: no element type {match[2]!r}; there is {', '.join(_DTYPES)}")
    shape = tuple(int(n) for n in match[1].split("x"))
    if dtype.is_floating_point:
        return torch.empty(shape, dtype=dtype, device="meta")
    return torch.zeros(shape, dtype=dtype)


def read_arrays(path: str) -> dict[str, torch.Tensor]:
    """Inputs from an .npz file, by the names of forward's parameters.

    Raises:
        DataError: missing, damaged, or with arrays of Python objects.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: torch.from_numpy(file[name]) for name in file.files}
    except (OSError, ValueError, TypeError, AttributeError, BadZipFile, MemoryError) as error:
        raise DataError(f"{path}: is no .npz file of plain arrays ({error})") from error


def find_inputs(model: nn.Module, target: str) -> tuple[torch.Tensor, str]:
    """An input that the model takes, and a sentence about where it comes from.

    Looked at in turn: `example_input_array`, the attribute that PyTorch Lightning defines; then the first layer, which
    fixes channels or features, with common sizes tried one after the other.

    Raises:
        ModelError: nothing fits; the message says which flag to pass.
    """
    example = getattr(model, "example_input_array", None)
    if isinstance(example, torch.Tensor):
        return example, f"input {_written(example)} from the model's example_input_array"
    failed = ""
    for candidate in _candidates(model):
        error = _error_on(model, candidate)
        if error is None:
            return candidate, f"input {_written(candidate)} assumed from the first layer; --input sets another"
        failed = failed or f" ({_written(candidate)} was tried: {error})"
    takes = ", ".join(inspect.signature(model.forward).parameters)
    raise ModelError(
        f"{target}: the sizes of its inputs are not known{failed}; "
        f"pass one --input for each of forward({takes}), such as --input 1x3x224x224"
    )


def _written(tensor: torch.Tensor) -> str:
    kind = "" if tensor.dtype == torch.float32 else f":{str(tensor.dtype).removeprefix('torch.')}"
    return "x".join(map(str, tensor.shape)) + kind


def _error_on(model: nn.Module, candidate: torch.Tensor) -> NetgaugeError | None:
    try:
        walk(model, (candidate,), {}, lambda _: None, fields=False)
    except NetgaugeError as error:
        return error
    return None


def _pictures(axes: int) -> Callable[[Any], Iterator[torch.Tensor]]:
    def shapes(layer: Any) -> Iterator[torch.Tensor]:  # noqa: ANN401  # a convolution
        for n in _LENGTHS if axes == 1 else _SIZES:
            yield torch.empty((1, layer.in_channels, *(n,) * axes), device="meta")

    return shapes


def _sequences(layer: Any) -> Iterator[torch.Tensor]:  # noqa: ANN401  # a recurrent layer
    yield torch.empty((1, _LENGTHS[0], layer.input_size), device="meta")


def _features(layer: Any) -> Iterator[torch.Tensor]:  # noqa: ANN401  # a fully connected layer
    yield torch.empty((1, layer.in_features), device="meta")
    yield torch.empty((1, _LENGTHS[0], layer.in_features), device="meta")


def _tokens(_layer: Any) -> Iterator[torch.Tensor]:  # noqa: ANN401  # an embedding
    yield torch.zeros((1, _LENGTHS[0]), dtype=torch.int64)


_FIRST_LAYERS: dict[type[nn.Module], Callable[[Any], Iterator[torch.Tensor]]] = {
    nn.Conv1d: _pictures(1),
    nn.Conv2d: _pictures(2),
    nn.Conv3d: _pictures(3),
    nn.ConvTranspose2d: _pictures(2),
    nn.RNNBase: _sequences,
    nn.Embedding: _tokens,
    nn.Linear: _features,
}


def _candidates(model: nn.Module) -> Iterator[torch.Tensor]:
    for module in model.modules():
        for kind, shapes in _FIRST_LAYERS.items():
            if isinstance(module, kind):
                yield from shapes(module)
                return
