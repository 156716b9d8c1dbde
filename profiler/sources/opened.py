"""What opening a target gives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
        inputs: from sizes by name, which may be none, to what the module is called with, where the file or a
            configuration says so.
        dims: names of sizes that are free, with those taken where none is given: `--dim NAME=N` sets others.
    """

    target: str
    kind: str
    module: nn.Module | None = None
    tensors: tuple[TensorEntry, ...] = ()
    graph: onnx.ModelProto | None = None
    path: Path | None = None
    notes: tuple[str, ...] = field(default=())
    inputs: "Callable[[Mapping[str, int]], ExampleInputs] | None" = None
    dims: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExampleInputs:
    """What a module is called with.

    Attributes:
        args: by position; tensors, most without storage.
        kwargs: by name.
        note: where they come from, in a sentence.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
