"""Which ONNX Runtime is installed, and what is missing where there is none that will do."""

from __future__ import annotations

import contextlib
import importlib.metadata
import sys
from typing import TYPE_CHECKING

from profiler.errors import UnavailableError
from quant import _runtime_errors, providers

if TYPE_CHECKING:
    from types import ModuleType

    from quant.providers import ProviderState

# Distributions that all install the module `onnxruntime`: pip lets them overwrite each other's files without a word.
_DISTRIBUTIONS = (
    "onnxruntime",
    *(f"onnxruntime-{kind}" for kind in ("gpu", "directml", "openvino", "qnn", "migraphx", "rocm", "training")),
)
GPU = "onnxruntime-gpu"  # the one with CUDA and TensorRT compiled in


def installed_distributions() -> dict[str, str]:
    """The installed distributions that provide the module `onnxruntime`, with their versions."""
    found = {}
    for name in _DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def import_onnxruntime() -> ModuleType:
    """The module `onnxruntime`.

    Raises:
        UnavailableError: it is not installed, or does not load, or two distributions of it overwrote each other.
    """
    found = installed_distributions()
    if len(found) > 1:
        raise UnavailableError(
            f"{' and '.join(found)} are installed together; they share one folder and overwrite each other's files.\n"
            f"Do pip uninstall {' '.join(found)}, then install one: pip install 'netgauge[cpu]' or 'netgauge[gpu]'."
        )
    try:
        import onnxruntime
    except ImportError as error:
        if found:
            raise UnavailableError(
                f"ONNX Runtime is installed but does not load: {_runtime_errors.one_line(str(error))}"
            ) from error
        raise UnavailableError(
            "ONNX Runtime is not installed. Install it: pip install 'netgauge[cpu]', or 'netgauge[gpu]' for CUDA."
        ) from error
    module: ModuleType = onnxruntime
    return module


def provider_state(name: str) -> ProviderState:
    """Whether an execution provider works, found out by using it in a child process (some tenths of a second).

    Raises:
        UnavailableError: see `import_onnxruntime`.
    """
    ort = import_onnxruntime()
    if name in ort.get_available_providers():
        return providers.probe(name)
    installed = next(iter(installed_distributions()), "onnxruntime")
    reason = f"it is no part of {installed} {ort.__version__}"
    if installed != GPU:
        reason += f"; {GPU} is not installed"
    remedy = f"For an NVIDIA GPU replace it: pip uninstall {installed}, then pip install 'netgauge[gpu]'."
    if sys.platform == "darwin":
        remedy = "There is no CUDA on macOS: use the CPU."
    elif installed == GPU:
        remedy = "Install one that has it: pip install --upgrade 'netgauge[gpu]'."
    return providers.ProviderState(name, loads=False, reason=reason, remedy=remedy)
