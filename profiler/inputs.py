"""Inputs to run a model on: parsed from what the user wrote, or found in the model itself."""

import re
from collections.abc import Mapping
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import nn

from profiler.aten.call import tensors_of
from profiler.errors import DataError, ModelError, NetgaugeError, UsageError
from profiler.first_layers import Guess, flags, guesses
from profiler.signatures import parameters_of
from profiler.sources.hf_inputs import call_of, is_transformers
from profiler.sources.opened import ExampleInputs
from profiler.sources.timm_models import input_size
from profiler.walk import walk

_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}


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


def find_inputs(model: nn.Module, target: str) -> ExampleInputs:
    """Inputs that the model takes, with a sentence about where they come from.

    Looked at in turn: what the model itself says (`example_input_array`, the attribute that PyTorch Lightning defines;
    the configuration of a timm or transformers network); then the first layer, which fixes channels or features, with
    common sizes tried one after the other.

    Raises:
        ModelError: nothing fits; the message says which flag to pass.
    """
    for look in (_example_array, _timm, _transformers):
        found = look(model, target)
        if found is not None:
            return found
    failed = ""
    for args, kwargs in guesses(model):
        error = _error_on(model, (args, kwargs))
        written = _all_written((args, kwargs))
        if error is None:
            return ExampleInputs(args, kwargs, f"input {written} assumed from the first layer; --input sets another")
        failed = failed or f" ({written} was tried: {error})"
    takes = ", ".join(parameters_of(model))
    raise ModelError(
        f"{target}: the sizes of its inputs are not known{failed}; "
        f"pass one --input for each of forward({takes}), such as {flags(model)}"
    )


def _example_array(model: nn.Module, _target: str) -> ExampleInputs | None:
    """What PyTorch Lightning calls a model with: a tensor, a row of arguments, or arguments by name."""
    example: Any = getattr(model, "example_input_array", None)
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    if isinstance(example, torch.Tensor):
        args = (example,)
    elif isinstance(example, Mapping) and example and all(isinstance(key, str) for key in example):
        kwargs = dict(example)
    elif isinstance(example, tuple | list) and example:
        args = tuple(example)
    else:
        return None
    return ExampleInputs(args, kwargs, f"input {_all_written((args, kwargs))} from the model's example_input_array")


def _timm(model: nn.Module, _target: str) -> ExampleInputs | None:
    size = input_size(model)
    if size is None:
        return None
    tensor = torch.empty((1, *size), device="meta")
    return ExampleInputs((tensor,), {}, f"input {_written(tensor)} from timm's configuration of the model")


def _transformers(model: nn.Module, target: str) -> ExampleInputs | None:
    return call_of(model, target).inputs({}) if is_transformers(model) else None


def _all_written(call: tuple[Any, Any]) -> str:
    args, kwargs = call
    named = [f"{name} {_written(t)}" for name, t in kwargs.items() if isinstance(t, torch.Tensor)]
    return ", ".join([*(_written(t) for t in tensors_of(args)), *named])


def _written(tensor: torch.Tensor) -> str:
    kind = "" if tensor.dtype == torch.float32 else f":{str(tensor.dtype).removeprefix('torch.')}"
    return "x".join(map(str, tensor.shape)) + kind


def _error_on(model: nn.Module, guess: Guess) -> NetgaugeError | None:
    try:
        walk(model, *guess, lambda _: None, fields=False)
    except NetgaugeError as error:
        return error
    return None
