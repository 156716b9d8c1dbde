"""Which execution providers of ONNX Runtime really load on this machine, and what those that do not are missing.

`onnxruntime.get_available_providers()` lists what was compiled in. Whether the libraries behind a provider can be found
shows only when a session asks for it, and then ONNX Runtime writes the loader's error to its log and uses the CPU. So a
child process opens a tiny session and its log is read: a provider that crashes takes only the child with it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass

_SECONDS = 120.0  # TensorRT's first engine can take a minute

_CHILD = """
import contextlib, sys
import onnxruntime
with contextlib.redirect_stdout(sys.stderr):
    if sys.argv[1] not in ("CPUExecutionProvider", "AzureExecutionProvider"):
        onnxruntime.preload_dlls()
    session = onnxruntime.InferenceSession(sys.stdin.buffer.read(), providers=[sys.argv[1]], enable_fallback=0)
    session.run(None, {})
print(*session.get_providers())
"""

# How ONNX Runtime's log names the library that the loader did not find: on Linux and macOS, then on Windows.
_MISSING_LIBRARY = (
    re.compile(r"with error: (?:dlopen\(.*?\): Library not loaded: )?(\S+?\.(?:so|dylib)\S*?):? "),
    re.compile(r'depends on "([^"]+)" which is missing'),
)

# Start of a library's name, without "lib" -> what provides it.
_REMEDIES = {
    (
        "cuda.",
        "nvcuda.",
    ): "It comes with the NVIDIA driver: install the driver, and in a container start it with GPU access.",
    ("nvinfer", "nvonnxparser"): "It is part of TensorRT 10: install it and put its folder on the loader's path.",
    ("cublas", "cudart", "cudnn", "cufft", "curand", "nvrtc"): (
        "Install NVIDIA's libraries: pip install 'onnxruntime-gpu[cuda,cudnn]'."
    ),
}
_REQUIREMENTS = "See https://onnxruntime.ai/docs/execution-providers for what this provider needs."


@dataclass(frozen=True)
class ProviderState:
    """Whether an execution provider works.

    Attributes:
        name: ONNX Runtime's name of it.
        loads: whether a session ran on it.
        reason: why not; None where it loads.
        missing_library: the library that the loader did not find, where that is the reason.
        remedy: what to do about it; None where it loads.
    """

    name: str
    loads: bool
    reason: str | None = None
    missing_library: str | None = None
    remedy: str | None = None


def probe(name: str) -> ProviderState:
    """Open and run a tiny session on the provider in a child process."""
    command = [sys.executable, "-P", "-W", "ignore", "-c", _CHILD, name]
    try:
        # The command is this interpreter with the constant program above; `name` is an argument to it.
        done = subprocess.run(command, input=_tiny_model(), capture_output=True, timeout=_SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return ProviderState(name, loads=False, reason=f"no answer within {_SECONDS:.0f} s", remedy=_REQUIREMENTS)
    if done.returncode == 0 and name in done.stdout.decode().split():
        return ProviderState(name, loads=True)
    return _diagnosed(name, done.stderr.decode(errors="replace"), done.returncode)


def _diagnosed(name: str, log: str, returncode: int) -> ProviderState:
    for pattern in _MISSING_LIBRARY:
        if found := pattern.search(log):
            library = found.group(1)
            return ProviderState(
                name, loads=False, reason=f"{library} is missing", missing_library=library, remedy=_remedy(library)
            )
    if returncode < 0:
        return ProviderState(name, loads=False, reason=f"it crashes (signal {-returncode})", remedy=_REQUIREMENTS)
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return ProviderState(name, loads=False, reason=lines[-1] if lines else "it did not say why", remedy=_REQUIREMENTS)


def _remedy(library: str) -> str:
    stem = library.lower().removeprefix("lib")
    return next((text for starts, text in _REMEDIES.items() if stem.startswith(starts)), _REQUIREMENTS)


def _tiny_model() -> bytes:
    """A model without inputs, one Relu of a constant: the least a provider can be asked to run."""
    from onnx import TensorProto, helper

    constant = helper.make_tensor("x", TensorProto.FLOAT, [1], [1.0])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "tiny", [], [output], [constant])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())
