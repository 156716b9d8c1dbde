"""Losses of embeddings whose pairs and triplets come from all samples, so that the batches do not change the value.

Every sample is an anchor; the others are what it is compared with. What is kept of a sample is its vector in float32
and its class. Resamples draw anchors, while the samples that these are compared with stay as they are: the interval
is about other anchors against the same gallery. That needs each anchor's loss only once, where drawing the gallery anew
would be n^2 work per resample.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from profiler.errors import DataError
from quant.metrics.base import Evaluated, MeanMetric, Metric
from quant.metrics.losses._inputs import label_of, needed, output_of, same_vectors, tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy.typing as npt

    from quant.metrics.base import Draws, Records
    from quant.metrics.losses._loss import Parts
    from quant.metrics.statistics import Interval

    Floats = npt.NDArray[np.float64]
    Rule = Callable[[Floats, Floats, float], tuple[float, float]]

MOST = 5_000  # samples: all pairs are looked at, some ten seconds for that many
HELD = 4_000_000  # distances at a time


def normalized(vectors: npt.ArrayLike) -> Floats:
    """Vectors scaled to length 1 along the last axis; zero stays zero."""
    found = np.asarray(vectors, dtype=np.float64)
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=-1, keepdims=True), 1e-12), dtype=np.float64)


def all_triplets(positives: Floats, negatives: Floats, margin: float) -> tuple[float, float]:
    """Sum over every positive and every negative of one anchor, and how many there are.

    Args:
        positives: distances, (P,).
        negatives: distances in rising order, (N,).
        margin: of the loss.
    """
    summed = np.concatenate([[0.0], np.cumsum(negatives)])
    reach = positives + margin
    inside = np.searchsorted(negatives, reach)
    return float(np.maximum(inside * reach - summed[inside], 0.0).sum()), float(len(positives) * len(negatives))


def hard_triplets(positives: Floats, negatives: Floats, margin: float) -> tuple[float, float]:
    """The farthest positive against the nearest negative (Hermans et al. 2017), one triplet per anchor."""
    return max(0.0, float(positives.max() - negatives[0] + margin)), 1.0


def semi_hard_triplets(positives: Floats, negatives: Floats, margin: float) -> tuple[float, float]:
    """Every positive against the nearest negative that is farther than it; the farthest where there is none."""
    beyond = np.minimum(np.searchsorted(negatives, positives, side="right"), len(negatives) - 1)
    return float(np.maximum(0.0, positives - negatives[beyond] + margin).sum()), float(len(positives))


in_triplets: Mapping[str, Rule] = {"all": all_triplets, "hard": hard_triplets, "semi-hard": semi_hard_triplets}


@dataclass(frozen=True, eq=False)
class _Gallery(Metric):
    """The mean over anchors of what the subclass finds in each one's comparison with all other samples.

    Attributes:
        memo: the last two records and what came of them: a report wants the value and the interval of both models.
    """

    memo: deque[tuple[Records, Parts]] = field(default_factory=lambda: deque(maxlen=2), init=False, repr=False)
    higher_is_better = False

    @abstractmethod
    def anchors(self, records: Records) -> Parts:
        """Every anchor's sum of losses, and how many losses these are, (n,) each."""

    def reduced(self, records: Records) -> Parts:
        """As `anchors`, for at most `MOST` samples of which some can be compared.

        Raises:
            DataError: too many samples, or none to compare.
        """
        for known, parts in self.memo:
            if all(a is b for a, b in zip(known, records, strict=True)):
                return parts
        n = len(records[0])
        if n > MOST:
            raise DataError(
                f"all pairs of {n} samples are too many: this loss takes {MOST} at most; give fewer samples"
            )
        top, bottom = self.anchors(records)
        if not bottom.any():
            raise DataError(self._nothing(n))
        self.memo.append((records, (top, bottom)))
        return top, bottom

    def _nothing(self, n: int) -> str:
        return f"no pair to compare among {n} samples: two samples of one class are wanted, and one of another"

    def resampled(self, records: Records, weights: Floats) -> Floats:
        """As `Metric`; what is drawn are anchors."""
        return MeanMetric.resampled(self, self.reduced(records), weights)  # type: ignore[arg-type]  # uses no self

    def interval(self, first: Records, second: Records, draws: Draws) -> tuple[Interval | None, str]:
        """As `Metric`, with every anchor's loss computed once."""
        found, method = _Anchors().interval(self.reduced(first), self.reduced(second), draws)
        return found, f"{method}, each against all others as they are"


