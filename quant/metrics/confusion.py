"""Metrics of the confusion matrix: rows are the truth, columns the prediction.

accuracy = correct / all; precision of a class = its hits / all predicted as it; recall = its hits / all that are it;
F1 = 2 hits / (predicted + actual). 0/0 is 0, as in scikit-learn.

All of them need three counts per class only, and take arrays of these with any leading axes: the resamples of a
bootstrap are one call, and a thousand classes need no million cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from quant.metrics.statistics import HELD_AT_ONCE, RESAMPLES, Interval, tango_interval

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.integer]
    Statistic = Callable[["ClassCounts"], Floats]
    Ratio = Callable[[Floats, Floats, Floats], tuple[Floats, Floats]]


class ClassCounts(NamedTuple):
    """What the metrics need of a confusion matrix, per class: three arrays of shape (..., C)."""

    hits: Floats
    actual: Floats
    predicted: Floats

    @classmethod
    def of(cls, truth: Integers, predicted: Integers, classes: int) -> ClassCounts:
        """Of labels and predictions; no matrix of the classes is made."""
        truth, predicted = truth.reshape(-1), predicted.reshape(-1)
        several = (truth[truth == predicted], truth, predicted)
        return cls(*(np.bincount(which, minlength=classes).astype(np.float64) for which in several))


def _ratio(top: Floats, bottom: Floats) -> Floats:
    return np.divide(top, bottom, out=np.zeros(np.broadcast_shapes(top.shape, bottom.shape)), where=bottom != 0)


def accuracy(counts: ClassCounts) -> Floats:
    """Correct over all."""
    return _ratio(counts.hits.sum(axis=-1), counts.actual.sum(axis=-1))


def averaged(per_class: Ratio, average: str, positive: int = 1) -> Statistic:
    """A per-class ratio averaged: "macro" (classes alike), "weighted" (by actual count) or "micro" (counts pooled).

    A class that is neither in the truth nor predicted does not enter, as in scikit-learn with default labels. "binary"
    is the ratio of the class `positive` alone.
    """

    def statistic(counts: ClassCounts) -> Floats:
        hits, actual, predicted = counts
        if average == "binary":
            return _ratio(*per_class(*(x[..., positive] for x in counts)))
        if average == "micro":
            hits, actual, predicted = (x.sum(axis=-1, keepdims=True) for x in counts)
        values = _ratio(*per_class(hits, actual, predicted))
        weights = actual if average == "weighted" else ((actual + predicted) > 0).astype(float)
        return _ratio((values * weights).sum(axis=-1), weights.sum(axis=-1))

    return statistic


def precision_parts(hits: Floats, _actual: Floats, predicted: Floats) -> tuple[Floats, Floats]:
    """Hits over predicted."""
    return hits, predicted


def recall_parts(hits: Floats, actual: Floats, _predicted: Floats) -> tuple[Floats, Floats]:
    """Hits over actual."""
    return hits, actual


def f1_parts(hits: Floats, actual: Floats, predicted: Floats) -> tuple[Floats, Floats]:
    """The harmonic mean of precision and recall."""
    return 2 * hits, actual + predicted


@dataclass(frozen=True)
class PairedCounts:
    """Predictions of two models on the same samples, as counts.

    Attributes:
        truth: classes, shape (n,).
        first: predicted classes of the first model, the same shape.
        second: of the second model.
        classes: number of classes.
    """

    truth: Integers
    first: Integers
    second: Integers
    classes: int

    @property
    def units(self) -> int:
        """Samples: what is drawn anew in a bootstrap."""
        return len(self.truth)

    @cached_property
    def discordant(self) -> tuple[int, int]:
        """Samples that only the first model gets right, and those that only the second does."""
        right = self.first == self.truth, self.second == self.truth
        return int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())

    def counts(self, predicted: Integers) -> ClassCounts:
        """What the metrics of one model are computed from."""
        return ClassCounts.of(self.truth, predicted, self.classes)

    @cached_property
    def present(self) -> Integers:
        """The classes that are in the truth or predicted by one of the models."""
        return np.unique(np.concatenate([self.truth, self.first, self.second]))

    @cached_property
    def _groups(self) -> _Groups:
        triples = np.stack([self.truth, self.first, self.second], axis=1)
        kinds, alike = np.unique(triples, axis=0, return_counts=True)
        units = [self._slots(*kind.reshape(3, 1)) for kind in kinds]
        unit = np.repeat(np.arange(len(kinds)), [len(slots) for slots in units])
        return _Groups.sorted(alike, unit, np.concatenate(units), np.ones(len(unit)))

    def _slots(self, truth: Integers, first: Integers, second: Integers) -> npt.NDArray[np.int64]:
        """Where items are tallied, class within count: actual, predicted and hit by the first, likewise the second."""
        truth, first, second = (x.reshape(-1).astype(np.int64) for x in (truth, first, second))
        where = [truth, first, truth[first == truth], second, truth[second == truth]]
        return np.concatenate([count * self.classes + classes for count, classes in enumerate(where)])

    def resampled(self, seed: int, resamples: int) -> Iterator[tuple[ClassCounts, ClassCounts]]:
        """Counts of both models under a paired bootstrap, a portion of the resamples at a time: arrays of shape (r, C).

        A bootstrap of few discordant pairs says that there is no difference at all. So each resample is extended by two
        samples that one of the models gets right, which one decided by a coin, their classes drawn as the labels are:
        the remedy of Agresti and Min, "Simple improved confidence intervals for comparing matched proportions",
        Statistics in Medicine 24 (2005) 729-740, who add two such observations to the table of a paired proportion.
        """
        generator = np.random.default_rng(seed)
        groups = self._groups
        portion = max(1, HELD_AT_ONCE // max(len(groups.unit), _SLOTS * self.classes))
        for done in range(0, resamples, portion):
            size = min(portion, resamples - done)
            drawn = generator.multinomial(self.units, groups.alike / self.units, size=size)
            tallies = groups.summed(drawn, _SLOTS * self.classes).reshape(size, _SLOTS, self.classes)
            self._extend(tallies, generator)
            actual, named_a, hits_a, named_b, hits_b = tallies.swapaxes(0, 1)
            yield ClassCounts(hits_a, actual, named_a), ClassCounts(hits_b, actual, named_b)

    def _extend(self, tallies: Floats, generator: np.random.Generator) -> None:
        rows, present = np.arange(len(tallies)), self.present
        for _ in range(2):
            truth = generator.choice(self.truth, len(rows))
            # A wrong answer is one that occurs: a class of which there is no sample would enter an average as a zero.
            steps = generator.integers(1, len(present), len(rows))
            other = present[(np.searchsorted(present, truth) + steps) % len(present)]
            coin = generator.random(len(rows)) < 0.5
            tallies[rows, 0, truth] += 1
            for count, right in ((1, coin), (3, ~coin)):
                tallies[rows, count, np.where(right, truth, other)] += 1
                tallies[rows, count + 1, truth] += right

    def interval(self, statistic: Statistic, seed: int) -> tuple[Interval, str]:
        """A 95 % interval for the drop of a statistic that lies between 0 and 1, and how it was made.

        It is Tango's interval for the accuracy drop, moved to the statistic's own drop and stretched by the ratio of
        their bootstrap deviations: a handful of discordant pairs makes the distribution lopsided, which a percentile
        bootstrap cannot know and the score interval does. Where all samples and predictions are of one class there is
        nothing to stretch by.
        """
        tango = tango_interval(*self.discordant, self.units)
        if len(self.present) < 2:
            return tango, "Tango score interval; there is a single class"
        first, second = self.counts(self.first), self.counts(self.second)
        drop, shift = (float(of(first) - of(second)) for of in (statistic, accuracy))
        pairs = [(statistic(a) - statistic(b), accuracy(a) - accuracy(b)) for a, b in self.resampled(seed, RESAMPLES)]
        drops, shifts = (np.concatenate(column) for column in zip(*pairs, strict=True))
        stretch = float(drops.std() / shifts.std())
        if stretch == 0:  # a class that neither model ever names or meets
            return tango, "Tango score interval"
        low, high = (drop + (end - shift) * stretch for end in tango)
        within = Interval(max(low, -1.0), min(high, 1.0))
        return within, f"Tango score interval, rescaled by a paired bootstrap, seed {seed}"


_SLOTS = 5  # counts per class that both models' metrics need: see PairedCounts._slots


class _Groups(NamedTuple):
    """Groups of equal units and what they add to each tally, sparse and sorted by tally.

    Attributes:
        alike: units in each group.
        unit: the group of each entry.
        value: what one such unit adds.
        starts: the first entry of each tally that has any.
        slots: those tallies.
    """

    alike: npt.NDArray[np.float64]
    unit: Integers
    value: npt.NDArray[np.float64]
    starts: Integers
    slots: Integers

    @classmethod
    def sorted(cls, alike: Integers | Floats, unit: Integers, slot: Integers, value: Integers | Floats) -> _Groups:
        """From entries in any order."""
        order = np.argsort(slot, kind="stable")
        slots, starts = np.unique(slot[order], return_index=True)
        return cls(alike.astype(np.float64), unit[order], value[order].astype(np.float64), starts, slots)

    def summed(self, drawn: npt.NDArray[np.int64], tallies: int) -> Floats:
        """The tallies of resamples that draw each group so many times: (r, groups) -> (r, tallies)."""
        total = np.zeros((len(drawn), tallies))
        total[:, self.slots] = np.add.reduceat(drawn[:, self.unit] * self.value, self.starts, axis=1)
        return total
