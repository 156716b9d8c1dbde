"""ONNX Runtime's exceptions, put in one line that says which input or which part of the model is to blame."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import DataError, ModelError
from quant.provider_failures import diagnose

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Shape = tuple[int | str | None, ...]

# ONNX Runtime's names of element types -> NumPy's.
NUMPY_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    "tensor(string)": "object",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


_NOISE = (
    re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : "),
    re.compile(r"^Load model from .* failed: ?"),
    re.compile(r"^\S+\.(?:cc|h):\d+ .*?\) (?=[A-Z])"),  # /onnxruntime_src/onnxruntime/...cc:46 void f(int) Message
)


def exceptions() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: its own classes, which share no base, and pybind11's translations of C++ exceptions."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception))
    return (*own, RuntimeError, ValueError, TypeError)


def reason(error: Exception, *, gpu: bool = False) -> str:
    """ONNX Runtime's message without its error code and source location, on one line.

    Of a session on a GPU, a failure that is known is told in a sentence, with what to do about it on a second line.
    """
    text = str(error)
    if gpu and (failure := diagnose(text)):
        return f"{one_line(failure.reason)}\n{failure.remedy}"
    for noise in _NOISE:
        text = noise.sub("", text)
    return one_line(text)


def one_line(text: str) -> str:
    """The text on one line of at most 300 characters."""
    return textwrap.shorten(text, 300, placeholder=" ...")


def explained(
    model: str,
    error: Exception,
    inputs: Mapping[str, np.ndarray],
    expected: Mapping[str, tuple[Shape, str]],
    *,
    gpu: bool = False,
) -> DataError | ModelError:
    """The error to raise where a run failed: about the inputs if one does not fit, else about the model.

    Args:
        model: its name, for the message.
        error: what ONNX Runtime raised.
        inputs: what the model was given.
        expected: input name -> (shape, NumPy's name of the type).
        gpu: whether the session ran on one.
    """
    if missing := [name for name in expected if name not in inputs]:
        return DataError(f"{model}: no data for input {_quoted(missing)}; got {_quoted(inputs)}")
    if unknown := [name for name in inputs if name not in expected]:
        return DataError(f"{model}: has no input {_quoted(unknown)}; its inputs are {_quoted(expected)}")
    for name, (shape, kind) in expected.items():
        if problem := _misfit(inputs[name], shape, kind):
            return DataError(f"{model}: input {name!r}: {problem}")
    return ModelError(f"{model}: fails while running: {reason(error, gpu=gpu)}")


def _misfit(array: object, shape: Shape, kind: str) -> str | None:
    if not isinstance(array, np.ndarray):
        return f"expected a NumPy array of {kind}, got {type(array).__name__}"
    if str(array.dtype) != kind and kind in NUMPY_TYPES.values() and kind != "object":
        return f"expected {kind}, got {array.dtype}"
    known = [dim if isinstance(dim, int) else None for dim in shape]
    fits = array.ndim == len(known) and all(dim in {None, size} for size, dim in zip(array.shape, known, strict=True))
    if shape and not fits:
        wanted = ", ".join("?" if dim is None else str(dim) for dim in shape)
        return f"expected shape ({wanted}), got ({', '.join(map(str, array.shape))})"
    return None


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
