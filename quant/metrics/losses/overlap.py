"""Soft Dice loss of maps: 1 - (2 sum(p t) + s)/(sum p + sum t + s), p the probabilities and t the truth, 0 or 1.

Two classes: of the positive one. C classes: the mean over all of them. Source: Milletari et al. 2016, with the sums of
Sudre et al. 2017 instead of squares. With hard p and s = 0 it is 1 - 2 IoU/(1 + IoU).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from quant.metrics.base import Evaluated, Family, Metric, Parameter
from quant.metrics.losses._inputs import (
    IGNORING,
    NONE,
    at_least,
    classes_of,
    ignored_label,
    label_of,
    needed,
    optional_whole,
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

    from quant.metrics.base import Records
    from quant.metrics.losses._loss import Parts

    Floats = npt.NDArray[np.float64]
    Triple = tuple[np.ndarray, np.ndarray, np.ndarray]


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
    ignore: object = NONE,
) -> Metric:
    at_least(0, smooth=smooth)
    checked(from_logits)
    given = optional_whole(ignore, "ignore")

    def losses(batch: Evaluated) -> Parts:
        maps, labels = output_of(batch, output), label_of(batch, target)
        binary = maps.size == labels.size
        logits = are_logits(batch, output, from_logits, classes=not binary)
        if not logits:
            within(maps.astype(np.float64), 0.0, 1.0, "the output", PROBABILITIES)
        p, truth, kept = (_binary if binary else _of_classes)(
            maps, labels, logits=logits, ignored=ignored_label(given, maps)
        )
        each: Floats = np.asarray(dice_loss(p * kept, truth * kept, smooth).mean(axis=1), dtype=np.float64)
        counted: Floats = np.asarray(kept.any(axis=(1, 2)), dtype=np.float64)  # a map without a label says nothing
        return each * counted, counted

    return _Dice(losses, needed(target))


def _binary(maps: np.ndarray, labels: np.ndarray, *, logits: bool, ignored: int | None) -> Triple:
    """Probabilities, truth and what counts: (n, 1, k) each."""
    found, wanted = same_shape(maps, labels)
    p = tensor(found).sigmoid().numpy() if logits else found
    truth = whole(wanted, 0, 1, "the classes", ignored, IGNORING)
    shape = (len(maps), 1, -1)
    return p.reshape(shape), (truth == 1).reshape(shape), _kept(truth, ignored).reshape(shape)


def _of_classes(maps: np.ndarray, labels: np.ndarray, *, logits: bool, ignored: int | None) -> Triple:
    """As `_binary`, (n, C, k), (n, C, k) and (n, 1, k)."""
    classes = classes_of(labels, maps, ignored, IGNORING).reshape(len(maps), 1, -1)
    p = tensor(maps).softmax(dim=1).numpy() if logits else maps
    truth = classes == np.arange(maps.shape[1]).reshape(1, -1, 1)
    return p.reshape(*maps.shape[:2], -1), truth, _kept(classes, ignored)


def _kept(labels: np.ndarray, ignored: int | None) -> np.ndarray:
    return np.ones(labels.shape, bool) if ignored is None else labels != ignored


class _Dice(Loss):
    """A mean over maps, of which some may have no label."""

    def count(self, records: Records) -> int:
        """Maps with labels."""
        return int(np.count_nonzero(records[1]))


FAMILIES: Mapping[str, Family] = {
    "dice_loss": Family(
        _build,
        "soft Dice loss 1 - (2I + s)/(A + B + s) of every map, the mean over classes",
        {
            "output": OUTPUT,
            "target": LABELS,
            "from_logits": FROM_LOGITS,
            "smooth": Parameter(1.0, help="s; 0 is the bare ratio"),
            "ignore": Parameter(NONE, help="a label whose positions do not count"),
        },
    ),
}
