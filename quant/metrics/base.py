"""What a metric is: what it keeps of every batch, what it comes to, and how sure its drop is.

A metric sees one model's outputs at a time and keeps, for every unit (a sample, a map, an image), a record of bounded
size: a loss, a few counts, a score. Its value is a function of the records, each with a weight; equal weights give the
value itself, the counts of a resample one draw of the bootstrap. So one implementation serves any number of samples,
both models, and every interval.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from profiler.errors import DataError
from quant.metrics.statistics import HELD_AT_ONCE, Interval, percentile_interval, tango_interval

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Records = tuple[np.ndarray, ...]

FEWEST_UNITS = 5  # simulated coverage of a nominal 95 % interval: 0.91 here, 0.76 at 3 units, 0.5 at 2
FEW_DIFFERING = 10
CACHED = 100_000  # numbers: metrics go over a portion of weights several times, twice as fast where it stays in cache
FEWEST_ROWS = 16  # a metric sorts its scores once for each portion


@dataclass(frozen=True, eq=False)
class Evaluated:
    """One model on one batch.

    Attributes:
        outputs: by name, in the graph's order; axis 0 is the sample.
        labels: `y` and further ones, such as `boxes`; empty where there are none.
        inputs: what the model was given, by name.
        reference: the first model's outputs on the same samples, for fidelity; those of the model itself where it is
            the first. Empty where no metric looks at it (`Metric.refers`).
        kinds: by output, what scores of classes are, decided once for both models and all batches: "probabilities" or
            "logits". Where nobody has, a metric judges by the batch.
        positions: of these samples among all, shape (b,), for messages; None counts from 0.
        memo: what several metrics would compute alike, kept for the others.
    """

    outputs: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray]
    inputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    reference: Mapping[str, np.ndarray] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    positions: np.ndarray | None = None
    memo: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def output(self) -> np.ndarray:
        """The first output, which is what most metrics are about."""
        return next(iter(self.outputs.values()))

    def sample(self, index: int) -> int:
        """The number of a sample of this batch among all."""
        return index if self.positions is None else int(self.positions[index])


class UnfitError(DataError):
    """These outputs are not what the metric is about: left out of a default set, an error where it was asked for."""


class Metric(ABC):
    """A metric with its parameters settled.

    Attributes:
        higher_is_better: the direction.
        needs: names of the labels that it takes, `y` for most; empty for fidelity.
        unit: what one record is of: "sample", "map" or "image".
        bounds: the least and the largest drop that is possible. Where the least is 0 the drop is a distance, and to
            lie above 0 says nothing; where both are finite, differences are parts of one, as the limit of verdicts is.
        refers: whether it looks at the reference's outputs; a metric that needs no label does anyway.
    """

    higher_is_better: bool = True
    needs: tuple[str, ...] = ("y",)
    unit: str = "sample"
    bounds: tuple[float, float] = (-np.inf, np.inf)
    refers: bool = False

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

    def count(self, records: Records) -> int:
        """Units that enter the value; all, unless some are ignored."""
        return len(records[0])

    def strata(self, records: Records) -> np.ndarray | None:  # noqa: ARG002  # for those that override it
        """Shape (n,): units whose shares a resample must keep, as the classes of a curve; None where none must be."""
        return None

    def p_value(self, first: Records, second: Records, draws: Draws) -> float | None:  # noqa: ARG002  # for those that override it
        """Of a test that both models are equally good; None where there is no exact one."""
        return None

    def details(self, records: Records) -> Mapping[str, Any]:  # noqa: ARG002  # for those that override it
        """More than one number, for the JSON report: a curve, a value per class."""
        return {}

    def detectable(self, first: Records, interval: Interval, drop: float) -> float | None:  # noqa: ARG002  # as above
        """The smallest drop that so many units could show: at the spread that was seen, as far as the interval goes."""
        return None if self.bounds[0] == 0 else drop - interval.low

    def interval(self, first: Records, second: Records, draws: Draws) -> tuple[Interval | None, str]:
        """A 95 % interval for how much worse the second model is, and how it was made; None where there is none.

        A percentile bootstrap of the units. It knows nothing where hardly any unit differs, and would say [0, 0] of
        equal records: then the interval reaches at least as far as Tango's does without a discordant pair.
        """
        sign = 1.0 if self.higher_is_better else -1.0
        if draws.groups is None:
            draws = replace(draws, strata=self.strata(first))
        if draws.fewest < FEWEST_UNITS:
            every = Interval(*self.bounds) if np.isfinite(self.bounds).all() else None
            return every, f"none: {draws.fewest} {draws.unit}s, an interval takes {FEWEST_UNITS}"
        parts = [sign * (self.resampled(first, w) - self.resampled(second, w)) for w in draws.weights()]
        drop = sign * (self.value(first) - self.value(second))
        drops = np.concatenate(parts)
        drops = drops[np.isfinite(drops)]
        if len(drops) < draws.resamples / 2:
            return None, "none: most resamples lack a class"
        low, high = percentile_interval(drops, units=draws.fewest)
        method = f"paired bootstrap of {draws.units} {draws.unit}s, seed {draws.seed}"
        differing = draws.differing(first, second)
        if differing < FEW_DIFFERING:
            if not np.isfinite(self.bounds).all():
                return None, f"none: {differing} {draws.unit}s differ, an interval takes {FEW_DIFFERING}"
            reach = tango_interval(0, 0, draws.units).high * self.bounds[1]
            low, high = min(low, drop - reach), max(high, drop + reach)
            method += f", widened: {differing} differ"
        return Interval(max(min(low, drop), self.bounds[0]), min(max(high, drop), self.bounds[1])), method


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

    @property
    def fewest(self) -> int:
        """How many there are in the smallest stratum."""
        return self.units if self.strata is None else int(np.unique(self.strata, return_counts=True)[1].min())

    def differing(self, first: Records, second: Records) -> int:
        """Of the units, those on which two models' records differ."""
        apart = np.zeros(self.count, bool)
        for a, b in zip(first, second, strict=True):
            if a.dtype.hasobject:
                apart |= [not np.array_equal(x, y) for x, y in zip(a, b, strict=True)]
            else:
                known = [x.astype(np.float64) for x in (a, b)]
                same = (known[0] == known[1]) | (np.isnan(known[0]) & np.isnan(known[1]))
                apart |= ~same.reshape(len(a), -1).all(axis=1)
        return int(apart.sum()) if self.groups is None else len(np.unique(self.groups[apart]))

    def weights(self) -> Iterator[Floats]:
        """How often each unit counts, a portion of the resamples at a time: arrays of shape (r, n)."""
        generator = np.random.default_rng(self.seed)
        cells = np.arange(self.count) if self.groups is None else np.unique(self.groups, return_inverse=True)[1]
        strata = np.zeros(self.count, int) if self.strata is None else np.unique(self.strata, return_inverse=True)[1]
        home = np.zeros(self.units, int)
        home[cells] = strata  # groups lie within strata
        members = [np.flatnonzero(home == stratum) for stratum in range(home.max() + 1)]
        portion = max(1, min(max(FEWEST_ROWS, CACHED // self.count), HELD_AT_ONCE // self.count))
        for done in range(0, self.resamples, portion):
            drawn = np.zeros((min(portion, self.resamples - done), self.units))
            for units in members:
                drawn[:, units] = _counts_of_draws(generator, len(drawn), len(units))
            yield drawn[:, cells]


def _counts_of_draws(generator: np.random.Generator, rows: int, units: int) -> np.ndarray:
    """How often each of so many units comes up in as many draws, in every row."""
    drawn = generator.integers(0, units, (rows, units)) + np.arange(rows)[:, None] * units
    return np.bincount(drawn.reshape(-1), minlength=rows * units).reshape(rows, units)


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
