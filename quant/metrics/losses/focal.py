"""Focal loss and what its weights come to.

FL = -alpha_t (1 - p_t)^gamma log p_t, alpha for the positive class and 1 - alpha for the other (Lin et al. 2017). With
w = (1 - p_t)^gamma the effective sample count is N_eff = sum w_i and the weights' entropy
H = -sum (w_i/N_eff) log(w_i/N_eff), in nats. Its gradient in the logit of the true class is
(1 - p)^gamma [gamma p log p - (1 - p)], which is (1 - p)^gamma [1 - gamma p log p/(1 - p)] times cross-entropy's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from profiler.errors import DataError, UsageError
from quant.metrics.base import Evaluated, Family, Metric, Parameter
from quant.metrics.losses._inputs import (
    NONE,
    at_least,
    classes_of,
    label_of,
    needed,
    numbers,
    output_of,
    per_sample,
    same_shape,
    whole,
    within,
)
from quant.metrics.losses._kind import AUTO, FROM_LOGITS, are_logits, checked
from quant.metrics.losses._loss import CLAMP, CLAMP_DEFAULT, LABELS, OUTPUT, Loss
from quant.metrics.losses.probabilistic import (
    PROBABILITIES,
    binary_log_probabilities,
    class_log_probabilities,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from quant.metrics.base import Records
    from quant.metrics.losses._loss import Parts

    Floats = npt.NDArray[np.float64]


def focal(log_p: npt.ArrayLike, gamma: float = 2.0, alpha: npt.ArrayLike = 1.0) -> Floats:
    """-alpha (1 - p)^gamma log p of the true class's log-probability, element by element."""
    log_p = np.asarray(log_p, dtype=np.float64)
    return np.asarray(-np.asarray(alpha) * focal_weights(log_p, gamma) * log_p, dtype=np.float64)


def focal_weights(log_p: npt.ArrayLike, gamma: float = 2.0) -> Floats:
    """(1 - p)^gamma of log p, exact for p near 1, too."""
    return np.asarray((-np.expm1(np.asarray(log_p, dtype=np.float64))) ** gamma, dtype=np.float64)


def focal_gradient(log_p: npt.ArrayLike, gamma: float = 2.0) -> Floats:
    """The gradient in the true class's logit, without alpha."""
    log_p = np.asarray(log_p, dtype=np.float64)
    p, q = np.exp(log_p), -np.expm1(log_p)
    return np.asarray(q**gamma * (gamma * p * log_p - q), dtype=np.float64)


def true_log_probabilities(
    output: np.ndarray, labels: np.ndarray, *, from_logits: bool = True, clamp: float = CLAMP_DEFAULT
) -> Floats:
    """The log of p_t: of two classes where output and labels have one shape, of C where the output's axis 1 holds them.

    Raises:
        DataError: shapes and labels that are neither.
    """
    if not from_logits:
        within(output.astype(np.float64), 0.0, 1.0, "the output", PROBABILITIES)
    if is_binary(output, labels):
        found, wanted = same_shape(output, labels)
        positive = whole(wanted, 0, 1, "the classes") == 1
        log_p, log_q = binary_log_probabilities(found, from_logits=from_logits, clamp=clamp)
        return np.where(positive, log_p, log_q)
    classes = classes_of(labels, output)
    every = class_log_probabilities(output, from_logits=from_logits, clamp=clamp).movedim(1, -1).numpy()
    return np.asarray(np.take_along_axis(every, classes[..., None], axis=-1)[..., 0])


def is_binary(output: np.ndarray, labels: np.ndarray) -> bool:
    """Whether every number of the output has a label of its own, 0 or 1."""
    return output.size == labels.size


def _alphas(alpha: Floats | None, output: np.ndarray, labels: np.ndarray) -> Floats:
    if alpha is None:
        return np.ones(1)
    if is_binary(output, labels):
        if len(alpha) > 1:
            raise DataError(f"one alpha for two classes (of the positive one), got {len(alpha)}")
        return np.where(labels.reshape(output.shape) == 1, alpha, 1 - alpha)
    if len(alpha) != output.shape[1]:
        raise DataError(f"{len(alpha)} alphas for {output.shape[1]} classes; give one for each, or none")
    return alpha[classes_of(labels, output)]


