"""`layer_times()` of one model, and of two that take turns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from profiler.errors import DataError, UsageError
from profiler.progress import Progress, silent
from quant.latency.inputs import random_inputs
from quant.latency.layers import layers_of
from quant.latency.nodes import SESSIONS, NodeTimer
from quant.latency.recorder import recording_cost
from quant.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx

    from profiler.sources import Limits
    from quant.latency.layers import LayerTime, LayerTimes
    from quant.latency.roofline import Ceilings

    Model = str | Path | bytes
    Feeds = Sequence[Mapping[str, np.ndarray]]

SECONDS = 2.0
_STAGE = "timing the layers"


@dataclass(frozen=True, eq=False)
class LayerComparison:
    """The layers of two models, measured in turns; those of the same name stand side by side."""

    a: LayerTimes
    b: LayerTimes

    @property
    def rows(self) -> list[tuple[str, LayerTime | None, LayerTime | None]]:
        """Layer, its time in the first model, its time in the second; None where a model has no such layer."""
        first, second = ({row.layer: row for row in times.layers} for times in (self.a, self.b))
        return [(name, first.get(name), second.get(name)) for name in {**first, **second}]

    def to_dict(self, names: tuple[str, str] = ("float", "int8")) -> dict[str, Any]:
        """The objects `layers`, `ceilings` and `coverage` of the report schemas.

        Args:
            names: what the two models are called: ("float", "int8") or ("a", "b").
        """
        first, second = names
        layers = [
            {
                "layer": layer,
                "macs": next((row.macs for row in (a, b) if row is not None), None),
                f"{first}_ms": a.ms if a else None,
                f"{second}_ms": b.ms if b else None,
                first: a.to_dict() if a else None,
                second: b.to_dict() if b else None,
            }
            for layer, a, b in self.rows
        ]
        return {
            "layers": layers,
            "ceilings": self.a.ceilings.to_dict() if self.a.ceilings else None,
            "coverage": {first: self.a.summary(), second: self.b.summary()},
        }


def layer_times(
    model: Model,
    inputs: Feeds | None = None,
    *,
    batch: int | None = None,
    threads: int = 1,
    seed: int = 0,
    seconds: float = SECONDS,
    sessions: int = SESSIONS,
    ceilings: bool = True,
    trust: bool = False,
    limits: Limits | None = None,
    progress: Progress = silent,
) -> LayerTimes:
    """Time every layer of an ONNX model on the CPU, beside what the machine could do at most.

    Args:
        model: an ONNX file, or the bytes of one.
        inputs: what to run it on, one mapping from input name to array per run, used in turn. Random ones if None.
        batch: put so many inputs into one run; None takes them as they are.
        threads: that one operator may use.
        seed: of random inputs.
        seconds: how long to record for, without opening sessions and reading what they recorded.
        sessions: how often to open the model; figures of several differ by some per cent.
        ceilings: whether to measure the machine's ceilings as well (once per process, some seconds).
        trust: take files of tensors that have several names.
        limits: how much a file may ask for.
        progress: called with the stage and the part of it that is done.

    Raises:
        UsageError: seconds, sessions or batch that are no positive number, or a batch that the model cannot take.
        DataError: there are no inputs, or they do not fit.
        ModelError: the model does not load or run.
        RefusedError: the model would read what does not belong to it, or asks for too much.
    """
    checks: dict[str, Any] = {"trust": trust, "limits": limits}
    feeds = _feeds(model, inputs, batch, threads, seed, checks)
    models = [(model, feeds)]
    (found,) = _measured(models, threads, seconds, checks, measure=ceilings, progress=progress, sessions=sessions)
    return found


def compare_layers(
    a: Model,
    b: Model,
    inputs: Feeds | None = None,
    *,
    threads: int = 1,
    seed: int = 0,
    seconds: float = SECONDS,
    trust: bool = False,
    limits: Limits | None = None,
    progress: Progress = silent,
) -> LayerComparison:
    """Time the layers of two ONNX models in turns; arguments and errors as of `layer_times`, `seconds` for each."""
    checks: dict[str, Any] = {"trust": trust, "limits": limits}
    feeds = _feeds(a, inputs, None, threads, seed, checks)
    names = [open_session(m, threads=threads, **checks).input_names for m in (a, b)]
    theirs = feeds
    if set(names[0]) != set(names[1]) and len(names[0]) == len(names[1]):
        theirs = [{new: feed[old] for old, new in zip(*names, strict=True)} for feed in feeds]
    first, second = _measured([(a, feeds), (b, theirs)], threads, seconds, checks, measure=True, progress=progress)
    return LayerComparison(first, second)


def _measured(
    models: Sequence[tuple[Model, Feeds]],
    threads: int,
    seconds: float,
    checks: dict[str, Any],
    *,
    measure: bool,
    progress: Progress,
    sessions: int = SESSIONS,
) -> list[LayerTimes]:
    if not 0 < seconds < float("inf"):
        raise UsageError(f"the time to record layers for must be positive seconds, got {seconds}")
    if sessions < 1:
        raise UsageError(f"layers are timed in one session at least, got {sessions}")
    progress(_STAGE, 0.0)
    graphs = [_graph(model, checks) for model, _ in models]
    timers = [NodeTimer(model, feeds, threads=threads, **checks) for model, feeds in models]
    for number in range(sessions):
        cost = recording_cost(threads)
        for timer in timers:
            timer.round(seconds / sessions, cost)
        progress(_STAGE, (number + 1) / (sessions + 1))
    roof: Ceilings | None = None
    if measure:
        from quant.latency.ceilings import ceilings

        roof = ceilings(threads)
    progress(_STAGE, 1.0)
    return [
        layers_of(graph, timer.result(), feeds[0], ceilings=roof, threads=threads)
        for graph, timer, (_, feeds) in zip(graphs, timers, models, strict=True)
    ]


def _feeds(
    model: Model, inputs: Feeds | None, batch: int | None, threads: int, seed: int, checks: dict[str, Any]
) -> Feeds:
    session = open_session(model, threads=threads, **checks)
    feeds = random_inputs(session, seed=seed) if inputs is None else [dict(feed) for feed in inputs]
    if not feeds:
        raise DataError("there are no inputs to time the layers on")
    if batch is None:
        return feeds
    if batch < 1:
        raise UsageError(f"a batch holds at least one input, got {batch}")
    for name, shape in zip(session.input_names, session.input_shapes, strict=True):
        if not shape or isinstance(shape[0], int):
            raise UsageError(f"{session.name}: input {name!r} has a fixed size, so batch cannot be set")
    taken = [feeds[n % len(feeds)] for n in range(batch)]
    return [{name: np.concatenate([feed[name] for feed in taken])[:batch] for name in feeds[0]}]


def _graph(model: Model, checks: dict[str, Any]) -> onnx.ModelProto:
    from profiler.sources import OPENERS, _loaders
    from profiler.sources.limits import DEFAULT

    if isinstance(model, bytes):
        return _loaders.parse_onnx_bytes(model, "the bytes")
    path = Path(model).expanduser()
    opened = OPENERS["onnx"](path, trust=checks["trust"], limits=checks["limits"] or DEFAULT)
    if opened.graph is None:  # open_session has refused what is no ONNX graph
        raise UsageError(f"{path}: holds no graph")
    return opened.graph
