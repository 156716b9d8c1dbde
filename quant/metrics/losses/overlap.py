"""Soft Dice loss of maps: 1 - (2 sum(p t) + s)/(sum p + sum t + s), p the probabilities and t the truth, 0 or 1.

Two classes: of the positive one. C classes: the mean over all of them. Source: Milletari et al. 2016, with the sums of
Sudre et al. 2017 instead of squares. With hard p and s = 0 it is 1 - 2 IoU/(1 + IoU).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from quant.metrics.base import Evaluated, Family, Metric, Parameter
from quant.metrics.losses._inputs import (
    at_least,
    classes_of,
    label_of,
    needed,
    output_of,
    same_shape,
    tensor,
    whole,
    within,
)
from quant.metrics.losses._kind import AUTO, FROM_LOGITS, are_logits, checked
from quant.metrics.losses._loss import LABELS, OUTPUT, Loss
from quant.metrics.losses.probabilistic import PROBABILITIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


def dice_loss(probabilities: npt.ArrayLike, truth: npt.ArrayLike, smooth: float = 1.0) -> Floats:
    """Soft Dice loss over the last axis: two (..., k) -> (...). Two empty sets without smoothing agree: 0."""
    p, t = (np.asarray(x, dtype=np.float64) for x in (probabilities, truth))
    top, bottom = 2 * (p * t).sum(axis=-1) + smooth, p.sum(axis=-1) + t.sum(axis=-1) + smooth
    return np.asarray(1 - np.divide(top, bottom, out=np.ones_like(top), where=bottom > 0), dtype=np.float64)


def _build(
    *,
    output: str = "",
    target: str = "y",
    from_logits: object = AUTO,
    smooth: float = 1.0,
) -> Metric:
    at_least(0, smooth=smooth)
    checked(from_logits)

    def losses(batch: Evaluated) -> Floats:
        maps, labels = output_of(batch, output), label_of(batch, target)
        binary = maps.size == labels.size
        logits = are_logits(batch, output, from_logits, classes=not binary)
        if not logits:
            within(maps.astype(np.float64), 0.0, 1.0, "the output", PROBABILITIES)
        if binary:
            found, wanted = same_shape(maps, labels)
            truth = whole(wanted, 0, 1, "the classes").reshape(len(maps), -1)
            p = tensor(found).sigmoid().numpy() if logits else found
            return dice_loss(p.reshape(truth.shape), truth, smooth)
        classes = classes_of(labels, maps).reshape(len(maps), 1, -1)
        p = tensor(maps).softmax(dim=1).numpy() if logits else maps
        p = p.reshape(*maps.shape[:2], -1)
        truth = classes == np.arange(maps.shape[1]).reshape(1, -1, 1)
        return np.asarray(dice_loss(p, truth, smooth).mean(axis=1), dtype=np.float64)

    return Loss(losses, needed(target))


FAMILIES: Mapping[str, Family] = {
    "dice_loss": Family(
        _build,
        "soft Dice loss 1 - (2I + s)/(A + B + s) of every map, the mean over classes",
        {
            "output": OUTPUT,
            "target": LABELS,
            "from_logits": FROM_LOGITS,
            "smooth": Parameter(1.0, help="s; 0 is the bare ratio"),
        },
    ),
}
