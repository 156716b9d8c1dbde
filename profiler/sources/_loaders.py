"""The one module that lets torch and onnx open model files. Everything handed to it has been checked before.

Lint bans these functions everywhere else.
"""

from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from profiler.errors import ModelError


def load_tensors(path: Path) -> Any:  # noqa: ANN401  # the checkpoint's own structure
    """A checkpoint of tensors and plain containers, by torch's restricted unpickler."""
    return _load(path, weights_only=True)


def load_stock_module(path: Path, classes: list[Any]) -> nn.Module:
    """A module that has passed `checkpoint.check_module`; `classes` are the stock classes in it."""
    with torch.serialization.safe_globals([*classes, set, nn.functional.gelu, nn.functional.relu, torch.relu]):
        module = _load(path, weights_only=True)
    if not isinstance(module, nn.Module):
        raise ModelError(f"{path}: holds a {type(module).__name__}, no module")
    return module


def load_trusted(path: Path) -> Any:  # noqa: ANN401  # whatever the file builds
    """Whatever the file builds. It runs the file's code: only after the user has said `--trust`."""
    return _load(path, weights_only=False)


def _load(path: Path, *, weights_only: bool) -> Any:  # noqa: ANN401  # as above
    try:
        return torch.load(path, map_location="cpu", weights_only=weights_only)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(f"{path}: torch could not read it: {type(error).__name__}: {reason}") from error


def parse_onnx(path: Path) -> onnx.ModelProto:
    """An ONNX graph without the external data that it may point to; the file's name is of no account."""
    return parse_onnx_bytes(path.read_bytes(), str(path))


def parse_onnx_bytes(data: bytes, name: str) -> onnx.ModelProto:
    """As `parse_onnx`, of a file's bytes; `name` is for messages."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:
        raise ModelError(
            f"{name}: is no whole ONNX model, nor a file of another kind that is known ({type(error).__name__}); "
            "copy or download it again"
        ) from error
    return model
