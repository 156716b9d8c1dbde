"""The interleaved protocol: how two models are timed so that their difference means something.

1. Each model warms up alone: at least 3 runs and 0.2 s, then until the medians of two successive windows differ by less
   than 2 %, or a cap is reached.
2. The first model is compared with itself, half of its sessions with the other half. What that shows is the noise floor
   of this machine at this moment. No smaller difference is claimed, nor one below a fixed margin.
3. The two models take turns in the order A B, B A or B A, A B, drawn anew for every two pairs, in one process and
   every two pairs in other sessions of them. A sample is as many runs as fill one millisecond, and sample i of either
   model is given the same inputs. Before each comes a pause of about half a millisecond, so that a system with other
   work to do interrupts between samples, and for models whose run is short one run outside the clock, so that the
   processor's caches hold what they would if the model ran alone. Python's garbage collector rests meanwhile.
4. The pairs end when there are 100 of them, three seconds have passed and the interval of the speed-up is within 1 % to
   either side; or when the time limit is reached. The result says which it was. (Stopping on the *width* of an interval
   does not favour either verdict; stopping on the verdict would.)

Taking turns is what makes this work: whatever slows the machine for longer than a pair slows both models alike and
leaves their ratio alone; with one model timed after the other, it is charged to whichever was running.
"""

from __future__ import annotations

import gc
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from quant.latency import statistics
from quant.latency.pairs import Timer, repeats_for
from quant.latency.result import Arm, LatencyComparison, NoiseFloor
from quant.latency.sessions import FEWEST, session_differences, sessions_interval
from quant.latency.settings import Protocol
from quant.latency.warmup import settle, warm_up

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from quant.latency.pairs import Pairs, Pause, Progress
    from quant.latency.warmup import Clock, Run

    Runs = Run | Sequence[Run]

_NOISE_SHARE = 0.4  # of the time limit, for the first model against itself; a quiet machine needs far less


def compare(
    run_a: Runs,
    run_b: Runs,
    *,
    settings: Protocol | None = None,
    seed: int = 0,
    clock: Clock = time.perf_counter_ns,
    pause: Pause = time.sleep,
    progress: Progress | None = None,
) -> LatencyComparison:
    """Time two callables against each other.

    Args:
        run_a: runs the first model once on input number i; the same i must mean the same input for both. Several where
            the model has been loaded several times.
        run_b: runs the second model once; as many as of the first.
        settings: the protocol's numbers.
        seed: of the bootstrap, and of the order of turns.
        clock: returns nanoseconds; given a fake one, the protocol is deterministic.
        pause: waits for so many seconds; a fake one goes with a fake clock.
        progress: called now and then, between samples.

    Returns:
        The speed-up of `run_b` over `run_a` with its interval, and all that is needed to doubt it.
    """
    settings = settings or Protocol()
    runs_a, runs_b = ([runs] if callable(runs) else list(runs) for runs in (run_a, run_b))
    with _garbage_collector_off():
        warmup_a, typical_a = warm_up(runs_a[0], settings, clock)
        warmup_b, typical_b = warm_up(runs_b[0], settings, clock)
        for run in (*runs_a[1:], *runs_b[1:]):
            settle(run, settings)
        repeats = repeats_for(min(typical_a, typical_b), settings.sample_seconds)
        lead_in = max(typical_a, typical_b) < 1e9 * settings.lead_in_seconds
        timer = Timer(settings, repeats, lead_in, seed, clock, pause, progress)
        share = _NOISE_SHARE * settings.max_seconds
        itself = timer.pairs("noise floor", _halves(runs_a), limit=share, shortest=0.0)
        left = settings.max_seconds - itself.seconds
        pairs = timer.pairs("comparison", (runs_a, runs_b), limit=left, shortest=settings.min_seconds)
    margin = settings.margin if len(runs_a) >= FEWEST else settings.single_margin
    floor = _floor(timer, itself, margin)
    differences = session_differences(pairs.a, pairs.b, pairs.session)
    ratio = statistics.speedup(pairs.a, pairs.b)
    interval = _hull(timer.interval(pairs.a, pairs.b), sessions_interval(differences, settings.confidence))
    first = Arm(pairs.started_a, pairs.a, repeats, warmup_a)
    second = Arm(pairs.started_b, pairs.b, repeats, warmup_b)
    return LatencyComparison(
        a=first,
        b=second,
        speedup=ratio,
        interval=interval,
        confidence=settings.confidence,
        verdict=statistics.verdict(ratio, interval, floor=floor.fraction, pairs=len(pairs.a)),
        noise_floor=floor,
        stopped_by=pairs.stopped_by,
        seconds=pairs.seconds,
        lead_in=lead_in,
        sessions=len(runs_a),
        session_differences=tuple(differences.tolist()),
        warnings=tuple(_warnings(first, second, floor)),
    )


def _halves(runs: Sequence[Run]) -> tuple[Sequence[Run], Sequence[Run]]:
    """The sessions of one model in two groups of one size; where there is one, it is both."""
    if len(runs) == 1:
        return runs, runs
    size = len(runs) // 2
    return runs[0::2][:size], runs[1::2][:size]


def _floor(timer: Timer, itself: Pairs, margin: float) -> NoiseFloor:
    interval = timer.interval(itself.a, itself.b)
    return NoiseFloor(interval, max(statistics.noise_fraction(interval), margin), margin, pairs=len(itself.a))


def _hull(pairs: tuple[float, float], sessions: tuple[float, float] | None) -> tuple[float, float]:
    """The wider interval, end by end."""
    if sessions is None:
        return pairs
    return min(pairs[0], sessions[0]), max(pairs[1], sessions[1])


def _warnings(first: Arm, second: Arm, floor: NoiseFloor) -> Iterator[str]:
    pairs = len(first.samples)
    if pairs < statistics.FEWEST_PAIRS:
        yield (
            f"only {pairs} pairs fitted into the time limit, {statistics.FEWEST_PAIRS} are the fewest that can show a "
            "difference: allow more seconds"
        )
    low, high = floor.interval
    if low > 1.0 + floor.margin or high < 1.0 - floor.margin:
        yield f"the first model differs from itself, by {abs(high + low - 2) / 2:.1%}: the machine was not steady"
    for name, arm in (("first model", first), ("second model", second)):
        if not arm.warmup.steady:
            yield f"{name}: still not steady after {arm.warmup.runs} runs ({arm.warmup.seconds:.1f} s) of warm-up"
        yield from statistics.unsteadiness(name, arm.samples, arm.drift)


@contextmanager
def _garbage_collector_off() -> Iterator[None]:
    """Collect once, then keep the collector from running inside a sample."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
