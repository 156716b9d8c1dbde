"""The machine and the versions behind a result, for the `environment` block of every report."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("netgauge", "torch", "fvcore", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "onnxruntime-gpu", "numpy")


def version(package: str) -> str | None:
    """The installed version of a distribution, None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def environment() -> dict[str, Any]:
    """Operating system, processor, Python and package versions."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def available_memory() -> int | None:
    """Bytes of memory that can be had without swapping, None where the system does not say."""
    try:
        # What Linux would give: it counts the file cache, which `SC_AVPHYS_PAGES` takes for used.
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return _pages("SC_AVPHYS_PAGES")


def physical_memory() -> int | None:
    """Bytes of memory that the machine has, None where the system does not say."""
    return _pages("SC_PHYS_PAGES")


def _pages(name: str) -> int | None:
    try:
        return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
