"""Two ONNX models timed against each other in ONNX Runtime, on the same inputs and by the interleaved protocol."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from profiler.environment import available_memory
from profiler.errors import DataError, UsageError
from quant import machine
from quant.latency import on_device
from quant.latency.affinity import allowed_cores, pinned
from quant.latency.closeness import check_outputs
from quant.latency.conditions import watched
from quant.latency.inputs import random_inputs
from quant.latency.protocol import compare
from quant.latency.settings import Protocol
from quant.runtime import RuntimeSession, open_session

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from profiler.sources import Limits
    from quant.latency.pairs import Progress
    from quant.latency.result import LatencyComparison

    Model = str | Path | bytes | RuntimeSession
    Inputs = Sequence[Mapping[str, np.ndarray]]

MOST_INPUTS = 32  # more would only make the check before the measurement longer
SESSIONS = 6  # of each model: what is left of their differences is well below 1 %, and 100 pairs give each 16
_RANDOM_HINT = "\nThe inputs were random, with open dimensions taken as 1: give inputs that fit."
_SAME_SETTINGS = ("device", "threads", "spinning")  # what two sessions must share to be compared
_OPENING_SECONDS = 3.0  # most time for further sessions: an engine of TensorRT takes minutes
_MEMORY_SHARE = 0.25  # of the free memory, for further sessions
_UNKNOWN_MEMORY = 4 << 30


def compare_latency(
    model_a: Model,
    model_b: Model,
    *,
    inputs: Inputs | None = None,
    device: str = "cpu",
    threads: int = 1,
    seed: int = 0,
    seconds: float = Protocol.max_seconds,
    affinity: Collection[int] | None = None,
    trust: bool = False,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> LatencyComparison:
    """Time two ONNX models side by side.

    Args:
        model_a: the first model: an ONNX file, its bytes, or an open session (which keeps its device and threads). A
            file or bytes are better: they are loaded several times, which takes luck in memory out of the result.
        model_b: the second model, of which the verdict speaks.
        inputs: what to run them on, one mapping from input name to array per run; the first 32 are used in turn.
            Random ones if None.
        device: "cpu", "cuda" or "tensorrt".
        threads: that one operator may use.
        seed: of random inputs and of the bootstrap.
        seconds: the most time to spend on measuring, warm-up apart.
        affinity: the cores to run on meanwhile; None leaves that to the system.
        trust: take files of tensors that have several names.
        limits: how much a file may ask for.
        progress: called now and then with the stage and the part of it that is done.

    Raises:
        UsageError: two open sessions with different devices or threads, a session that records a profile, or cores that
            this process may not use.
        DataError: there are no inputs, or they do not fit a model.
        ModelError: a model does not load or run, or only one of the two gives finite outputs.
        UnavailableError: the system cannot keep a process on chosen cores.
    """
    settings = Protocol.lasting(seconds)
    with pinned(affinity):
        sessions = _opened(model_a, model_b, _Opening(device, threads, trust, limits))
        first, second = sessions[0]
        _check_alike(first, second)
        feeds = _feeds(first, inputs, seed)
        theirs = [_renamed(feed, first, second) for feed in feeds]
        warnings = machine.describe().warnings()
        hint = _RANDOM_HINT if inputs is None else ""
        closeness = check_outputs(first, second, feeds, theirs, hint=hint)
        warnings += on_device.warnings((("first model", first), ("second model", second)))
        runs_a = [on_device.runner(session, feeds) for session, _ in sessions]
        runs_b = [on_device.runner(session, theirs) for _, session in sessions]
        with watched() as seen:
            measured = compare(runs_a, runs_b, settings=settings, seed=seed, progress=progress)
        cores = allowed_cores()
        elsewhere = on_device.figures(((first, runs_a[0]), (second, runs_b[0])))
    return replace(
        measured,
        warnings=(*warnings, *closeness.warnings(), *seen[0].warnings(), *measured.warnings),
        settings={
            **first.settings,
            "inputs": len(feeds),
            "random_inputs": inputs is None,
            "seed": seed,
            "affinity": list(cores) if cores is not None else None,
            "affinity_asked": affinity is not None,
            **elsewhere,
        },
        closeness=closeness,
        conditions=seen[0],
    )


@dataclass(frozen=True)
class _Opening:
    device: str
    threads: int
    trust: bool
    limits: Limits | None

    def session(self, model: Model) -> RuntimeSession:
        if isinstance(model, RuntimeSession):
            return model
        return open_session(model, device=self.device, threads=self.threads, trust=self.trust, limits=self.limits)


def _opened(model_a: Model, model_b: Model, opening: _Opening) -> list[tuple[RuntimeSession, RuntimeSession]]:
    """Sessions of both models, pair by pair; one pair where a session is given, or another would take too much."""
    began, held = time.perf_counter(), machine.resident_bytes()
    sessions = [(opening.session(model_a), opening.session(model_b))]
    if isinstance(model_a, RuntimeSession) or isinstance(model_b, RuntimeSession):
        return sessions
    taken = time.perf_counter() - began
    grown = max(0, (machine.resident_bytes() or 0) - (held or 0))
    room = _MEMORY_SHARE * (available_memory() or _UNKNOWN_MEMORY)
    more = min(SESSIONS - 1, int(_OPENING_SECONDS / max(taken, 1e-3)), int(room / max(grown, 1 << 20)))
    for number in range(1, more + 1):
        # Where memory is handed out in order, neither model may always come first.
        if number.bit_count() % 2:
            b = opening.session(model_b)
            sessions.append((opening.session(model_a), b))
        else:
            a = opening.session(model_a)
            sessions.append((a, opening.session(model_b)))
    return sessions


def _check_alike(first: RuntimeSession, second: RuntimeSession) -> None:
    for key in _SAME_SETTINGS:
        if first.settings[key] != second.settings[key]:
            raise UsageError(
                f"the sessions cannot be compared: {key} is {first.settings[key]} for {first.name} "
                f"and {second.settings[key]} for {second.name}"
            )
    for session in (first, second):
        if session.settings["profile"]:
            raise UsageError(f"{session.name}: recording a profile slows a session down; open it without to time it")


def _feeds(session: RuntimeSession, inputs: Inputs | None, seed: int) -> list[dict[str, np.ndarray]]:
    feeds = random_inputs(session, seed=seed) if inputs is None else [dict(feed) for feed in inputs[:MOST_INPUTS]]
    if not feeds:
        raise DataError("there are no inputs to time the models on")
    return feeds


def _renamed(feed: Mapping[str, np.ndarray], first: RuntimeSession, second: RuntimeSession) -> Mapping[str, np.ndarray]:
    """The first model's inputs under the second's names, by position: exporters name the same inputs differently."""
    if set(first.input_names) == set(second.input_names) or len(first.input_names) != len(second.input_names):
        return feed
    return {theirs: feed[ours] for ours, theirs in zip(first.input_names, second.input_names, strict=True)}
