"""Taking pairs of samples: the models' turns, their order, and when to stop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from quant.latency import statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from quant.latency.settings import Protocol
    from quant.latency.warmup import Clock, Run

    Pause = Callable[[float], None]
    Progress = Callable[[str, float], None]  # what is going on, and how much of it is done (0 to 1)

StoppedBy = Literal["precision", "max_seconds"]

_MOST_REPEATS = 100_000
_CHECK_GROWTH = 1.25  # the interval is computed again once there are this many times as many pairs
_PROGRESS_NS = 250_000_000  # between two reports of progress: drawing a bar is work that the models would feel


@dataclass(frozen=True)
class Pairs:
    """Paired series, each of shape (n,).

    Attributes:
        started_a: when each sample of the first model began, in seconds since the first sample.
        started_b: the same of the second.
        a: time of one run of the first model in seconds.
        b: of the second.
        session: number of the sessions that the pair was taken from.
        seconds: how long all of it took.
        stopped_by: why there are no more.
    """

    started_a: NDArray[np.float64]
    started_b: NDArray[np.float64]
    a: NDArray[np.float64]
    b: NDArray[np.float64]
    session: NDArray[np.intp]
    seconds: float
    stopped_by: StoppedBy


def repeats_for(fastest_ns: float, sample_seconds: float) -> int:
    """Runs per sample: the same for both models, so that their samples see the same inputs."""
    return min(_MOST_REPEATS, max(1, math.ceil(1e9 * sample_seconds / max(fastest_ns, 1.0))))


@dataclass(frozen=True)
class Timer:
    """Takes pairs of samples.

    Attributes:
        settings: the protocol's numbers.
        repeats: runs per sample.
        lead_in: whether a model runs once, outside the clock, before each of its samples.
        seed: of the bootstrap, of the turns and of the pauses.
        clock: returns nanoseconds.
        pause: waits for so many seconds.
        progress: told now and then.
    """

    settings: Protocol
    repeats: int
    lead_in: bool
    seed: int
    clock: Clock
    pause: Pause
    progress: Progress | None

    def pairs(self, stage: str, runs: tuple[Sequence[Run], Sequence[Run]], *, limit: float, shortest: float) -> Pairs:
        """Take pairs until they are precise enough, or `limit` seconds have passed.

        The models' turns are A B, B A or B A, A B, and pauses vary by half: both are drawn by the seed. A fixed
        rhythm falls into step with the system's clock, which then always interrupts the same model.

        Args:
            stage: what to call this in progress.
            runs: the sessions of the first and of the second model, as many of one as of the other.
            limit: most seconds.
            shortest: fewest seconds before the interval may end it.
        """
        starts: tuple[list[int], list[int]] = ([], [])
        times: tuple[list[int], list[int]] = ([], [])
        sessions = len(runs[0])
        rng, first = np.random.default_rng(self.seed), 0
        began = reported = now = self.clock()
        check_at = self.settings.min_pairs
        stopped_by: StoppedBy | None = None
        while stopped_by is None:
            n = len(times[0])
            first = first if n % 2 else int(rng.integers(2))
            for arm in (first, 1 - first) if n % 2 == 0 else (1 - first, first):
                rest = (0.5 + rng.random()) * self.settings.rest_seconds
                start, now = self._sample(runs[arm][_session(n, sessions)], n * self.repeats, rest)
                starts[arm].append(start)
                times[arm].append(now - start)
            n, elapsed = n + 1, 1e-9 * (now - began)
            if elapsed >= limit:
                stopped_by = "max_seconds"
            elif n >= check_at and elapsed >= shortest:
                stopped_by = "precision" if self._precise(*times) else None
                check_at = math.ceil(_CHECK_GROWTH * n)
            if self.progress and now - reported >= _PROGRESS_NS:
                reported = now
                self.progress(stage, min(1.0, elapsed / limit))
        started_a, started_b = (1e-9 * (np.array(series, dtype=np.float64) - began) for series in starts)
        a, b = (1e-9 / self.repeats * np.array(series, dtype=np.float64) for series in times)
        session = np.array([_session(pair, sessions) for pair in range(len(a))], dtype=np.intp)
        return Pairs(started_a, started_b, a, b, session, seconds=1e-9 * (now - began), stopped_by=stopped_by)

    def interval(self, a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, float]:
        """The interval of the speed-up from resampled pairs, by the settings."""
        return statistics.speedup_interval(
            a, b, confidence=self.settings.confidence, resamples=self.settings.resamples, seed=self.seed
        )

    def _sample(self, run: Run, first: int, rest: float) -> tuple[int, int]:
        """Start and end of `repeats` runs in clock ticks."""
        clock, last = self.clock, first + self.repeats
        self.pause(rest)
        if self.lead_in:
            run(first)
        start = clock()
        for index in range(first, last):
            run(index)
        return start, clock()

    def _precise(self, a: list[int], b: list[int]) -> bool:
        first, second = np.array(a, dtype=np.float64), np.array(b, dtype=np.float64)
        low, high = self.interval(first, second)
        return (high - low) / 2 <= self.settings.half_width * statistics.speedup(first, second)


def _session(pair: int, sessions: int) -> int:
    """Two pairs in a row, one in either order, then the next sessions' turn."""
    return pair // 2 % sessions
