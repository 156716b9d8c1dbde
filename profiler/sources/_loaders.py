"""The one module that lets torch and onnx open model files. Everything handed to it has been checked before.

Lint bans these functions everywhere else.
"""

import pickle
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import torch
from torch import nn

from profiler.errors import ModelError
from profiler.sources.neighbours import Neighbours


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
    """Whatever the file builds. It runs the file's code: only after the user has said `--trust`.

    Classes of the author's own are looked for as `neighbours` says, and can import their neighbours from then on.

    Raises:
        ModelError: it names a class that is not there, it raises, or it ends the program.
    """
    try:
        return _load(path, weights_only=False, pickle_module=_finding(Neighbours(path)))
    except SystemExit as error:
        raise ModelError(f"{path}: its code ended the program (exit code {error.code})") from error


def _finding(neighbours: Neighbours) -> ModuleType:
    """The pickle module with another way to find classes; torch.load wants a module."""

    class Unpickler(pickle.Unpickler):  # the user trusts the file
        def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401  # whatever it names
            return neighbours.find(module, name, super().find_class)

    def load(file: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # as pickle.load
        return Unpickler(file, **kwargs).load()

    module = ModuleType("pickle")
    vars(module).update({**vars(pickle), "Unpickler": Unpickler, "load": load})
    return module


def _load(path: Path, *, weights_only: bool, pickle_module: ModuleType | None = None) -> Any:  # noqa: ANN401  # as above
    try:
        return torch.load(path, map_location="cpu", weights_only=weights_only, pickle_module=pickle_module)
    except ModelError:
        raise
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(f"{path}: torch could not read it: {type(error).__name__}: {reason}") from error


def parse_onnx(path: Path) -> onnx.ModelProto:
    """An ONNX graph without the external data that it may point to."""
    try:
        return onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise ModelError(f"{path}: is no ONNX model ({type(error).__name__})") from error
