"""What a quantization gave: plain frozen records that every report is a view of."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from profiler.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from quant.latency.per_layer import LayerComparison
    from quant.latency.result import LatencyComparison
    from quant.metrics import Comparison, MetricResult

SCHEMA = "netgauge.quantization/1"
COMPARISON_SCHEMA = "netgauge.comparison/1"
_NO_LAYERS: dict[str, Any] = {"layers": None, "ceilings": None, "coverage": None}


def beside(int8: Path, kind: str) -> Path:
    """Where a model of another kind is written: `NAME.float.onnx` beside `NAME.int8.onnx`."""
    return int8.with_name(f"{int8.name.removesuffix('.onnx').removesuffix('.int8')}.{kind}.onnx")


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline.

    Attributes:
        name: what it was.
        did: what it did, in a sentence.
        kept: whether its result was kept.
        seconds: how long it took.
        details: its figures.
    """

    name: str
    did: str
    kept: bool
    seconds: float
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NodeRow:
    """One node of the float graph and what became of it.

    Attributes:
        name: in the float graph.
        op: operator.
        layer: path of the module it comes from, "" where that is not known.
        kernel: "int8" or "float".
        reason: why.
        time_share: part of the int8 model's time, None where it could not be told apart.
        error_share: part of the error, None where it was not measured.
    """

    name: str
    op: str
    layer: str
    kernel: str
    reason: str
    time_share: float | None = None
    error_share: float | None = None


@dataclass(frozen=True)
class Float16:
    """The float model in float16, beside the int8 one.

    Attributes:
        comparison: its metrics against float's.
        latency: timed side by side with float.
        file_bytes: size of the file.
        kept: names of the nodes that stay float32.
        model: the file.
        output: where it was written, if it was.
    """

    comparison: Comparison = field(repr=False)
    latency: LatencyComparison = field(repr=False)
    file_bytes: int
    kept: tuple[str, ...]
    model: bytes = field(repr=False)
    output: Path | None = None

    def written(self, int8: Path | None) -> Float16:
        """The same with its file written beside the int8 one, as `NAME.float16.onnx`; as it is where there is none."""
        return self if int8 is None else replace(self, output=write_whole(beside(int8, "float16"), self.model))

    def to_dict(self) -> dict[str, Any]:
        """The `float16` object of `netgauge.quantization/1`."""
        names = ("float", "float16")
        return {
            **self.comparison.to_dict(names=names),
            "latency": self.latency.to_dict(names),
            "file_bytes": self.file_bytes,
            "kept_float32": list(self.kept),
        }


@dataclass(frozen=True)
class Quantization:
    """The result of `quantize`.

    Attributes:
        metrics: name -> float and int8 value, drop, interval, verdict.
        comparison: the evaluation behind them: confusion matrices, samples, what was guessed.
        latency: both models timed side by side.
        nodes: one row per node of the float graph.
        file_bytes: "float" and "int8" -> size of the file.
        stages: what each step did and whether it was kept.
        placement: the name of the plan that was chosen; "float" where int8 does not pay on this machine.
        budget: whether the drop stayed inside `max_drop`; None where none was given.
        output: where the int8 model was written, if it was.
        reference: where the float model was written, if it was.
        model: the int8 model.
        notes: what was assumed, in sentences.
        environment: machine and versions.
        layers: time per layer of both models; None where it was not asked for.
        float16: the float model in float16, where it was asked for and can be had.
    """

    metrics: Mapping[str, MetricResult]
    comparison: Comparison = field(repr=False)
    latency: LatencyComparison = field(repr=False)
    nodes: tuple[NodeRow, ...] = field(repr=False)
    file_bytes: Mapping[str, int]
    stages: tuple[Stage, ...] = field(repr=False)
    placement: str
    budget: bool | None
    output: Path | None
    reference: Path | None
    model: bytes = field(repr=False)
    notes: tuple[str, ...]
    environment: Mapping[str, Any] = field(repr=False)
    layers: LayerComparison | None = field(default=None, repr=False)
    float16: Float16 | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON, by the schema `netgauge.quantization/1`."""
        return {
            "schema": SCHEMA,
            **self.comparison.to_dict(),
            "latency": self.latency.to_dict(),
            **(self.layers.to_dict() if self.layers else _NO_LAYERS),
            "nodes": [asdict(row) for row in self.nodes],
            "file_bytes": dict(self.file_bytes),
            "placement": self.placement,
            "budget": self.budget,
            "stages": [asdict(stage) for stage in self.stages],
            "notes": list(self.notes),
            "float16": self.float16.to_dict() if self.float16 else None,
            "environment": dict(self.environment),
        }


@dataclass(frozen=True)
class ModelComparison:
    """Two models side by side: accuracy where there were labelled samples, latency, and layers where asked for."""

    comparison: Comparison | None
    latency: LatencyComparison
    environment: Mapping[str, Any] = field(repr=False)
    layers: LayerComparison | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """As JSON, by the schema `netgauge.comparison/1`."""
        return {
            "schema": COMPARISON_SCHEMA,
            **(self.comparison.to_dict(names=("a", "b")) if self.comparison else {"metrics": {}}),
            "latency": self.latency.to_dict(names=("a", "b")),
            **(self.layers.to_dict(names=("a", "b")) if self.layers else _NO_LAYERS),
            "environment": dict(self.environment),
        }
