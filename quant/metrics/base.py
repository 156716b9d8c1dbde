"""What a metric is: what it keeps of every batch, what it comes to, and how sure its drop is.

A metric sees one model's outputs at a time and keeps, for every unit (a sample, a map, an image), a record of bounded
size: a loss, a few counts, a score. Its value is a function of the records, each with a weight; equal weights give the
value itself, the counts of a resample one draw of the bootstrap. So one implementation serves any number of samples,
both models, and every interval.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from quant.metrics.statistics import HELD_AT_ONCE, Interval, percentile_interval

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Records = tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class Evaluated:
    """One model on one batch.

    Attributes:
        outputs: by name, in the graph's order; axis 0 is the sample.
        labels: `y` and further ones, such as `boxes`; empty where there are none.
        inputs: what the model was given, by name.
        reference: the first model's outputs on the same samples, for fidelity; those of the model itself where it is
            the first.
    """

    outputs: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray]
    inputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    reference: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def output(self) -> np.ndarray:
        """The first output, which is what most metrics are about."""
        return next(iter(self.outputs.values()))


class Metric(ABC):
    """A metric with its parameters settled.

    Attributes:
        higher_is_better: the direction.
        needs: names of the labels that it takes, `y` for most; empty for fidelity.
        unit: what one record is of: "sample", "map" or "image".
        bounds: the least and the largest drop that is possible.
    """

    higher_is_better: bool = True
    needs: tuple[str, ...] = ("y",)
    unit: str = "sample"
    bounds: tuple[float, float] = (-np.inf, np.inf)

    @abstractmethod
    def collect(self, batch: Evaluated) -> Records:
        """A record of every unit in a batch: arrays whose axis 0 is the unit, alike for all batches but for its length.

        Raises:
            DataError: outputs or labels that this metric cannot take, with what it wants instead.
        """

    @abstractmethod
    def resampled(self, records: Records, weights: Floats) -> Floats:
        """The metric where unit i counts `weights[:, i]` times: (r, n) -> (r,)."""

    def value(self, records: Records) -> float:
        """The metric of all units together."""
        return float(self.resampled(records, np.ones((1, len(records[0]))))[0])

    def interval(self, first: Records, second: Records, draws: Draws) -> tuple[Interval | None, str]:
        """A 95 % interval for how much worse the second model is, and how it was made; None where there is none."""
        sign = 1.0 if self.higher_is_better else -1.0
        parts = [sign * (self.resampled(first, w) - self.resampled(second, w)) for w in draws.weights()]
        drop = sign * (self.value(first) - self.value(second))
        low, high = percentile_interval(np.concatenate(parts), units=draws.units)
        within = Interval(max(min(low, drop), self.bounds[0]), min(max(high, drop), self.bounds[1]))
        return within, f"paired bootstrap of {draws.units} {draws.unit}s, seed {draws.seed}"


class MeanMetric(Metric):
    """A metric that is a mean over samples, weighted or not: records are (n,) numerators and (n,) denominators."""

    def resampled(self, records: Records, weights: Floats) -> Floats:
        """As `Metric`."""
        top, bottom = (weights @ part.astype(np.float64) for part in records)
        return np.divide(top, bottom, out=np.zeros_like(top), where=bottom != 0)


@dataclass(frozen=True, eq=False)
class Draws:
    """Resamples of the units that two models share: the same for every metric, so that they are comparable.

    Attributes:
        count: units, the length of every record.
        seed: of the generator.
        groups: shape (n,): units of equal number are drawn together, as frames of one video must be; None draws each
            by itself.
        strata: shape (n,): the share of each stratum stays as it is; None does not fix any.
        resamples: how many.
        unit: what is drawn, in words.
    """

    count: int
    seed: int
    groups: np.ndarray | None = None
    strata: np.ndarray | None = None
    resamples: int = 2000
    unit: str = "sample"

    @property
    def units(self) -> int:
        """How many there are to draw from."""
        return self.count if self.groups is None else len(np.unique(self.groups))

    def weights(self) -> Iterator[Floats]:
        """How often each unit counts, a portion of the resamples at a time: arrays of shape (r, n)."""
        generator = np.random.default_rng(self.seed)
        cells = np.arange(self.count) if self.groups is None else np.unique(self.groups, return_inverse=True)[1]
        strata = np.zeros(self.count, int) if self.strata is None else np.unique(self.strata, return_inverse=True)[1]
        home = np.zeros(self.units, int)
        home[cells] = strata  # groups lie within strata
        members = [np.flatnonzero(home == stratum) for stratum in range(home.max() + 1)]
        portion = max(1, HELD_AT_ONCE // self.count)
        for done in range(0, self.resamples, portion):
            drawn = np.zeros((min(portion, self.resamples - done), self.units))
            for units in members:
                chance = np.full(len(units), 1 / len(units))
                drawn[:, units] = generator.multinomial(len(units), chance, size=len(drawn))
            yield drawn[:, cells]


@dataclass(frozen=True)
class Parameter:
    """A parameter of a family of metrics.

    Attributes:
        default: its value where none is given; its type says what is read.
        choices: the values it may have; empty for any.
        help: one line.
    """

    default: Any
    choices: tuple[Any, ...] = ()
    help: str = ""


@dataclass(frozen=True)
class Family:
    """An entry of the registry: a metric whose parameters are still open.

    Attributes:
        build: from the parameters, by name, to the metric.
        about: one line with the formula's name and its source.
        parameters: by name.
        tasks: where it belongs to the default set.
    """

    build: Callable[..., Metric]
    about: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()
