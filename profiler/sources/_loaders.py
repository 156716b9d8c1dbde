"""The one module that lets torch and onnx open model files. Everything handed to it has been checked before.

Lint bans these functions everywhere else.
"""

import pickle
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import torch
from torch import nn

from profiler.errors import ModelError
from profiler.sources.neighbours import Neighbours


def load_trusted(path: Path) -> Any:  # noqa: ANN401  # whatever the file builds
    """Whatever the file builds. It runs the file's code: only after the user has said `--trust`.

    Classes of the author's own are looked for as `neighbours` says, and can import their neighbours from then on.

    Raises:
        ModelError: it names a class that is not there, it raises, or it ends the program.
    """
    try:
        module = _finding(Neighbours(path))
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=module)
    except ModelError:
        raise
    except SystemExit as error:
        raise ModelError(f"{path}: its code ended the program (exit code {error.code})") from error
    except Exception as error:
        raise _unreadable(path, error) from error


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


def load_trusted_script(path: Path) -> nn.Module:
    """The module of a TorchScript archive. It runs the file's code: only after the user has said `--trust`."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
            module: nn.Module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
            return module.eval()
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ModelError:
    reason = str(error).strip().split("\n")[0]
    return ModelError(f"{path}: torch could not read it: {type(error).__name__}: {reason}")


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
