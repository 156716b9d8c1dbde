"""What the sessions themselves contribute: each model is loaded several times, and no two loads are equally fast.

Where a session's weights and buffers happen to lie in memory makes it faster or slower by up to a percent for as long
as it lives. More samples of the same session cannot average that away; more sessions can. Session k of the first model
and session k of the second take turns in the same pairs, so

    d_k = log(median of the first's samples in session k) - log(median of the second's)        k = 1 .. K

are K independent measurements of the logarithm of the speed-up, each with its luck in memory and its noise, and their
mean has Student's t interval with K - 1 degrees of freedom. The reported interval is the wider of this one and the one
that resamples pairs, end by end.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEWEST = 3  # two differences say next to nothing about their spread: the quantile of t is 12.7


def session_differences(
    first: NDArray[np.float64], second: NDArray[np.float64], session: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Logarithm of the speed-up in each session, shape (K,), from pairs of shape (n,) and the session of each."""
    return np.array(
        [
            math.log(np.median(first[session == number]) / np.median(second[session == number]))
            for number in np.unique(session)
        ]
    )


def sessions_interval(differences: NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float] | None:
    """Student's t interval of the speed-up from `session_differences`; None from fewer than three sessions."""
    count = len(differences)
    if count < FEWEST:
        return None
    middle = float(np.mean(differences))
    error = float(np.std(differences, ddof=1)) / math.sqrt(count)
    half = t_quantile(0.5 + confidence / 2, count - 1) * error
    return math.exp(middle - half), math.exp(middle + half)


def t_quantile(probability: float, degrees: int) -> float:
    """The quantile of Student's t distribution, for a probability above one half.

    By bisection of the distribution function, which has a closed form for whole degrees of freedom (Abramowitz and
    Stegun 26.7.3 and 26.7.4).
    """
    low, high = 0.0, 1.0
    while _t_within(high, degrees) < 2 * probability - 1:
        high *= 2.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_within(middle, degrees) < 2 * probability - 1 else (low, middle)
    return (low + high) / 2


def _t_within(value: float, degrees: int) -> float:
    """P(-value < T < value)."""
    angle = math.atan(value / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for k in range(1 + odd, degrees, 2):
        total += term
        term *= cosine**2 * k / (k + 1)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
