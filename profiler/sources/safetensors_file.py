"""safetensors files: the header says everything; the tensors are read only when an architecture asks for them."""

from math import prod
from pathlib import Path
from typing import Any

import torch

from profiler.errors import ModelError
from profiler.sources.checkpoint import TensorEntry
from profiler.sources.limits import DEFAULT, Limits
from profiler.sources.opened import OpenedModel

_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2,
    "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "C64": 8,
}  # fmt: skip


def open_safetensors(path: Path, *, trust: bool = False, limits: Limits = DEFAULT) -> OpenedModel:  # noqa: ARG001  # nothing to trust here
    """List the tensors of a safetensors file.

    Raises:
        ModelError: it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    entries = []
    try:
        with safe_open(str(path), framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  # no mapping: only keys() lists its names
                view = file.get_slice(name)
                shape, dtype = tuple(view.get_shape()), view.get_dtype()
                entries.append(TensorEntry(name, shape, dtype.lower(), prod(shape) * _BYTES.get(dtype, 1), name))
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: is no whole safetensors file ({error})") from error
    return OpenedModel(str(path), "weights", tensors=tuple(entries), path=path)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file by name.

    Raises:
        ModelError: it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Any] = load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: is no whole safetensors file ({error})") from error
    return tensors
