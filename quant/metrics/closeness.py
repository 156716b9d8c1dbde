"""The metrics of fidelity: how close the second model's outputs are to the first's. No labels are needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import DataError
from quant.metrics.base import Evaluated, Family, MeanMetric, Metric, Parameter, UnfitError
from quant.metrics.fidelity import Fidelity, fidelity
from quant.metrics.scores import chosen, kind_of
from quant.metrics.statistics import Interval, wilson_interval

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quant.metrics.base import Draws, Floats, Records


def figures(batch: Evaluated, output: str = "") -> Fidelity:
    """All figures of a batch at once, computed for the first metric that asks.

    Raises:
        DataError: no such output, or outputs of unequal size.
    """
    key = "fidelity", output
    if key not in batch.memo:
        name = output or next(iter(batch.outputs))
        ours, theirs = batch.reference.get(name), chosen(batch, output)
        if ours is None or ours.shape != theirs.shape:
            sizes = "there is none of the first model" if ours is None else f"{ours.shape} and {theirs.shape}"
            raise DataError(f"the two models' outputs {name!r} differ in size: {sizes}")
        known = kind_of(Evaluated(batch.reference, {}, kinds=batch.kinds), output)
        batch.memo[key] = fidelity(ours, theirs, known)
    found: Fidelity = batch.memo[key]
    return found


def _of_classes(batch: Evaluated, output: str) -> None:
    outputs = chosen(batch, output)
    if outputs.ndim < 2 or outputs.shape[1] < 2:
        raise UnfitError(f"needs outputs with two classes or more along axis 1, got {outputs.shape}")


@dataclass(frozen=True)
class Agreement(MeanMetric):
    """The part of the samples, or of the positions of maps, with the first model's top class."""

    output: str = ""
    needs = ()
    refers = True
    bounds = (0.0, 1.0)

    def collect(self, batch: Evaluated) -> Records:
        """As `Metric`."""
        _of_classes(batch, self.output)
        values = figures(batch, self.output).agreement
        return values, np.ones(len(values))

    def interval(self, first: Records, second: Records, draws: Draws) -> tuple[Interval | None, str]:
        """Wilson's, where units are single samples."""
        values = second[0]
        if draws.groups is not None or not np.isin(values, (0.0, 1.0)).all():
            return super().interval(first, second, draws)
        low, high = wilson_interval(int(values.sum()), len(values))
        return Interval(1 - high, 1 - low), "Wilson score interval"


@dataclass(frozen=True)
class MeanDistance(MeanMetric):
    """The mean over samples of a figure: KL in nats, or the cosine. There is no limit to judge it by."""

    figure: str
    output: str = ""
    higher_is_better: bool = False
    needs = ()
    refers = True
    bounds = (0.0, np.inf)

    def collect(self, batch: Evaluated) -> Records:
        """As `Metric`."""
        if self.figure == "kl":
            _of_classes(batch, self.output)
        values: np.ndarray = getattr(figures(batch, self.output), self.figure)
        return values, np.ones(len(values))


@dataclass(frozen=True)
class Extreme(Metric):
    """A figure that no resampling speaks of: the median SQNR, or the largest error of all."""

    figure: str
    output: str = ""
    higher_is_better: bool = False
    needs = ()
    refers = True

    def collect(self, batch: Evaluated) -> Records:
        """As `Metric`."""
        return (getattr(figures(batch, self.output), self.figure),)

    def resampled(self, records: Records, weights: Floats) -> Floats:
        """As `Metric`."""
        repeated = (np.repeat(records[0], row.astype(int)) for row in weights)
        pick = np.median if self.figure == "sqnr_db" else np.max
        return np.array([float(pick(values)) if len(values) else np.nan for values in repeated])

    def interval(self, first: Records, second: Records, draws: Draws) -> tuple[Interval | None, str]:  # noqa: ARG002
        """None."""
        return None, ""


_OUTPUT = {"output": Parameter("", help="name of the model's output; the first where none is given")}
_TASK = ("fidelity",)

FIDELITY: Mapping[str, Family] = {
    "agreement": Family(Agreement, "part with the first model's top class", _OUTPUT, _TASK),
    "sqnr": Family(
        partial(Extreme, "sqnr_db", higher_is_better=True),
        "10 log10(sum x^2 / sum (x - x')^2) of a sample, in dB; the median",
        _OUTPUT,
        _TASK,
    ),
    "kl": Family(partial(MeanDistance, "kl"), "KL(first, second), mean over samples, in nats", _OUTPUT, _TASK),
    "cosine": Family(
        partial(MeanDistance, "cosine", higher_is_better=True), "cosine of the outputs as vectors", _OUTPUT, _TASK
    ),
    "max_error": Family(partial(Extreme, "largest"), "the largest absolute difference", _OUTPUT, _TASK),
}
