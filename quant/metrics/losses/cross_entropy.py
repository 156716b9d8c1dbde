"""Cross-entropy in nats: integer labels, one-hot labels and distributions, label smoothing, class weights.

-sum_c w_c t_c log p_c, where label smoothing turns t into (1 - eps) t + eps/C. The mean divides by the sum of the
samples' class weights, as torch's does for integer labels; so integer and one-hot labels come to the same with weights,
too (torch divides by the number of samples where labels are distributions).

`weight=balanced` is w_c = n/(C n_c), with n_c the labels of class c over the whole data. The weighted mean then is the
mean over classes of each class's mean loss, whatever the batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from profiler.errors import DataError, UsageError
from quant.metrics.base import Evaluated, Family, Metric, Parameter
from quant.metrics.losses._inputs import (
    IGNORING,
    NONE,
    at_least,
    classes_of,
    distributions,
    ignored_label,
    label_of,
    located,
    needed,
    numbers,
    optional_whole,
    output_of,
    tensor,
    within,
)
from quant.metrics.losses._kind import AUTO, FROM_LOGITS, are_logits, checked
from quant.metrics.losses._loss import CLAMP, CLAMP_DEFAULT, LABELS, OUTPUT, Loss
from quant.metrics.losses.probabilistic import PROBABILITIES, class_log_probabilities

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from quant.metrics.base import Records
    from quant.metrics.losses._loss import Parts

    Floats = npt.NDArray[np.float64]

BALANCED = "balanced"
MOST_CELLS = 50_000_000  # classes times samples, of maps with balanced weights


def class_weights(labels: npt.ArrayLike, classes: int) -> Floats:
    """w_c = n/(C n_c), shape (C,); infinite for a class without a label."""
    counts = np.bincount(np.asarray(labels).reshape(-1), minlength=classes)
    with np.errstate(divide="ignore"):
        return np.asarray(counts.sum() / (classes * counts), dtype=np.float64)


def sparse_cross_entropy(
    output: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    from_logits: bool = True,
    clamp: float = CLAMP_DEFAULT,
    label_smoothing: float = 0.0,
    weight: npt.ArrayLike | None = None,
    ignore: int | None = None,
) -> Parts:
    """Cross-entropy with integer labels.

    Args:
        output: logits or probabilities, (n, C, ...), C along axis 1.
        labels: classes, (n, ...).
        from_logits: which of both the output is.
        clamp: the least probability that is believed.
        label_smoothing: eps; targets are (1 - eps) one-hot + eps/C.
        weight: of every class, (C,).
        ignore: a label whose positions do not count.

    Returns:
        Weighted losses and weights, both of the shape (n, ...): the mean is the sum of one over the sum of the other.
    """
    log_p = class_log_probabilities(output, from_logits=from_logits, clamp=clamp).movedim(1, -1).numpy()
    y = np.asarray(labels)
    counts = np.ones(y.shape, bool) if ignore is None else y != ignore
    safe = np.where(counts, y, 0)
    w = np.ones(log_p.shape[-1]) if weight is None else np.asarray(weight, dtype=np.float64)
    hit = -np.take_along_axis(log_p, safe[..., None], axis=-1)[..., 0] * w[safe]
    losses = (1 - label_smoothing) * hit
    if label_smoothing:
        losses += label_smoothing / log_p.shape[-1] * -(log_p @ w)
    return np.where(counts, losses, 0.0), np.where(counts, w[safe], 0.0)


def cross_entropy(
    output: npt.ArrayLike,
    targets: npt.ArrayLike,
    *,
    from_logits: bool = True,
    clamp: float = CLAMP_DEFAULT,
    label_smoothing: float = 0.0,
    weight: npt.ArrayLike | None = None,
) -> Parts:
    """Cross-entropy with distributions as targets, one-hot or soft: both of the shape (n, C, ...), C along axis 1.

    Arguments and result are those of `sparse_cross_entropy`; a position's weight is sum_c w_c t_c.
    """
    log_p = class_log_probabilities(output, from_logits=from_logits, clamp=clamp)
    t = tensor(targets)
    classes = t.shape[1]
    w = tensor(np.ones(classes) if weight is None else weight).reshape(1, -1, *[1] * (t.ndim - 2))
    smooth = (1 - label_smoothing) * t + label_smoothing / classes
    return (-(w * smooth * log_p).sum(dim=1)).numpy(), (w * t).sum(dim=1).numpy()


@dataclass(frozen=True)
class _Options:
    from_logits: object
    clamp: float
    label_smoothing: float
    weight: Floats | None
    ignore: int | None
    sparse: bool

    def parts(self, batch: Evaluated, name: str, labels: np.ndarray) -> Parts:
        """Losses and weights per position, of whatever form the labels are."""
        output, logits = output_of(batch, name), are_logits(batch, name, self.from_logits)
        self._check(output, logits)
        common: dict[str, Any] = {
            "from_logits": logits,
            "clamp": self.clamp,
            "label_smoothing": self.label_smoothing,
            "weight": self.weight,
        }
        if not self.sparse and labels.ndim == output.ndim and labels.shape == output.shape:
            if self.ignore is not None:
                raise DataError(f"ignore goes with classes as labels, not with distributions {labels.shape}")
            targets = distributions(labels, "the labels", "give classes, or probabilities along axis 1")
            return cross_entropy(output, targets, **common)
        ignored = ignored_label(self.ignore, output)
        classes = classes_of(labels, output, ignored, IGNORING)
        return sparse_cross_entropy(output, classes, ignore=ignored, **common)

    def _check(self, output: np.ndarray, logits: bool) -> None:  # noqa: FBT001  # internal
        if not logits:
            within(output.astype(np.float64), 0.0, 1.0, "the output", PROBABILITIES)
        if self.weight is not None and output.ndim > 1 and len(self.weight) != output.shape[1]:
            raise DataError(f"{len(self.weight)} weights for {output.shape[1]} classes, output {output.shape}")


@dataclass(frozen=True, eq=False)
class _Balanced(Metric):
    """The mean over classes of each one's mean loss.

    Records: the loss and the class of every sample, (n,) each; for maps every class's sum of losses and its count,
    (n, C) each. A class that no drawn sample has is left out.
    """

    options: _Options
    output: str
    target: str
    needs: tuple[str, ...]
    higher_is_better = False

    def collect(self, batch: Evaluated) -> Records:
        """Losses and classes, or sums and counts."""
        with located(batch):
            return self._records(batch)

    def _records(self, batch: Evaluated) -> Records:
        output = output_of(batch, self.output)
        classes = classes_of(label_of(batch, self.target), output, ignored_label(self.options.ignore, output), IGNORING)
        losses, counted = self.options.parts(batch, self.output, classes)
        if classes.ndim == 1:
            return losses, np.where(counted > 0, classes, -1)
        n, of = len(output), output.shape[1]
        if n * of > MOST_CELLS:
            raise DataError(f"balanced weights of maps hold {n} x {of} sums per batch: too many; use smaller batches")
        cells = np.where(counted > 0, classes + of * np.arange(n).reshape(-1, *[1] * (classes.ndim - 1)), n * of)
        sums, counts = (
            np.bincount(cells.reshape(-1), weights=w, minlength=n * of + 1)[:-1].reshape(n, of)
            for w in (losses.reshape(-1), None)
        )
        return sums, counts.astype(np.float64)

    def resampled(self, records: Records, weights: Floats) -> Floats:
        """As `Metric`."""
        sums, counts = self._by_class(records, weights)
        present = counts > 0
        means = np.divide(sums, counts, out=np.zeros_like(sums), where=present)
        return np.asarray(means.sum(axis=1) / np.maximum(present.sum(axis=1), 1), dtype=np.float64)

    @staticmethod
    def _by_class(records: Records, weights: Floats) -> Parts:
        first, second = records
        if first.ndim == 2:
            return weights @ first, weights @ second
        order = np.flatnonzero(second >= 0)
        order = order[np.argsort(second[order], kind="stable")]
        if not len(order):
            return np.zeros((len(weights), 1)), np.zeros((len(weights), 1))
        starts = np.unique(second[order], return_index=True)[1]
        drawn = weights[:, order]
        return np.add.reduceat(drawn * first[order], starts, axis=1), np.add.reduceat(drawn, starts, axis=1)


class _CrossEntropy(Loss):
    """A mean that some samples may weigh nothing in."""

    def count(self, records: Records) -> int:
        """Samples that are not ignored."""
        return int(np.count_nonzero(records[1]))


def _build(
    *,
    output: str = "",
    target: str = "y",
    from_logits: object = AUTO,
    clamp: float = CLAMP_DEFAULT,
    label_smoothing: float = 0.0,
    weight: object = NONE,
    ignore: object = NONE,
    sparse: bool = False,
) -> Metric:
    at_least(0, label_smoothing=label_smoothing)
    at_least(0, above=True, clamp=clamp)
    checked(from_logits)
    if label_smoothing > 1:
        raise UsageError(f"label_smoothing={label_smoothing:g} lies above 1")
    balanced = isinstance(weight, str) and weight == BALANCED
    given = None if balanced or weight in (NONE, None) else numbers(weight, "weight")
    if given is not None:
        at_least(0, weight=float(given.min()))
    if balanced and label_smoothing:
        raise UsageError("weight=balanced goes without label_smoothing, which would spread the weights; give numbers")
    ignored = optional_whole(ignore, "ignore")
    options = _Options(from_logits, clamp, label_smoothing, given, ignored, sparse)
    if balanced:
        return _Balanced(options, output, target, needed(target))

    def losses(batch: Evaluated) -> Parts:
        top, bottom = options.parts(batch, output, label_of(batch, target))
        return top.reshape(len(top), -1).sum(axis=1), bottom.reshape(len(bottom), -1).sum(axis=1)

    return _CrossEntropy(losses, needed(target))


def _build_sparse(**parameters: Any) -> Metric:  # noqa: ANN401  # the registry's
    return _build(**parameters, sparse=True)


_PARAMETERS: Mapping[str, Parameter] = {
    "output": OUTPUT,
    "target": LABELS,
    "from_logits": FROM_LOGITS,
    "clamp": CLAMP,
    "label_smoothing": Parameter(0.0, help="eps: targets are (1 - eps) one-hot + eps/C"),
    "weight": Parameter(NONE, help="of the classes: numbers with commas between, or `balanced` for n/(C n_c)"),
    "ignore": Parameter(NONE, help="a label whose positions do not count"),
}

FAMILIES: Mapping[str, Family] = {
    "ce": Family(_build, "cross-entropy in nats; labels are classes, one-hot or distributions", _PARAMETERS),
    "sparse_ce": Family(_build_sparse, "cross-entropy in nats; labels are classes", _PARAMETERS),
}
