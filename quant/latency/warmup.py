"""Running a model until its times are steady."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from quant.latency.settings import Protocol

    Run = Callable[[int], object]  # runs the model once on input number i
    Clock = Callable[[], int]  # nanoseconds


@dataclass(frozen=True)
class Warmup:
    """What one model ran before it was measured.

    Attributes:
        runs: how often it ran.
        seconds: how long that took.
        first_ms: time of the very first run, in milliseconds.
        steady: whether the last two windows agreed; False where the cap on warm-up time came first.
    """

    runs: int
    seconds: float
    first_ms: float
    steady: bool


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


def settle(run: Run, settings: Protocol) -> None:
    """Run a further session of a model that is warm: what it allocates on its first runs is allocated then."""
    for index in range(settings.warmup_runs):
        run(index)


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
