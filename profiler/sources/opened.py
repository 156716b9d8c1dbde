"""What opening a target gives."""

from dataclasses import dataclass, field
from pathlib import Path

import onnx
from torch import nn

from profiler.sources.checkpoint import TensorEntry


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A model, or as much of one as the target holds.

    Attributes:
        target: what the user named.
        kind: "module", "weights" (tensors without an architecture) or "onnx".
        module: the network, for "module"; in evaluation mode.
        tensors: what is stored, for "weights" and "onnx".
        graph: the ONNX graph without its external data, for "onnx".
        path: the file, where the target is one.
        notes: what was assumed or left out, in sentences.
    """

    target: str
    kind: str
    module: nn.Module | None = None
    tensors: tuple[TensorEntry, ...] = ()
    graph: onnx.ModelProto | None = None
    path: Path | None = None
    notes: tuple[str, ...] = field(default=())
