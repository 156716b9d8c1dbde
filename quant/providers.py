"""Which execution providers of ONNX Runtime really load on this machine, and what those that do not are missing.

`onnxruntime.get_available_providers()` lists what was compiled in. Whether the libraries behind a provider can be found
shows only when a session asks for it, and then ONNX Runtime writes the loader's error to its log and uses the CPU. So a
child process runs a convolution on it and its log is read: a provider that crashes takes only the child with it.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

from quant import _runtime_errors
from quant.provider_failures import REQUIREMENTS, diagnose

_SECONDS = 120.0  # TensorRT's first engine can take a minute

_CHILD = """
import contextlib, sys
import numpy, onnxruntime
with contextlib.redirect_stdout(sys.stderr):
    if sys.argv[1] not in ("CPUExecutionProvider", "AzureExecutionProvider"):
        onnxruntime.preload_dlls()
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = onnxruntime.InferenceSession(
        sys.stdin.buffer.read(), options, providers=[sys.argv[1]], enable_fallback=0
    )
    session.run(None, {"x": numpy.ones((1, 1, 4, 4), numpy.float32)})
    assigned = getattr(session, "get_provider_graph_assignment_info", list)()
print(*session.get_providers())
print(*(part.ep_name for part in assigned))
"""

# Those that must run the convolution themselves: without cuDNN, CUDA loads and leaves it to the CPU.
_MUST_RUN = ("CUDAExecutionProvider", "TensorrtExecutionProvider")


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
        return ProviderState(name, loads=False, reason=f"no answer within {_SECONDS:.0f} s", remedy=REQUIREMENTS)
    log = done.stderr.decode(errors="replace")
    loaded, _, ran = done.stdout.decode().partition("\n")
    if done.returncode or name not in loaded.split():
        return _diagnosed(name, log, done.returncode)
    if name in _MUST_RUN and ran.split() and name not in ran.split():
        return _diagnosed(name, log or _LEFT_OUT, 0)
    return ProviderState(name, loads=True)


_LEFT_OUT = "it leaves a convolution to the CPU"


def _diagnosed(name: str, log: str, returncode: int) -> ProviderState:
    if failure := diagnose(log):
        return ProviderState(
            name, loads=False, reason=failure.reason, missing_library=failure.library, remedy=failure.remedy
        )
    if returncode < 0:
        return ProviderState(name, loads=False, reason=f"it crashes (signal {-returncode})", remedy=REQUIREMENTS)
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    reason = _runtime_errors.one_line(lines[-1]) if lines else "it did not say why"
    return ProviderState(name, loads=False, reason=reason, remedy=REQUIREMENTS)


def _tiny_model() -> bytes:
    """A convolution of an input: with a constant one ONNX Runtime would compute it beforehand, on the CPU."""
    from onnx import TensorProto, helper

    weight = helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 3, 3], [1.0] * 9)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, size, size]) for name, size in _SIZES]
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "tiny", values[:1], values[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


_SIZES = (("x", 4), ("y", 2))
