"""Losses as metrics: means over samples, lower is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from quant.metrics.base import MeanMetric, Parameter
from quant.metrics.losses._inputs import REFERENCE, located

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from quant.metrics.base import Evaluated, Records

    Floats = npt.NDArray[np.float64]
    Parts = tuple[Floats, Floats]

OUTPUT = Parameter("", help="the output that is judged: its name or its position; the first")
TARGET = Parameter("y", help="labels by name, or `reference` for the first model's outputs")
LABELS = Parameter("y", help="labels by name")
CLAMP = Parameter(1e-7, help="the least probability that is believed, against log 0")
CLAMP_DEFAULT = 1e-7


EVERYTHING = (-np.inf, np.inf)


def drop_bounds(target: str) -> tuple[float, float]:
    """The first model's loss against its own outputs is the least there is."""
    return (0.0, np.inf) if target == REFERENCE else EVERYTHING


@dataclass(frozen=True, eq=False)
class Loss(MeanMetric):
    """The mean of a loss over samples.

    Attributes:
        losses: from a batch to every sample's loss, shape (n,), or to losses and weights: sum of losses over sum of
            weights is the mean, as torch's is.
        needs: the labels that it takes.
        bounds: of the drop, as in `Metric`; from 0 for a distance from the first model.
    """

    losses: Callable[[Evaluated], Floats | Parts]
    needs: tuple[str, ...] = ("y",)
    bounds: tuple[float, float] = EVERYTHING
    higher_is_better = False

    def collect(self, batch: Evaluated) -> Records:
        """Losses and weights, each (n,)."""
        with located(batch):
            found = self.losses(batch)
        return found if isinstance(found, tuple) else (found, np.ones(len(found)))
