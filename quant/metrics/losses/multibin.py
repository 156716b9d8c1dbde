"""Multi-bin loss of angles (Mousavian et al. 2017): which bin an angle is in, and how far from that bin's centre.

L = L_conf + w L_loc: the cross-entropy of the bins' confidences, the bin with the nearest centre being the right one,
and minus the mean of cos(theta - c_i - dtheta_i) over the bins that cover theta. B bins of equal width divide the
circle; c_i = (i + 1/2) 2 pi/B, and each reaches `overlap` into its neighbours. L_loc is -1 at best.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import DataError
from quant.metrics.base import Evaluated, Family, Metric, Parameter
from quant.metrics.losses._inputs import at_least, label_of, needed, output_of, within
from quant.metrics.losses._kind import AUTO, FROM_LOGITS, are_logits, checked
from quant.metrics.losses._loss import Loss
from quant.metrics.losses.cross_entropy import sparse_cross_entropy
from quant.metrics.losses.probabilistic import PROBABILITIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


def bin_centres(bins: int) -> Floats:
    """(i + 1/2) 2 pi/bins, shape (bins,)."""
    return (np.arange(bins) + 0.5) * 2 * np.pi / bins


def multibin(
    confidence: npt.ArrayLike,
    residual: npt.ArrayLike,
    angles: npt.ArrayLike,
    *,
    weight: float = 1.0,
    overlap: float = 0.1,
    from_logits: bool = True,
) -> Floats:
    """Multi-bin loss of every sample, (n,).

    Args:
        confidence: of the bins, (n, B).
        residual: dtheta_i in radians, (n, B), or its cosine and sine up to a factor, (n, B, 2).
        angles: theta in radians, any turn, (n,).
        weight: w of the localization.
        overlap: in radians, how far a bin reaches into each neighbour.
        from_logits: whether the confidences are logits; probabilities if not.
    """
    scores, found = (np.asarray(x, dtype=np.float64) for x in (confidence, residual))
    turn = np.arctan2(found[..., 1], found[..., 0]) if found.ndim == 3 else found
    bins = scores.shape[1]
    away = np.asarray(angles, dtype=np.float64)[:, None] - bin_centres(bins)
    distance = np.abs((away + np.pi) % (2 * np.pi) - np.pi)
    nearest = distance.argmin(axis=1)
    covers = distance <= np.pi / bins + overlap
    covers[np.arange(len(covers)), nearest] = True  # a border is in a bin, whatever rounding says
    localization = -(np.cos(away - turn) * covers).sum(axis=1) / covers.sum(axis=1)
    return np.asarray(
        sparse_cross_entropy(scores, nearest, from_logits=from_logits)[0] + weight * localization, dtype=np.float64
    )


def _build(
    *,
    confidence: str = "0",
    residual: str = "1",
    target: str = "y",
    weight: float = 1.0,
    overlap: float = 0.1,
    from_logits: object = AUTO,
) -> Metric:
    at_least(0, weight=weight, overlap=overlap)
    checked(from_logits)

    def losses(batch: Evaluated) -> Floats:
        scores, turn, angles = output_of(batch, confidence), output_of(batch, residual), label_of(batch, target)
        if scores.ndim != 2 or scores.shape[1] < 2:
            raise DataError(f"the confidences have the size {scores.shape}; (n, bins) is wanted, two bins or more")
        if turn.shape not in (scores.shape, (*scores.shape, 2)):
            raise DataError(
                f"the residuals have the size {turn.shape}; angles {scores.shape} are wanted, or cosine and sine "
                f"{(*scores.shape, 2)}"
            )
        if angles.size != len(scores):
            raise DataError(
                f"the labels have the size {angles.shape}; one angle per sample is wanted, ({len(scores)},)"
            )
        logits = are_logits(batch, confidence, from_logits)
        if not logits:
            within(scores.astype(np.float64), 0.0, 1.0, "the confidences", PROBABILITIES)
        return multibin(scores, turn, angles.reshape(-1), weight=weight, overlap=overlap, from_logits=logits)

    return Loss(losses, needed(target))


FAMILIES: Mapping[str, Family] = {
    "multibin": Family(
        _build,
        "multi-bin loss of angles (Mousavian et al. 2017)",
        {
            "confidence": Parameter("0", help="the output with the bins' logits (n, B): its name or its position"),
            "residual": Parameter(
                "1", help="the output with angles to the centres (n, B), or cosine and sine (n, B, 2)"
            ),
            "target": Parameter("y", help="angles in radians by name"),
            "weight": Parameter(1.0, help="w of the localization"),
            "from_logits": FROM_LOGITS,
            "overlap": Parameter(0.1, help="radians by which a bin reaches into each neighbour"),
        },
    )
}
