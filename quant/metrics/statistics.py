"""Intervals and tests for two models on the same samples.

In a paired comparison only the discordant samples speak: `b` of n that only the first model gets right, `c` that only
the second does.
"""

from __future__ import annotations

from math import comb, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIDENCE = 0.95
RESAMPLES = 4000
HELD_AT_ONCE = 4_000_000  # numbers: keeps a bootstrap within some tens of megabytes


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


def tango_interval(b: int, c: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Score interval for a difference of paired proportions, (b - c) / n.

    The differences that a score test does not reject. With few or no discordant pairs it keeps a width, where Wald's
    interval and a bootstrap shrink to nothing. T. Tango, "Equivalence test and confidence interval for the difference
    in proportions for the paired-sample design", Statistics in Medicine 17 (1998) 891-908.

    Args:
        b: samples that only the first model gets right.
        c: samples that only the second model gets right.
        n: all samples.
        confidence: nominal coverage.

    Raises:
        ValueError: counts that cannot be.
    """
    if n < 1 or min(b, c) < 0 or b + c > n:
        raise ValueError(f"{b} and {c} discordant pairs among {n} cannot be")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    estimate = (b - c) / n

    def score(difference: float) -> float:
        """How many standard errors the counts lie above what `difference` would give."""
        linear = -b - c + (2 * n - b + c) * difference
        constant = -c * difference * (1 - difference)
        q21 = (sqrt(max(linear**2 - 8 * n * constant, 0.0)) - linear) / (4 * n)
        variance = n * (2 * q21 + difference * (1 - difference))
        surplus = b - c - n * difference
        return surplus / sqrt(variance) if variance > 0 else float(np.copysign(np.inf, surplus)) if surplus else 0.0

    low = _crossing(lambda d: score(d) > z, -1.0, estimate)
    high = _crossing(lambda d: score(d) >= -z, estimate, 1.0)
    return Interval(low, high)


def _crossing(holds: Callable[[float], bool], left: float, right: float) -> float:
    """Where a condition that holds on the left stops to hold, by bisection."""
    for _ in range(100):
        middle = (left + right) / 2
        if holds(middle):
            left = middle
        else:
            right = middle
    return (left + right) / 2


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided exact p-value for "both are right equally often": a binomial test of b among b + c at one half."""
    trials = b + c
    tail = sum(comb(trials, k) for k in range(min(b, c) + 1))
    return min(1.0, float(2 * tail / 2**trials))


def wilson_interval(successes: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Score interval for one proportion (Wilson 1927)."""
    z2 = NormalDist().inv_cdf(0.5 + confidence / 2) ** 2
    centre = (successes + z2 / 2) / (n + z2)
    half = sqrt(z2 * (successes * (n - successes) / n + z2 / 4)) / (n + z2)
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def percentile_interval(resampled: np.ndarray, confidence: float = CONFIDENCE, units: int | None = None) -> Interval:
    """The middle part of a bootstrap distribution.

    Args:
        resampled: the statistic of each resample.
        confidence: nominal coverage.
        units: how many units were drawn from. Given, the tails are cut further out where these are few (`tail_of_few`).
    """
    tail = (1 - confidence) / 2 if units is None else tail_of_few(units, confidence)
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(float(low), float(high))


def tail_of_few(units: int, confidence: float = CONFIDENCE) -> float:
    """Where to cut each tail of a bootstrap of few units: at Phi(-t sqrt(n / (n - 1))) instead of Phi(-z).

    A bootstrap of n units spreads too little by sqrt((n - 1) / n), and its tails are normal where Student's t with
    n - 1 degrees of freedom is due: much at 5 units, nothing at 1000. T. Hesterberg, "What teachers should know about
    the bootstrap", The American Statistician 69 (2015) 371-386. t is taken from its Cornish-Fisher series.
    """
    z, freedom = NormalDist().inv_cdf(0.5 + confidence / 2), units - 1
    t = (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
    return NormalDist().cdf(-t * sqrt(units / freedom))


def minimum_detectable_drop(n: int, confidence: float = CONFIDENCE) -> float:
    """The smallest accuracy drop that n paired samples could show, if no sample spoke for the second model."""
    for b in range(1, n + 1):
        if tango_interval(b, 0, n, confidence).low > 0:
            return b / n
    return 1.0


def stretched(interval: Interval, estimate: float, share: float) -> Interval:
    """A 95 % interval at the confidence 1 - `share`, as if its ends were normal deviates from the estimate."""
    normal = NormalDist()
    ratio = normal.inv_cdf(1 - share / 2) / normal.inv_cdf(0.5 + CONFIDENCE / 2)
    return Interval(estimate - (estimate - interval.low) * ratio, estimate + (interval.high - estimate) * ratio)


def verdict(interval: Interval | None, limit: float | None, *, one_sided: bool = False) -> str:
    """What an interval of a drop allows to say.

    "lost" or "gained" where it excludes zero, however small the difference; else "within LIMIT" where it lies inside
    the limit on both sides; else "cannot tell".

    Args:
        interval: of the drop.
        limit: the drop that does not matter; None where no drop is too small to.
        one_sided: the drop cannot be negative, as that of an agreement. To exclude zero then takes a single sample, so
            "lost" waits for the interval to lie beyond the limit.
    """
    if interval is None:
        return ""
    if interval.low > ((limit or 0) if one_sided else 0):
        return "lost"
    if interval.high < 0:
        return "gained"
    return (
        f"within {limit:g}"
        if limit is not None and -limit <= interval.low and interval.high <= limit
        else "cannot tell"
    )
