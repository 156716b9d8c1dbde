"""What ONNX Runtime writes where CUDA or TensorRT does not work, and what to do about it.

One table for two readers: the log of a provider that does not load (`quant.providers`), and the exception of a session
that fails on one (`quant._runtime_errors`). The wording is that of ONNX Runtime 1.22 to 1.31, of the loader, and of
`cudaGetErrorString`. The first rule that matches tells most: what is missing comes before what fails for want of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_PIP = "Install NVIDIA's libraries: pip install 'onnxruntime-gpu[cuda,cudnn]'."
_DRIVER = "It comes with the NVIDIA driver: install the driver, and in a container start it with GPU access."
_OLD_DRIVER = (
    "Update the NVIDIA driver (CUDA 12 needs 525 or newer, CUDA 13 needs 580), or install an onnxruntime-gpu that was "
    "built for an older CUDA."
)
_NO_GPU = (
    "Check nvidia-smi and CUDA_VISIBLE_DEVICES; a container needs GPU access (docker run --gpus all), and a machine "
    "without an NVIDIA GPU has only the CPU."
)
_RELOAD = (
    "Restart the machine, or reload the kernel module nvidia_uvm; this often follows a suspend or a driver update."
)
_FULL = "The GPU's memory is full: use a smaller batch, or stop what else runs on it (nvidia-smi lists it)."
_TENSORRT = (
    "It is part of TensorRT {version}: pip install 'tensorrt-cu{cuda}=={version}.*', and put its folder tensorrt_libs "
    "on the loader's path (LD_LIBRARY_PATH; PATH on Windows)."
)
_MIXED = "Libraries of two versions are mixed: uninstall NVIDIA's packages and install them anew. " + _PIP
REQUIREMENTS = "See https://onnxruntime.ai/docs/execution-providers for what this provider needs."

# Start of a library's name, without "lib" -> what provides it.
_LIBRARIES = {
    ("cuda.", "nvcuda.", "nvidia-ml"): _DRIVER,
    ("nvinfer", "nvonnxparser"): _TENSORRT,
    ("cublas", "cudart", "cudnn", "cufft", "curand", "nvrtc", "nvjitlink"): _PIP,
    ("vcruntime", "msvcp"): "Install Microsoft's Visual C++ runtime: https://aka.ms/vs/17/release/vc_redist.x64.exe",
}

# How the loader names a library that it did not find: on Linux and macOS, then on Windows, in whatever language.
_MISSING = (
    re.compile(r"with error: (?:dlopen\(.*?\): Library not loaded: )?(\S+?\.(?:so|dylib)[\w.]*): cannot open"),
    re.compile(r"with error: dlopen\(.*?\): Library not loaded: (\S+?\.dylib)"),
    re.compile(r'"([^"\\/]+\.dll)" which is missing'),
)
# Those that ONNX Runtime looked for beforehand, which are many where all are missing.
_ALSO_MISSING = re.compile(r"^Failed to load (\S+?): ", re.MULTILINE)
_BUILT_FOR = re.compile(r"Require cuDNN (\d+)\.\* and CUDA (\d+)\.\*")


@dataclass(frozen=True)
class Failure:
    """Why a provider does not work.

    Attributes:
        reason: in a sentence without an end.
        remedy: what to do about it.
        library: what the loader did not find, where that is the reason.
    """

    reason: str
    remedy: str
    library: str | None = None


# Pattern -> what it means and what to do about it; "{0}" is the whole match, "{1}" its first group.
_RULES: tuple[tuple[re.Pattern[str], str, str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), reason, remedy)
    for pattern, reason, remedy in (
        (
            r"undefined symbol: ((?-i:cu[A-Z])\w*)|version `?lib(cuda)\.so",
            "the NVIDIA driver is too old: it lacks {1}",
            _OLD_DRIVER,
        ),
        (r"with error: \S*?(lib\w+\.so[\w.]*): undefined symbol: (\w+)", "{1} lacks the function {2}", _MIXED),
        (
            r"version `(GLIBC(?:XX)?_[\d.]+)' not found",
            "the system's C library is too old: {1} is needed",
            "Use a newer system, or an older onnxruntime-gpu.",
        ),
        (
            r'LoadLibrary failed with error 126 .*?([\w.]+\.dll)"?',
            "a library that {1} needs is missing",
            f"{_PIP} Or put the folders of CUDA and cuDNN on PATH.",
        ),
        (r"wrong ELF class|invalid ELF header|is not a valid Win32", "a library is built for another machine", _MIXED),
        (r"CUDA failure 35: [^;\n]*", "the NVIDIA driver is too old for this CUDA (CUDA failure 35)", _OLD_DRIVER),
        (r"CUDA failure 100: [^;\n]*", "no CUDA-capable GPU is there (CUDA failure 100)", _NO_GPU),
        (r"CUDA failure 101: [^;\n]*", "there is no GPU of that number (CUDA failure 101)", _NO_GPU),
        (r"CUDA failure 2: [^;\n]*", "{0}", _FULL),
        (r"CUDA failure (?:3|46|999): [^;\n]*", "{0}", f"{_RELOAD} {_NO_GPU}"),
        (
            r"CUDA failure (?:209|98): [^;\n]*",
            "{0}: this onnxruntime-gpu has no code for this GPU",
            "Install another onnxruntime-gpu: older ones support older GPUs, the newest one the newest.",
        ),
        (r"CUDA failure 222: [^;\n]*", "{0}", _OLD_DRIVER),
        (r"CUDA failure 802: [^;\n]*", "{0}", "On machines with NVSwitch start the service nvidia-fabricmanager."),
        (
            r"CUDA failure 803: [^;\n]*",
            "{0}",
            "The driver's library and its kernel module differ: restart the machine.",
        ),
        (
            r"CUDA failure 804: [^;\n]*",
            "{0}",
            "Take the compatibility libraries (cuda-compat) off the loader's path, or "
            + _OLD_DRIVER[0].lower()
            + _OLD_DRIVER[1:],
        ),
        (
            r"cuDNN is not available|cuDNN is unavailable|cuDNN library was not found",
            "cuDNN is not found, and convolutions need it",
            _PIP,
        ),
        (r"cuFFT is not available|cuFFT library was not found", "cuFFT is not found", _PIP),
        (r"CUDNN_STATUS_(?:SUBLIBRARY_)?VERSION_MISMATCH\w*", "{0}: cuDNN's libraries are of two versions", _MIXED),
        (
            r"CUDNN_STATUS_NOT_INITIALIZED|CUDNN failure 1001\b",
            "cuDNN does not start ({0})",
            f"{_FULL} Or: {_OLD_DRIVER}",
        ),
        (r"CU(?:DNN|BLAS)_STATUS_ALLOC_FAILED", "{0}", _FULL),
        (r"Failed to allocate memory for requested buffer of size \d+|out of memory", "{0}", _FULL),
        (r"CUBLAS_STATUS_NOT_INITIALIZED", "cuBLAS does not start ({0})", f"{_FULL} Or: {_MIXED}"),
        (r"CUBLAS_STATUS_ARCH_MISMATCH", "{0}: this GPU is too old for the model's arithmetic", "Use float32."),
        (
            r"TensorRT EP (?:failed to create engine from network|could not build engine|Failed to Build Engine)[^\n]*",
            "{0}",
            "The model may hold what TensorRT cannot build: try --device cuda, and see that GPU memory is free.",
        ),
        (
            r"TensorRT EP (?:failed|could not) (?:to )?deserialize engine[^\n]*",
            "{0}",
            "An engine of another TensorRT or GPU is in the cache: delete ~/.cache/netgauge/tensorrt.",
        ),
        (r"(?:CUDA|CUDNN|CUBLAS|CUFFT) failure \d+: [^;\n]*", "{0}", REQUIREMENTS),
    )
)
_NO_TENSORRT = re.compile(r"Please install TensorRT libraries")


def diagnose(log: str) -> Failure | None:
    """The failure that a log or a message of ONNX Runtime tells of; None where no rule knows it."""
    return _missing(log) or _known(log) or _tensorrt(log)


def _known(log: str) -> Failure | None:
    for pattern, reason, remedy in _RULES:
        if found := pattern.search(log):
            groups = (group or "" for group in found.groups())
            return Failure(" ".join(reason.format(found.group(0).strip(), *groups).split()), remedy)
    return None


def _missing(log: str) -> Failure | None:
    """The library that was not found, and the others of its kind that were not found either."""
    library = next((found.group(1) for pattern in _MISSING if (found := pattern.search(log))), None)
    if library is None:
        return None
    remedy = _remedy(library)
    others = [name for name in _ALSO_MISSING.findall(log) if name != library and _remedy(name) == remedy]
    listed = ", ".join([library, *dict.fromkeys(others)])
    reason = f"{listed} {'are' if others else 'is'} missing"
    built = _BUILT_FOR.search(log)
    if built and remedy == _PIP:
        reason += f" (this ONNX Runtime needs CUDA {built.group(2)} and cuDNN {built.group(1)})"
    version = re.search(r"\.so\.(\d+)|_(\d+)\.dll", library)
    number = next((g for g in version.groups() if g), "10") if version else "10"
    return Failure(reason, remedy.format(version=number, cuda=_cuda_major(log)), library)


def _cuda_major(log: str) -> str:
    built = _BUILT_FOR.search(log)
    other = re.search(r"lib(?:cublas|cudart)\.so\.(\d+)", log)
    return built.group(2) if built else other.group(1) if other else "13"


def _tensorrt(log: str) -> Failure | None:
    if not _NO_TENSORRT.search(log):
        return None
    return Failure("TensorRT's libraries are not found", _TENSORRT.format(version=10, cuda=_cuda_major(log)))


def _remedy(library: str) -> str:
    stem = library.lower().rpartition("/")[2].removeprefix("lib")
    return next((text for starts, text in _LIBRARIES.items() if stem.startswith(starts)), REQUIREMENTS)
