"""All that is measured of two models' speed for a report: timing side by side, cold start, memory, batch sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from quant.latency.affinity import pinned
from quant.latency.compare import compare_latency
from quant.latency.fresh import SECONDS, fresh_starts
from quant.latency.inputs import random_inputs
from quant.latency.sweep import sweep
from quant.runtime import open_session

if TYPE_CHECKING:
    from pathlib import Path

    from profiler.sources import Limits
    from quant.latency.compare import Inputs
    from quant.latency.pairs import Progress
    from quant.latency.result import LatencyComparison


@dataclass(frozen=True)
class Timing:
    """What is measured beside the latency itself.

    Attributes:
        cold: whether to start both models in fresh processes, for cold start and memory; some seconds.
        batches: further batch sizes; they share the time limit with the timing.
        affinity: the cores to run on; None leaves that to the system.
        samples: whether the JSON report holds every sample.
    """

    cold: bool = True
    batches: tuple[int, ...] = ()
    affinity: tuple[int, ...] | None = None
    samples: bool = False


def time_models(
    model_a: str | Path | bytes,
    model_b: str | Path | bytes,
    timing: Timing,
    *,
    inputs: Inputs | None = None,
    device: str = "cpu",
    threads: int = 1,
    seed: int = 0,
    seconds: float,
    trust: bool = False,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> LatencyComparison:
    """Measure two models; every verdict speaks of the second.

    Args:
        model_a: a file or its bytes.
        model_b: another.
        timing: what to measure beside the latency.
        inputs: single samples to run on; random ones if None.
        device: where both run.
        threads: that one operator may use.
        seed: of random inputs, of turns and of the bootstrap.
        seconds: most time for the timing, batch sizes included; cold starts are apart.
        trust: take files of tensors that have several names.
        limits: how much a file may ask for.
        progress: called now and then with the stage and the part of it that is done.

    Raises:
        as `compare_latency`, `sweep` and `fresh_starts`.
    """
    share = seconds / (1 + len(timing.batches))
    opening: dict[str, Any] = {"device": device, "threads": threads, "trust": trust, "limits": limits}
    timed: dict[str, Any] = {**opening, "inputs": inputs, "seed": seed, "progress": progress}
    with pinned(timing.affinity):
        found = compare_latency(model_a, model_b, seconds=share, **timed)
        if timing.batches:
            rows = sweep(model_a, model_b, timing.batches, seconds=seconds - share, **timed)
            found = replace(found, batches=rows)
        if timing.cold:
            first = open_session(model_a, **opening)
            feed = inputs[0] if inputs else random_inputs(first, count=1, seed=seed)[0]
            arrays = [feed[name] for name in first.input_names]
            found = replace(
                found,
                fresh=fresh_starts(
                    (model_a, model_b), arrays, seconds=min(seconds, SECONDS), progress=progress, **opening
                ),
            )
    settings = {**found.settings, "affinity_asked": timing.affinity is not None}
    return replace(found, settings=settings, with_samples=timing.samples)
