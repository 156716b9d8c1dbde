"""What a series of paired latency samples lets one say.

Two models are timed in pairs: sample i of the first and sample i of the second lie next to each other in time, so a
busy neighbour or a falling clock frequency meets both. The estimate is the *speed-up*, the ratio of the two medians,

    speedup = median(first) / median(second)        (above 1: the second model is faster)

with one of two intervals at a stated confidence:

* from 50 pairs on, the percentile interval of a paired moving-block bootstrap (Kuensch 1989): blocks of about sqrt(n)
  consecutive pairs are drawn with replacement and the speed-up is computed anew. Drawing pairs keeps what both models
  suffered together; drawing blocks keeps the dependence between neighbours in time. Only n - block + 1 blocks exist to
  draw from, which makes the variance too small by about 1 - block / n: the interval is widened by the root of that.
* below that, where the bootstrap is too narrow, the order-statistic interval of the median of the pair ratios, widened
  to hold the estimate: it is valid for independent pairs of any distribution, and does not exist below 6 pairs.

No sample is ever removed: outliers are counted, wide spreads and drifts are put in words.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Verdict = Literal["faster", "slower", "no difference shown"]

FEWEST_PAIRS_BOOTSTRAP = 50  # simulated coverage of a nominal 95 % interval: 0.94 to 0.99 from here, 0.80 at 6 pairs
FEWEST_PAIRS = 6  # 1 - 2 * 0.5**n first exceeds 0.95 here: with fewer, no distribution-free 95 % interval exists

# The smallest n that bounds a percentile at 99 % confidence while one sample lies above it (MLPerf's early stopping).
PERCENTILE_NEEDS: dict[float, int] = {50: 1, 90: 64, 95: 130, 99: 662, 99.9: 6636}

OUTLIER_MADS = 5.0
_MAD_TO_SIGMA = 1.4826  # makes the median absolute deviation of a normal distribution its standard deviation
_SPREAD_WARNINGS = (  # torch.utils.benchmark's thresholds and words
    (0.25, "This suggests significant environmental influence."),
    (0.10, "This could indicate system fluctuation."),
)
_DRIFT_WARNING = 0.02
_DRIFT_BLOCKS = 20  # medians of so many blocks carry the fitted line: a single spike does not tilt it
_RESAMPLED_AT_ONCE = 1 << 22  # elements: keeps the bootstrap within some tens of megabytes


@dataclass(frozen=True)
class Drift:
    """How the times of one model moved while it was measured.

    Attributes:
        fitted: change from start to end along a least-squares line through log(time) of 20 block medians: 0.01 is 1 %
            slower at the end.
        halves: median of the second half over median of the first half.
    """

    fitted: float
    halves: float


def speedup(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Ratio of the medians, first over second: above 1 the second is faster."""
    return float(np.median(first) / np.median(second))


