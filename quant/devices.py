"""The devices a session can run on: their providers, where their tensors lie, and how TensorRT keeps its engines.

TensorRT builds an engine of a model, which takes from seconds to minutes, and ONNX Runtime can keep it in a folder. It
names an engine after the graph's structure, not its weights: two files that differ in weights or scales alone would
share one. So every file has a folder of its own, called after its content. Engines are native code; the folder is the
user's alone.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Device -> the provider that must load for it, then those that may take the nodes it has no kernel for.
DEVICES = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}
# Device -> ONNX Runtime's name of the memory that inputs and outputs are bound to.
MEMORY = {"cpu": "cpu", "cuda": "cuda", "tensorrt": "cuda"}

_FLOAT16 = 10  # onnx.TensorProto.FLOAT16
_QDQ = "QuantizeLinear"


def cache_home() -> Path:
    """The user's cache folder for engines; `NETGAUGE_CACHE` names another."""
    chosen = os.environ.get("NETGAUGE_CACHE")
    base = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "netgauge"
    return base / "tensorrt"


@dataclass
class Engine:
    """TensorRT's engine of one model: where it is kept and how long it took to build.

    Attributes:
        folder: where engines of this file are kept.
        known: names of the engines that were there before.
        kept: whether a later session will find the folder.
        opening_seconds: the time that opening the session took; a model with fixed sizes is built then.
        first_run_seconds: the time of the first run; a model with open sizes is built then.
    """

    folder: Path
    known: frozenset[str] = frozenset()
    kept: bool = True
    opening_seconds: float = 0.0
    first_run_seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """For reports; `built` says how many engines were built in this session, apart from those that were found."""
        return {
            "folder": str(self.folder),
            "built": len(_engines(self.folder) - self.known),
            "opening_seconds": self.opening_seconds,
            "first_run_seconds": self.first_run_seconds,
        }


@dataclass(frozen=True, eq=False)
class FirstRunTimed:
    """A session that takes down how long its first run took; all else is the session's own."""

    session: Any
    engine: Engine = field(repr=False)

    def run(self, names: Sequence[str] | None, inputs: Mapping[str, Any], options: Any = None) -> list[Any]:  # noqa: ANN401  # ONNX Runtime's
        """Run, and time the first time."""
        began = time.perf_counter()
        outputs: list[Any] = self.session.run(names, inputs, options)
        if self.engine.first_run_seconds is None:
            self.engine.first_run_seconds = time.perf_counter() - began
        return outputs

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the session has
        return getattr(self.session, name)


def engine_for(source: str | bytes, version: str) -> Engine:
    """Where the engines of a model are kept: a folder for its content, or one that will not be found again.

    Args:
        source: the bytes of an ONNX file, or the path of one.
        version: of ONNX Runtime; another one builds anew.
    """
    content = source if isinstance(source, bytes) else Path(source).read_bytes()
    if b"location" in content:  # tensors in other files: the content of this one does not tell all
        return Engine(_passing(), kept=False)
    folder = cache_home() / hashlib.sha256(version.encode() + content).hexdigest()[:32]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:  # a home that cannot be written to
        return Engine(_passing(), kept=False)
    return Engine(folder, _engines(folder))


def _passing() -> Path:
    return Path(tempfile.mkdtemp(prefix="netgauge-engine-"))


def provider_options(provider: str, source: str | bytes, engine: Engine | None) -> dict[str, str]:
    """What a provider is asked for beyond its defaults.

    A file in float16 or with quantized tensors is run as such: TensorRT takes either only where it is told to.
    """
    if provider != "TensorrtExecutionProvider" or engine is None:
        return {}
    kinds, operators = _contents(source)
    return {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(engine.folder),
        "trt_fp16_enable": str(_FLOAT16 in kinds),
        "trt_int8_enable": str(_QDQ in operators),
    }


def _contents(source: str | bytes) -> tuple[set[int], set[str]]:
    """Element types of a model's constants, and its operators."""
    from profiler.sources import _loaders

    content = source if isinstance(source, bytes) else Path(source).read_bytes()
    graph = _loaders.parse_onnx_bytes(content, "the model").graph
    return {tensor.data_type for tensor in graph.initializer}, {node.op_type for node in graph.node}


def _engines(folder: Path) -> frozenset[str]:
    return frozenset(file.name for file in folder.glob("*.engine"))