class _Anchors(MeanMetric):
    """Anchors whose losses are known."""

    higher_is_better = False

    def collect(self, batch: Evaluated) -> Records:
        """Never needed."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class _OfClasses(_Gallery):
    """One embedding output and classes as labels."""

    output: str
    target: str
    normalize: bool = False
    needs: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs", needed(self.target))

    def collect(self, batch: Evaluated) -> Records:
        """Vectors in float32 (n, d) and classes (n,)."""
        vectors, labels = output_of(batch, self.output), label_of(batch, self.target)
        same_vectors(output=vectors)
        if labels.size != len(vectors):
            raise DataError(
                f"the labels have the size {labels.shape}; one class per sample is wanted, ({len(vectors)},)"
            )
        return vectors.astype(np.float32), labels.reshape(-1)

    def _rows(self, records: Records, compare: Callable[[Any, Any], Any]) -> Iterator[tuple[int, Floats, Any, Any]]:
        """Of every anchor its comparisons with all samples, which are of its class, and which of another."""
        vectors, classes = records
        found = normalized(vectors) if self.normalize else vectors.astype(np.float64)
        for i, row in _compared(found, found, compare):
            same = classes == classes[i]
            other = ~same
            same[i] = False
            yield i, row, same, other


def _compared(a: Floats, b: Floats, compare: Callable[[Any, Any], Any]) -> Iterator[tuple[int, Floats]]:
    every = tensor(b)
    size = max(1, HELD // len(b))
    for start in range(0, len(a), size):
        yield from enumerate(compare(tensor(a[start : start + size]), every).numpy(), start)


def _distances(a: Any, b: Any) -> Any:  # noqa: ANN401  # tensors, without importing torch for their type
    import torch

    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


@dataclass(frozen=True, eq=False)
class ClassContrastive(_OfClasses):
    """Contrastive loss of all pairs of different samples, similar where their classes are equal."""

    margin: float = 1.0
    factor: float = 1.0

    def anchors(self, records: Records) -> Parts:
        """As `_Gallery`."""
        n = len(records[0])
        top = np.zeros(n)
        for i, d, same, other in self._rows(records, _distances):
            top[i] = (d[same] ** 2).sum() + (np.maximum(0.0, self.margin - d[other]) ** 2).sum()
        return self.factor * top, np.full(n, n - 1.0)

    def _nothing(self, n: int) -> str:
        return f"no pair to compare among {n} samples; two are wanted"


@dataclass(frozen=True, eq=False)
class ClassTriplet(_OfClasses):
    """Triplet loss, by a rule for which triplets count."""

    margin: float = 1.0
    rule: Rule = all_triplets
    squared: bool = False

    def anchors(self, records: Records) -> Parts:
        """As `_Gallery`."""
        n = len(records[0])
        parts = np.zeros((2, n))
        for i, row, same, other in self._rows(records, _distances):
            if same.any() and other.any():
                d = row**2 if self.squared else row
                parts[:, i] = self.rule(d[same], np.sort(d[other]), self.margin)
        return parts[0], parts[1]


@dataclass(frozen=True, eq=False)
class ClassInfoNCE(_OfClasses):
    """InfoNCE of every pair of one class, the samples of all other classes its negatives."""

    temperature: float = 0.07

    def anchors(self, records: Records) -> Parts:
        """As `_Gallery`."""
        n = len(records[0])
        parts = np.zeros((2, n))
        for i, row, same, other in self._rows(records, lambda a, b: a @ b.T / self.temperature):
            if same.any() and other.any():
                against = np.logaddexp.reduce(row[other])
                parts[:, i] = np.logaddexp(0.0, against - row[same]).sum(), same.sum()
        return parts[0], parts[1]


@dataclass(frozen=True, eq=False)
class PairedInfoNCE(_Gallery):
    """InfoNCE of queries whose negatives are the positives of all other samples."""

    query: str
    positive: str
    normalize: bool = True
    temperature: float = 0.07
    needs = ()

    def collect(self, batch: Evaluated) -> Records:
        """Queries and positives in float32, (n, d) each."""
        q, k = output_of(batch, self.query), output_of(batch, self.positive)
        same_vectors(query=q, positive=k)
        return q.astype(np.float32), k.astype(np.float32)

    def anchors(self, records: Records) -> Parts:
        """As `_Gallery`."""
        q, k = (normalized(x) if self.normalize else x.astype(np.float64) for x in records)
        n = len(q)
        top = np.zeros(n)
        for i, row in _compared(q, k, lambda a, b: a @ b.T / self.temperature):
            top[i] = np.logaddexp.reduce(row) - row[i]
        return top, np.full(n, float(n > 1))

    def _nothing(self, n: int) -> str:
        return f"no negative among {n} samples; two are wanted"