def speedup_interval(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Interval of the speed-up: block bootstrap where there are pairs enough, else order statistics of the pair ratios.

    Args:
        first: times of the first model, shape (n,), in time order.
        second: times of the second model, shape (n,); entry i was taken next to entry i of `first`.
        confidence: how often intervals made this way hold the true speed-up.
        resamples: of the bootstrap.
        seed: of the bootstrap; equal seeds give equal intervals.
    """
    n, estimate = len(first), speedup(first, second)
    if n < FEWEST_PAIRS_BOOTSTRAP:
        low, high = median_interval(first / second, confidence)
        return min(low, estimate), max(high, estimate)
    block = round(math.sqrt(n))
    ratios = block_bootstrap(first, second, block=block, resamples=resamples, seed=seed)
    tail = (1.0 - confidence) / 2.0
    widened = math.sqrt(n / (n - block))
    low, high = estimate * (np.quantile(ratios, [tail, 1.0 - tail]) / estimate) ** widened
    return float(low), float(high)


def block_bootstrap(
    first: NDArray[np.float64], second: NDArray[np.float64], *, block: int, resamples: int, seed: int
) -> NDArray[np.float64]:
    """Speed-ups of `resamples` paired moving-block resamples, shape (resamples,).

    Each resample lines up ceil(n / block) blocks of `block` consecutive pairs, their starts drawn uniformly from
    0 .. n - block, and is cut to n pairs.
    """
    n = len(first)
    blocks = math.ceil(n / block)
    starts = np.random.default_rng(seed).integers(0, n - block + 1, size=(resamples, blocks))
    within = np.arange(block)
    rows = max(1, _RESAMPLED_AT_ONCE // (blocks * block))
    ratios = []
    for begin in range(0, resamples, rows):
        drawn = (starts[begin : begin + rows, :, None] + within).reshape(-1, blocks * block)[:, :n]
        ratios.append(np.median(first[drawn], axis=1) / np.median(second[drawn], axis=1))
    return np.concatenate(ratios)


def median_interval(values: NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float]:
    """Distribution-free interval of the median: the k-th smallest and k-th largest value.

    k is the largest rank with 2 * P(Binomial(n, 1/2) < k) <= 1 - confidence; where none exists, the whole range is
    returned (it holds the median with probability 1 - 2**(1 - n)).
    """
    ordered = np.sort(values)
    n = len(ordered)
    rank, below = 0, 0.0
    while rank < n // 2:
        below += math.comb(n, rank) / 2**n
        if 2.0 * below > 1.0 - confidence:
            break
        rank += 1
    rank = max(rank, 1)
    return float(ordered[rank - 1]), float(ordered[n - rank])


def noise_fraction(interval: tuple[float, float]) -> float:
    """The difference that a model shows against itself, or cannot be told from none: 0.01 is 1 %.

    The larger one of the middle and the half-width of its interval, both of logarithms.
    """
    low, high = map(math.log, interval)
    return math.expm1(max(abs(low + high), high - low) / 2)


def verdict(ratio: float, interval: tuple[float, float], *, floor: float, pairs: int) -> Verdict:
    """What the data show of the second model against the first.

    A difference is claimed only where the interval leaves 1 out, the speed-up differs from 1 by more than `floor` (see
    `noise_fraction`), and there were pairs enough for the interval to exist.
    """
    low, high = interval
    shown = pairs >= FEWEST_PAIRS and abs(math.log(ratio)) > math.log1p(floor)
    if shown and low > 1.0:
        return "faster"
    if shown and high < 1.0:
        return "slower"
    return "no difference shown"


def spread(samples: NDArray[np.float64]) -> float:
    """Interquartile range over median."""
    low, middle, high = np.percentile(samples, [25, 50, 75])
    return float((high - low) / middle)


def outliers(samples: NDArray[np.float64]) -> int:
    """How many samples lie above median + 5 scaled median absolute deviations."""
    middle = np.median(samples)
    deviation = _MAD_TO_SIGMA * np.median(np.abs(samples - middle))
    return int(np.count_nonzero(samples > middle + OUTLIER_MADS * deviation))


def drift(started: NDArray[np.float64], samples: NDArray[np.float64]) -> Drift:
    """Drift of `samples` taken at `started` seconds, both of shape (n,); of fewer than two samples, none."""
    half = len(samples) // 2
    if half == 0:
        return Drift(fitted=0.0, halves=1.0)
    blocks = np.array_split(np.arange(len(samples)), min(_DRIFT_BLOCKS, len(samples)))
    when = np.array([np.median(started[block]) for block in blocks])
    level = np.array([np.log(np.median(samples[block])) for block in blocks])
    slope = np.polyfit(when, level, deg=1)[0]
    fitted = math.expm1(slope * (started[-1] - started[0]))
    return Drift(fitted, halves=float(np.median(samples[-half:]) / np.median(samples[:half])))


def percentiles(samples: NDArray[np.float64]) -> dict[float, float]:
    """The percentiles that this many samples support (`PERCENTILE_NEEDS`), by linear interpolation."""
    allowed = [percent for percent, needed in PERCENTILE_NEEDS.items() if len(samples) >= needed]
    return dict(zip(allowed, np.percentile(samples, allowed).tolist(), strict=True))


def unsteadiness(name: str, samples: NDArray[np.float64], moved: Drift) -> list[str]:
    """Sentences on what disturbed a series: a wide spread, a drift. Empty where nothing did."""
    found = []
    wide = spread(samples)
    for threshold, words in _SPREAD_WARNINGS:
        if wide > threshold:
            found.append(f"{name}: the interquartile range is {wide:.1%} of the median. {words}")
            break
    if abs(moved.halves - 1.0) > _DRIFT_WARNING:
        found.append(f"{name}: the second half of the samples took {moved.halves - 1.0:+.1%} against the first half.")
    return found
