"""safetensors files: the header says everything; the tensors are read only when an architecture asks for them."""

from pathlib import Path

import torch

from profiler.errors import ModelError
from profiler.sources.limits import DEFAULT, Limits
from profiler.sources.opened import OpenedModel
from profiler.sources.safetensors_header import read_header


def open_safetensors(path: Path, *, trust: bool = False, limits: Limits = DEFAULT) -> OpenedModel:  # noqa: ARG001  # nothing to trust here
    """List the tensors of a safetensors file, from its header alone.

    Raises:
        ModelError: it is damaged.
        RefusedError: it asks for more than the limits allow.
    """
    return OpenedModel(str(path), "weights", tensors=read_header(path, limits), path=path)


def read_tensors(path: Path, limits: Limits = DEFAULT) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file by name; the header is checked first.

    Raises:
        ModelError: it is damaged, or torch has no such element type.
        RefusedError: it asks for more than the limits allow.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    read_header(path, limits)
    try:
        tensors: dict[str, torch.Tensor] = load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: is no whole safetensors file ({error})") from error
    except (KeyError, AttributeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path}: torch {torch.__version__} cannot hold its tensors ({error})") from error
    return tensors
