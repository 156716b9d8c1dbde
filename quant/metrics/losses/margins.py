"""Hinge losses of raw scores: convex, and not smooth where the margin is just kept.

Binary: max(0, margin - y s) with y in {-1, 1}. Multiclass: max(0, margin - s_y + max of the other scores) (Crammer and
Singer 2001, scikit-learn's hinge_loss), or the sum over the other classes of max(0, margin - s_y + s_j), over C (Weston
and Watkins 1999 but for the 1/C, which is torch's).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import UsageError
from quant.metrics.base import Evaluated, Family, Metric, Parameter
from quant.metrics.losses._inputs import (
    SampleError,
    at_least,
    chosen,
    classes_of,
    first_of,
    label_of,
    needed,
    output_of,
    per_sample,
    same_shape,
    tensor,
)
from quant.metrics.losses._loss import LABELS, OUTPUT, Loss

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


def hinge(scores: npt.ArrayLike, labels: npt.ArrayLike, *, margin: float = 1.0, squared: bool = False) -> Floats:
    """Hinge loss of every sample: scores and labels -1 or 1, both (n, ...) -> (n,)."""
    short = np.maximum(0.0, margin - np.asarray(labels, dtype=np.float64) * np.asarray(scores, dtype=np.float64))
    return per_sample(short**2 if squared else short)


def crammer_singer(scores: npt.ArrayLike, labels: npt.ArrayLike, *, margin: float = 1.0) -> Floats:
    """How much the best other class comes within the margin: scores (n, C), labels (n,) -> (n,)."""
    s, y = np.array(scores, dtype=np.float64), np.asarray(labels)[:, None]
    own = np.take_along_axis(s, y, axis=1)[:, 0]
    np.put_along_axis(s, y, -np.inf, axis=1)
    return np.asarray(np.maximum(0.0, margin - own + s.max(axis=1)), dtype=np.float64)


def weston_watkins(scores: npt.ArrayLike, labels: npt.ArrayLike, *, margin: float = 1.0) -> Floats:
    """Sum over the other classes of what comes within the margin, over C: scores (n, C), labels (n,) -> (n,)."""
    import torch
    import torch.nn.functional as F

    y = torch.from_numpy(np.asarray(labels, dtype=np.int64))
    values: Floats = F.multi_margin_loss(tensor(scores), y, margin=margin, reduction="none").numpy()
    return values


_FORMS: Mapping[str, Callable[..., Floats]] = {"crammer-singer": crammer_singer, "weston-watkins": weston_watkins}


def _build_hinge(
    *,
    output: str = "",
    target: str = "y",
    margin: float = 1.0,
    squared: bool = False,
    negative: int = -1,
) -> Metric:
    at_least(0, above=True, margin=margin)
    if negative not in (-1, 0):
        raise UsageError(f"negative={negative}: the label of the negative class is -1 or 0")

    def losses(batch: Evaluated) -> Floats:
        scores, labels = same_shape(output_of(batch, output), label_of(batch, target))
        known = (labels == 1) | (labels == negative)
        if not known.all():
            value = labels[~known].flat[0]
            raise SampleError(
                f"{{sample}} has the label {value:g}; {negative} and 1 are wanted. "
                "hinge:negative=0 takes 0 and 1, multiclass_hinge takes classes",
                first_of(~known),
            )
        return hinge(scores, np.where(labels == 1, 1, -1), margin=margin, squared=squared)

    return Loss(losses, needed(target))


def _build_multiclass(
    *, output: str = "", target: str = "y", margin: float = 1.0, form: str = "crammer-singer"
) -> Metric:
    at_least(0, above=True, margin=margin)
    function = chosen(_FORMS, form, "form")

    def losses(batch: Evaluated) -> Floats:
        scores = output_of(batch, output)
        labels = classes_of(label_of(batch, target), scores)
        rows = np.moveaxis(scores, 1, -1).reshape(-1, scores.shape[1])
        return per_sample(function(rows, labels.reshape(-1), margin=margin).reshape(labels.shape))

    return Loss(losses, needed(target))


_MARGIN = Parameter(1.0, help="what the score has to lead by")

FAMILIES: Mapping[str, Family] = {
    "hinge": Family(
        _build_hinge,
        "hinge loss max(0, margin - y s) of raw scores, labels -1 and 1",
        {
            "output": OUTPUT,
            "target": LABELS,
            "margin": _MARGIN,
            "squared": Parameter(default=False, help="its square, which is smooth"),
            "negative": Parameter(-1, (-1, 0), "the label that stands for the negative class"),
        },
    ),
    "multiclass_hinge": Family(
        _build_multiclass,
        "hinge loss of raw scores of classes: Crammer and Singer's, or Weston and Watkins's over C",
        {
            "output": OUTPUT,
            "target": LABELS,
            "margin": _MARGIN,
            "form": Parameter("crammer-singer", tuple(_FORMS), "the best other class, or all of them"),
        },
    ),
}