class _Total(Loss):
    """A sum over samples."""

    def resampled(self, records: Records, weights: Floats) -> Floats:
        """As `Metric`."""
        return weights @ records[0]


class _Entropy(Loss):
    """log N - (sum w log w)/N, which is the entropy of w/N; records are w log w and w."""

    def resampled(self, records: Records, weights: Floats) -> Floats:
        """As `Metric`. 0 where there is no weight at all."""
        total = weights @ records[1]
        mean = super().resampled(records, weights)
        return np.where(total > 0, np.log(np.where(total > 0, total, 1.0)) - mean, 0.0)


def _checked(gamma: float, clamp: float, from_logits: object) -> None:
    checked(from_logits)
    at_least(0, gamma=gamma)
    at_least(0, above=True, clamp=clamp)


def _build_focal(
    *,
    output: str = "",
    target: str = "y",
    from_logits: object = AUTO,
    clamp: float = CLAMP_DEFAULT,
    gamma: float = 2.0,
    alpha: object = NONE,
) -> Metric:
    _checked(gamma, clamp, from_logits)
    given = None if alpha in (NONE, None) else numbers(alpha, "alpha")
    if given is not None and (given.min() < 0 or (len(given) == 1 and given[0] > 1)):
        raise UsageError(f"alpha={alpha}: a number from 0 to 1, or one of at least 0 for every class")

    def losses(batch: Evaluated) -> Floats:
        scores, labels = output_of(batch, output), label_of(batch, target)
        logits = are_logits(batch, output, from_logits, classes=not is_binary(scores, labels))
        log_p = true_log_probabilities(scores, labels, from_logits=logits, clamp=clamp)
        return per_sample(focal(log_p, gamma, _alphas(given, scores, labels)))

    return Loss(losses, needed(target))


def _build_weights(
    kind: type[Loss],
    *,
    output: str = "",
    target: str = "y",
    from_logits: object = AUTO,
    clamp: float = CLAMP_DEFAULT,
    gamma: float = 2.0,
) -> Metric:
    _checked(gamma, clamp, from_logits)

    def parts(batch: Evaluated) -> Parts:
        scores, labels = output_of(batch, output), label_of(batch, target)
        logits = are_logits(batch, output, from_logits, classes=not is_binary(scores, labels))
        log_p = true_log_probabilities(scores, labels, from_logits=logits, clamp=clamp)
        w = focal_weights(log_p, gamma).reshape(len(scores), -1)
        spread = w * np.log(np.where(w > 0, w, 1.0))
        return (w if kind is _Total else spread).sum(axis=1), w.sum(axis=1)

    return kind(parts, needed(target))


def _build_effective(**parameters: Any) -> Metric:  # noqa: ANN401  # the registry's
    return _build_weights(_Total, **parameters)


def _build_entropy(**parameters: Any) -> Metric:  # noqa: ANN401  # the registry's
    return _build_weights(_Entropy, **parameters)


_PARAMETERS: Mapping[str, Parameter] = {
    "output": OUTPUT,
    "target": LABELS,
    "from_logits": FROM_LOGITS,
    "clamp": CLAMP,
    "gamma": Parameter(2.0, help="how much easy samples are played down; 0 is cross-entropy"),
}

FAMILIES: Mapping[str, Family] = {
    "focal": Family(
        _build_focal,
        "focal loss -alpha_t (1 - p_t)^gamma log p_t (Lin et al. 2017), binary or of classes",
        {**_PARAMETERS, "alpha": Parameter(NONE, help="of the positive class (the other has 1 - alpha), or one each")},
    ),
    "focal_effective_samples": Family(
        _build_effective, "sum of the focal weights (1 - p_t)^gamma: how many samples still count", _PARAMETERS
    ),
    "focal_weight_entropy": Family(
        _build_entropy, "entropy in nats of the focal weights: over how many samples they spread", _PARAMETERS
    ),
}
