"""Losses of probabilities: binary cross-entropy and the Kullback-Leibler divergence, in nats.

BCE = -(y log p + (1 - y) log(1 - p)); KL(p, q) = sum p log(p/q), p the reference and q what is judged: never negative,
and equal to the cross-entropy where p is one-hot. Both as in torch.nn.functional, which computes the second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from profiler.errors import DataError
from quant.metrics.base import Evaluated, Family, Metric, Parameter
from quant.metrics.losses._inputs import (
    REFERENCE,
    at_least,
    distributions,
    needed,
    numbers,
    output_of,
    per_sample,
    same_shape,
    target_of,
    tensor,
    within,
)
from quant.metrics.losses._kind import AUTO, FROM_LOGITS, are_logits, checked
from quant.metrics.losses._loss import CLAMP, CLAMP_DEFAULT, LABELS, OUTPUT, Loss, drop_bounds

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    import torch

    Floats = npt.NDArray[np.float64]


def binary_log_probabilities(
    output: npt.ArrayLike, *, from_logits: bool = True, clamp: float = CLAMP_DEFAULT
) -> tuple[Floats, Floats]:
    """The logs of p and 1 - p, of the output's shape; from logits they are exact however far these lie out."""
    values = np.asarray(output, dtype=np.float64)
    if from_logits:
        return -np.logaddexp(0.0, -values), -np.logaddexp(0.0, values)
    return np.log(np.maximum(values, clamp)), np.log(np.maximum(1 - values, clamp))


def class_log_probabilities(
    output: npt.ArrayLike, *, from_logits: bool = True, clamp: float = CLAMP_DEFAULT
) -> torch.Tensor:
    """The log of p over the classes of axis 1."""
    values = tensor(output)
    return values.log_softmax(dim=1) if from_logits else values.clamp(min=clamp).log()


def bce(
    output: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    from_logits: bool = True,
    clamp: float = CLAMP_DEFAULT,
    pos_weight: npt.ArrayLike = 1.0,
) -> Floats:
    """Binary cross-entropy of every sample, the mean over what is in one: (n, ...) -> (n,).

    Args:
        output: logits, or probabilities.
        target: the probability of the positive class, of the same shape; mostly 0 or 1.
        from_logits: which of both the output is.
        clamp: the least value whose logarithm is taken, for probabilities.
        pos_weight: factor of the positive part, one or one per entry of the last axis, as torch's.
    """
    log_p, log_q = binary_log_probabilities(output, from_logits=from_logits, clamp=clamp)
    y, weight = (np.asarray(x, dtype=np.float64) for x in (target, pos_weight))
    return per_sample(-(weight * y * log_p + (1 - y) * log_q))


def kl_divergence(
    reference: npt.ArrayLike,
    output: npt.ArrayLike,
    *,
    from_logits: bool = True,
    clamp: float = CLAMP_DEFAULT,
    log_target: bool = False,
) -> Floats:
    """KL(p, q) of every sample, the mean over its positions: two (n, C, ...) -> (n,).

    Args:
        reference: p, probabilities over axis 1.
        output: q, logits or probabilities.
        from_logits: which of both q is.
        clamp: the least q that is believed, for probabilities.
        log_target: whether `reference` holds the logarithms of p.
    """
    import torch.nn.functional as F

    log_q = class_log_probabilities(output, from_logits=from_logits, clamp=clamp)
    each = F.kl_div(log_q, tensor(reference), reduction="none", log_target=log_target)
    return per_sample(each.sum(dim=1).numpy())


PROBABILITIES = "these are no probabilities; from_logits=true takes logits"


def _build_bce(
    *,
    output: str = "",
    target: str = "y",
    from_logits: object = AUTO,
    clamp: float = CLAMP_DEFAULT,
    pos_weight: object = "1",
) -> Metric:
    weights = numbers(pos_weight, "pos_weight")
    at_least(0, pos_weight=float(weights.min()))
    at_least(0, above=True, clamp=clamp)
    checked(from_logits)

    def losses(batch: Evaluated) -> Floats:
        found, wanted = same_shape(output_of(batch, output), target_of(batch, target, output))
        within(wanted, 0.0, 1.0, "the label", "1 is the positive class")
        logits = are_logits(batch, output, from_logits, classes=False)
        if not logits:
            within(found, 0.0, 1.0, "the output", PROBABILITIES)
        if len(weights) > 1 and found.shape[-1] != len(weights):
            raise DataError(f"{len(weights)} pos_weight for an output of {found.shape}; one per entry of its last axis")
        return bce(found, wanted, from_logits=logits, clamp=clamp, pos_weight=weights)

    return Loss(losses, needed(target))


def _build_kl(
    *,
    output: str = "",
    target: str = REFERENCE,
    from_logits: object = AUTO,
    clamp: float = CLAMP_DEFAULT,
) -> Metric:
    at_least(0, above=True, clamp=clamp)
    checked(from_logits)

    def losses(batch: Evaluated) -> Floats:
        found = output_of(batch, output)
        if found.ndim < 2 or found.shape[1] < 2:
            raise DataError(f"the output has the size {found.shape}; two classes or more are wanted along axis 1")
        found, wanted = same_shape(found, target_of(batch, target, output), "reference")
        logits = are_logits(batch, output, from_logits)
        if not logits:
            within(found, 0.0, 1.0, "the output", PROBABILITIES)
        known = target == REFERENCE
        if known:
            wanted = class_log_probabilities(wanted, from_logits=logits, clamp=clamp).numpy()
        else:
            distributions(wanted, "the labels", "they are the reference distribution")
        return kl_divergence(wanted, found, from_logits=logits, clamp=clamp, log_target=known)

    return Loss(losses, needed(target), drop_bounds(target))


_COMMON: Mapping[str, Any] = {"output": OUTPUT, "from_logits": FROM_LOGITS, "clamp": CLAMP}

FAMILIES: Mapping[str, Family] = {
    "bce": Family(
        _build_bce,
        "binary cross-entropy, of logits or of probabilities with a clamp",
        {
            **_COMMON,
            "target": LABELS,
            "pos_weight": Parameter("1", help="factor of the positive part: one, or one per entry of the last axis"),
        },
    ),
    "kl_divergence": Family(
        _build_kl,
        "Kullback-Leibler divergence sum p log(p/q) in nats, p the reference",
        {
            **_COMMON,
            "target": Parameter(REFERENCE, help="p: `reference` for the first model's outputs, or labels by name"),
        },
    ),
}
