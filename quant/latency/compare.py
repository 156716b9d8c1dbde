"""Two ONNX models timed against each other in ONNX Runtime, on the same inputs and by the interleaved protocol."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import DataError, ModelError, NetgaugeError, UsageError
from quant import machine
from quant.latency import on_device
from quant.latency.inputs import random_inputs
from quant.latency.protocol import Protocol, compare
from quant.runtime import RuntimeSession, open_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from quant.latency.protocol import Progress
    from quant.latency.result import LatencyComparison

    Model = str | Path | bytes | RuntimeSession
    Inputs = Sequence[Mapping[str, np.ndarray]]
    _Fed = tuple[RuntimeSession, Inputs]

MOST_INPUTS = 32  # more would only make the check before the measurement longer
_RANDOM_HINT = "\nThe inputs were random, with open dimensions taken as 1: give inputs that fit."
_SAME_SETTINGS = ("device", "threads", "spinning")  # what two sessions must share to be compared


def compare_latency(
    model_a: Model,
    model_b: Model,
    *,
    inputs: Inputs | None = None,
    device: str = "cpu",
    threads: int = 1,
    seed: int = 0,
    seconds: float = Protocol.max_seconds,
    progress: Progress | None = None,
) -> LatencyComparison:
    """Time two ONNX models side by side.

    Args:
        model_a: the first model: an ONNX file, its bytes, or an open session (which keeps its device and threads).
        model_b: the second model, of which the verdict speaks.
        inputs: what to run them on, one mapping from input name to array per run; the first 32 are used in turn.
            Random ones if None.
        device: "cpu", "cuda" or "tensorrt".
        threads: that one operator may use.
        seed: of random inputs and of the bootstrap.
        seconds: the most time to spend on measuring, warm-up apart.
        progress: called now and then with the stage and the part of it that is done.

    Raises:
        UsageError: two open sessions with different devices or threads, or a session that records a profile.
        DataError: there are no inputs, or they do not fit a model.
        ModelError: a model does not load or run, or only one of the two gives finite outputs.
    """
    first, second = (_session(model, device, threads) for model in (model_a, model_b))
    _check_alike(first, second)
    feeds = _feeds(first, inputs, seed)
    theirs = [_renamed(feed, first, second) for feed in feeds]
    warnings = [
        *machine.describe().warnings(),
        *_check_outputs((first, feeds), (second, theirs), given=inputs is not None),
        *on_device.warnings((("first model", first), ("second model", second))),
    ]
    run_first, run_second = on_device.runner(first, feeds), on_device.runner(second, theirs)
    measured = compare(
        run_first,
        run_second,
        settings=Protocol.lasting(seconds),
        seed=seed,
        progress=progress,
    )
    settings = {
        **first.settings,
        "inputs": len(feeds),
        "random_inputs": inputs is None,
        "seed": seed,
        **on_device.figures(((first, run_first), (second, run_second))),
    }
    return replace(measured, warnings=(*warnings, *measured.warnings), settings=settings)


def _session(model: Model, device: str, threads: int) -> RuntimeSession:
    return model if isinstance(model, RuntimeSession) else open_session(model, device=device, threads=threads)


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


def _check_outputs(a: _Fed, b: _Fed, *, given: bool) -> list[str]:
    """Run both models once on every input; a model that gives NaN where the other does not is not worth timing."""
    (first, ours), (second, theirs) = a, b
    for number, feeds in enumerate(zip(ours, theirs, strict=True)):
        finite = []
        for session, feed in zip((first, second), feeds, strict=True):
            try:
                outputs = session.run(feed)
            except NetgaugeError as error:
                hint = _RANDOM_HINT if session is first and not given else ""
                raise type(error)(f"{error}{hint}") from error
            finite.append(all(np.isfinite(out).all() for out in outputs if _is_float(out)))
        if finite[0] != finite[1]:
            culprit = first if finite[1] else second
            raise ModelError(
                f"{culprit.name}: gives infinite or undefined outputs on input {number}; the other does not"
            )
        if not all(finite):
            return [f"both models give infinite or undefined outputs, first on input {number}"]
    return []


def _is_float(output: object) -> bool:
    return isinstance(output, np.ndarray) and np.issubdtype(output.dtype, np.floating)  # sequences and maps exist too
