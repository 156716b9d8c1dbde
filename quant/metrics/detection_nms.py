"""Greedy non-maximum suppression of raw predictions, class by class.

Of the predictions of a class, the best is kept and those whose IoU with it is above a threshold are dropped; then the
best of what is left, and so on. A box is a prediction of every class whose score reaches the threshold, as detectors
are validated; ONNX's NonMaxSuppression and torchvision's batched_nms are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from quant.metrics.detection_match import box_iou

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

MOST_CANDIDATES = 30_000  # the best of an image that suppression looks at


def suppressed(boxes: Floats, scores: Floats, least: float, iou: float, most: int) -> tuple[Integers, Integers]:
    """What is left of one image.

    Args:
        boxes: x1 y1 x2 y2, shape (A, 4).
        scores: per class, shape (A, C).
        least: the score that a prediction needs.
        iou: above it, the worse of two is dropped.
        most: predictions that are kept, all classes together.

    Returns:
        Row and class of each, best first; equal scores in the order of row and class.
    """
    row, label = np.nonzero(scores >= least)
    best = np.argsort(-scores[row, label], kind="stable")[:MOST_CANDIDATES]
    row, label = row[best], label[best]
    kept = np.zeros(len(row), bool)
    for which in np.unique(label):
        members = np.flatnonzero(label == which)
        kept[members[_greedy(boxes[row[members]], iou, most)]] = True
    chosen = np.flatnonzero(kept)[:most]
    return row[chosen], label[chosen]


def _greedy(boxes: Floats, iou: float, most: int) -> Integers:
    """Positions that are kept of boxes in order."""
    left = np.arange(len(boxes))
    kept: list[int] = []
    while len(left) and len(kept) < most:
        kept.append(int(left[0]))
        left = left[1:][box_iou(boxes[left[0]], boxes[left[1:]])[0] <= iou]
    return np.array(kept, dtype=np.int64)
