"""How closely two models agree on the same inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from quant.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from quant.runtime import RuntimeSession


def relative_difference(expected: np.ndarray, got: np.ndarray) -> float:
    """max|got - expected| / max|expected|; positions where both are NaN, or the same infinity, agree."""
    wanted, found = expected.astype(np.float64), got.astype(np.float64)
    same = (wanted == found) | (np.isnan(wanted) & np.isnan(found))
    if same.all():
        return 0.0
    with np.errstate(invalid="ignore"):
        gap = np.abs(found - wanted)[~same].max()
    scale = np.abs(wanted).max(initial=0.0)
    return float(gap / scale) if scale > 0 and np.isfinite(gap) else float("inf")


def largest_difference(
    reference: RuntimeSession, other: RuntimeSession, feeds: Iterable[Mapping[str, np.ndarray]]
) -> float:
    """The largest relative difference between the outputs of two sessions over some inputs."""
    return max(
        (
            relative_difference(expected, got)
            for feed in feeds
            for expected, got in zip(reference.run(feed), other.run(feed), strict=True)
        ),
        default=0.0,
    )


def simulation_gap(model: bytes, feeds: Iterable[Mapping[str, np.ndarray]], *, threads: int = 1) -> float:
    """Largest difference between a quantized model's int8 kernels and the same file run node by node, in float.

    It is near zero where the kernels do what the file says: a few steps of the grid, since they round once where the
    file rounds twice. A processor without VNNI adds products of eight bits in sixteen, which saturate: then it is not.
    """
    simulated = open_session(model, threads=threads, level="disabled", quant_kernels=False)
    return largest_difference(simulated, open_session(model, threads=threads), feeds)
