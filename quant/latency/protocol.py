"""The interleaved protocol: how two models are timed so that their difference means something.

1. Each model warms up alone: at least 3 runs and 0.2 s, then until the medians of two successive windows differ by less
   than 2 %, or a cap is reached.
2. The first model is compared with itself. What that shows is the noise floor of this machine at this moment. No
   smaller difference is claimed, nor one below a fixed margin.
3. The two models take turns in the order A B, B A, A B, ... in one process. A sample is as many runs as fill one
   millisecond, and sample i of either model is given the same inputs. Python's garbage collector rests meanwhile.
4. The pairs end when there are 100 of them, three seconds have passed and the interval of the speed-up is within 1 % to
   either side; or when the time limit is reached. The result says which it was. (Stopping on the *width* of an interval
   does not favour either verdict; stopping on the verdict would.)

Taking turns is what makes this work: whatever slows the machine for longer than a pair slows both models alike and
leaves their ratio alone; with one model timed after the other, it is charged to whichever was running.
"""

from __future__ import annotations

import gc
import math
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import UsageError
from quant.latency import statistics
from quant.latency.result import Arm, LatencyComparison, NoiseFloor, StoppedBy, Warmup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Run = Callable[[int], object]  # runs the model once on input number i
    Clock = Callable[[], int]  # nanoseconds
    Progress = Callable[[str, float], None]  # what is going on, and how much of it is done (0 to 1)

_NOISE_SHARE = 0.25  # of the time limit, for the first model against itself
_MOST_REPEATS = 100_000
_CHECK_GROWTH = 1.25  # the interval is computed again once there are this many times as many pairs
_PROGRESS_NS = 250_000_000  # between two reports of progress: drawing a bar is work that the models would feel


@dataclass(frozen=True)
class Protocol:
    """Settings of a comparison. All times are in seconds.

    Attributes:
        warmup_runs: fewest runs of a warm-up window.
        warmup_seconds: shortest warm-up.
        warmup_max_seconds: longest warm-up of one model; the run that reaches it is the last.
        warmup_tolerance: relative difference of two windows' medians that counts as steady.
        sample_seconds: shortest sample; faster models run several times per sample.
        min_pairs: fewest pairs before the interval may end the measurement, and most pairs of the noise floor.
        min_seconds: shortest measurement.
        max_seconds: longest measurement, noise floor included; the pair that reaches it is the last.
        margin: no smaller difference is claimed, however quiet the machine: two sessions of one and the same model can
            differ by 0.3 % for as long as they live, by where their memory happens to lie.
        half_width: of the interval, relative to the speed-up, at which there is precision enough.
        confidence: of the intervals.
        resamples: of the bootstrap.
    """

    warmup_runs: int = 3
    warmup_seconds: float = 0.2
    warmup_max_seconds: float = 2.0
    warmup_tolerance: float = 0.02
    sample_seconds: float = 0.001
    min_pairs: int = 100
    min_seconds: float = 3.0
    max_seconds: float = 30.0
    margin: float = 0.005
    half_width: float = 0.01
    confidence: float = 0.95
    resamples: int = 2000

    def __post_init__(self) -> None:
        if not 0.0 < self.max_seconds < math.inf:
            raise UsageError(f"the time limit of a latency comparison must be positive seconds, got {self.max_seconds}")

    @classmethod
    def lasting(cls, seconds: float) -> Protocol:
        """The protocol within a time limit: shorter than usual where there is no time for more."""
        return cls(max_seconds=seconds, min_seconds=min(cls.min_seconds, seconds))


@dataclass(frozen=True)
class _Pairs:
    """Paired series: start times since the first sample and times of one run, in seconds, each of shape (n,)."""

    started_a: NDArray[np.float64]
    started_b: NDArray[np.float64]
    a: NDArray[np.float64]
    b: NDArray[np.float64]
    seconds: float
    stopped_by: StoppedBy


def compare(
    run_a: Run,
    run_b: Run,
    *,
    settings: Protocol | None = None,
    seed: int = 0,
    clock: Clock = time.perf_counter_ns,
    progress: Progress | None = None,
) -> LatencyComparison:
    """Time two callables against each other.

    Args:
        run_a: runs the first model once on input number i; the same i must mean the same input for both.
        run_b: runs the second model once.
        settings: the protocol's numbers.
        seed: of the bootstrap.
        clock: returns nanoseconds; given a fake one, the protocol is deterministic.
        progress: called now and then, between samples.

    Returns:
        The speed-up of `run_b` over `run_a` with its interval, and all that is needed to doubt it.
    """
    settings = settings or Protocol()
    with _garbage_collector_off():
        warmup_a, typical_a = warm_up(run_a, settings, clock)
        warmup_b, typical_b = warm_up(run_b, settings, clock)
        repeats = _repeats(min(typical_a, typical_b), settings.sample_seconds)
        timer = _Timer(settings, repeats, seed, clock, progress)
        itself = timer.pairs(
            "noise floor", run_a, run_a, limit=_NOISE_SHARE * settings.max_seconds, most=settings.min_pairs
        )
        pairs = timer.pairs("comparison", run_a, run_b, limit=settings.max_seconds - itself.seconds, most=None)
    floor_interval = timer.interval(itself.a, itself.b)
    measured = statistics.noise_fraction(floor_interval)
    floor = NoiseFloor(floor_interval, max(measured, settings.margin), pairs=len(itself.a))
    ratio, interval = statistics.speedup(pairs.a, pairs.b), timer.interval(pairs.a, pairs.b)
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
        warnings=tuple(_warnings(first, second, floor)),
    )


def warm_up(run: Run, settings: Protocol, clock: Clock) -> tuple[Warmup, float]:
    """Run a model until its times are steady.

    Returns:
        What was done, and the median time of one run in the last window, in nanoseconds.
    """
    began = clock()
    deadline = began + round(1e9 * settings.warmup_max_seconds)
    times: list[int] = []
    before, steady = math.nan, False
    while not steady:
        window = _window(run, len(times), settings, deadline, clock)
        times += window
        middle = float(np.median(window))
        steady = abs(middle - before) <= settings.warmup_tolerance * before
        before = middle
        if clock() >= deadline:
            break
    return Warmup(len(times), 1e-9 * (clock() - began), 1e-6 * times[0], steady), before


def _window(run: Run, first: int, settings: Protocol, deadline: int, clock: Clock) -> list[int]:
    """Times of the runs that fill one warm-up window, in nanoseconds; two windows make the shortest warm-up."""
    times: list[int] = []
    began = now = clock()
    shortest = 1e9 * settings.warmup_seconds / 2
    while len(times) < settings.warmup_runs or now - began < shortest:
        start = clock()
        run(first + len(times))
        now = clock()
        times.append(now - start)
        if now >= deadline:
            break
    return times


def _repeats(fastest_ns: float, sample_seconds: float) -> int:
    """Runs per sample: the same for both models, so that their samples see the same inputs."""
    return min(_MOST_REPEATS, max(1, math.ceil(1e9 * sample_seconds / max(fastest_ns, 1.0))))


@dataclass(frozen=True)
class _Timer:
    """Takes pairs of samples."""

    settings: Protocol
    repeats: int
    seed: int
    clock: Clock
    progress: Progress | None

    def pairs(self, stage: str, run_a: Run, run_b: Run, *, limit: float, most: int | None) -> _Pairs:
        """Take pairs until they are precise enough, or there are `most` of them, or `limit` seconds have passed."""
        starts: tuple[list[int], list[int]] = ([], [])
        times: tuple[list[int], list[int]] = ([], [])
        runs = (run_a, run_b)
        began = reported = now = self.clock()
        check_at = self.settings.min_pairs
        stopped_by: StoppedBy | None = None
        while stopped_by is None:
            n = len(times[0])
            for arm in (0, 1) if n % 2 == 0 else (1, 0):
                start, now = self._sample(runs[arm], n * self.repeats)
                starts[arm].append(start)
                times[arm].append(now - start)
            n, elapsed = n + 1, 1e-9 * (now - began)
            if most is not None and n >= most:
                stopped_by = "max_pairs"
            elif elapsed >= limit:
                stopped_by = "max_seconds"
            elif most is None and n >= check_at and elapsed >= self.settings.min_seconds:
                stopped_by = "precision" if self._precise(*times) else None
                check_at = math.ceil(_CHECK_GROWTH * n)
            if self.progress and now - reported >= _PROGRESS_NS:
                reported = now
                self.progress(stage, min(1.0, max(elapsed / limit, n / most if most else 0.0)))
        started_a, started_b = (1e-9 * (np.array(series, dtype=np.float64) - began) for series in starts)
        a, b = (1e-9 / self.repeats * np.array(series, dtype=np.float64) for series in times)
        return _Pairs(
            started_a,
            started_b,
            a,
            b,
            seconds=1e-9 * (now - began),
            stopped_by=stopped_by,
        )

    def interval(self, a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, float]:
        """The interval of the speed-up by the settings."""
        return statistics.speedup_interval(
            a, b, confidence=self.settings.confidence, resamples=self.settings.resamples, seed=self.seed
        )

    def _sample(self, run: Run, first: int) -> tuple[int, int]:
        """Start and end of `repeats` runs in clock ticks."""
        clock, last = self.clock, first + self.repeats
        start = clock()
        for index in range(first, last):
            run(index)
        return start, clock()

    def _precise(self, a: list[int], b: list[int]) -> bool:
        first, second = np.array(a, dtype=np.float64), np.array(b, dtype=np.float64)
        low, high = self.interval(first, second)
        return (high - low) / 2 <= self.settings.half_width * statistics.speedup(first, second)


def _warnings(first: Arm, second: Arm, floor: NoiseFloor) -> Iterator[str]:
    pairs = len(first.samples)
    if pairs < statistics.FEWEST_PAIRS:
        yield (
            f"only {pairs} pairs fitted into the time limit, {statistics.FEWEST_PAIRS} are the fewest that can show a "
            "difference: allow more seconds"
        )
    low, high = floor.interval
    if not low <= 1.0 <= high:
        measured = statistics.noise_fraction(floor.interval)
        yield f"the first model differs from itself by up to {measured:.1%}: the machine was not steady"
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
