"""Which detection found which object: intersection over union of boxes, and two published ways to match by it.

IoU = area of the intersection / area of the union, of boxes as x1 y1 x2 y2 with continuous coordinates: width is
x2 - x1, without the extra pixel of the VOC devkit's whole-numbered corners. A crowd region is matched by intersection /
area of the detection, as COCO does. 0/0 is 0.

COCO (T.-Y. Lin and others, "Microsoft COCO: Common objects in context", ECCV 2014; pycocotools.cocoeval): detections in
order of their score; each takes, of the objects of its class that are still free, the one with the greatest IoU at or
above the threshold, one that counts before one that does not. What takes an object that does not count (a crowd, an
area out of range) does not count either, nor does an unmatched detection whose own area is out of range. A crowd can be
taken many times.

VOC (M. Everingham and others, "The Pascal Visual Object Classes (VOC) Challenge", IJCV 88 (2010) 303-338; its devkit):
each detection speaks of the object with the greatest IoU, free or not; where that one is taken, the detection is false.
Objects marked as difficult do not count, nor what speaks of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

_NEARLY_ONE = 1 - 1e-10  # pycocotools compares with the smaller of this and the threshold


class Objects(NamedTuple):
    """The truth of one image.

    Attributes:
        boxes: x1 y1 x2 y2, shape (G, 4).
        classes: shape (G,).
        crowd: a region of many, or difficult, shape (G,).
        ignored: does not count, shape (G,); crowds do not.
    """

    boxes: Floats
    classes: npt.NDArray[np.int64]
    crowd: Bools
    ignored: Bools


class Matches(NamedTuple):
    """What became of the detections of one image, per threshold; both of shape (D, T).

    Attributes:
        hit: matched to an object that counts.
        ignored: counts neither as right nor as wrong.
    """

    hit: Bools
    ignored: Bools


def box_area(boxes: Floats) -> Floats:
    """Areas of boxes (..., 4) as x1 y1 x2 y2; a box whose corners are swapped has none."""
    sides = np.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    area: Floats = sides[..., 0] * sides[..., 1]
    return area


def box_iou(first: Floats, second: Floats, crowd: Bools | None = None) -> Floats:
    """Intersection over union of every box with every other.

    Args:
        first: x1 y1 x2 y2, shape (D, 4).
        second: shape (G, 4).
        crowd: of the second, shape (G,): there the intersection is divided by the first box's area.

    Returns:
        Shape (D, G), between 0 and 1.
    """
    first, second = (np.asarray(boxes, np.float64).reshape(-1, 4) for boxes in (first, second))
    corners = np.maximum(first[:, None, :2], second[:, :2]), np.minimum(first[:, None, 2:], second[:, 2:])
    shared = box_area(np.concatenate(corners, axis=-1))
    own = box_area(first)[:, None]
    whole = own + box_area(second) - shared
    if crowd is not None:
        whole = np.where(crowd, own, whole)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)


def match_coco(boxes: Floats, classes: npt.NDArray[np.int64], truth: Objects, thresholds: Floats) -> Matches:
    """Match as COCO does; all thresholds at once.

    Args:
        boxes: detections in the order of their scores, best first, shape (D, 4).
        classes: theirs, shape (D,).
        truth: objects of the same image.
        thresholds: of the IoU, shape (T,).
    """
    iou, hit, ignored = _prepared(boxes, classes, truth, thresholds)
    limits = np.minimum(thresholds, _NEARLY_ONE)
    taken = np.zeros((len(thresholds), len(truth.classes)), bool)
    position = np.arange(len(truth.classes))
    for d in np.flatnonzero(iou.max(axis=1, initial=-1) >= limits.min()):
        # Objects that count come first, then the greater IoU; of equal ones the later, as in pycocotools.
        rank = np.empty_like(position)
        rank[np.lexsort((position, iou[d], ~truth.ignored))] = position
        eligible = (iou[d] >= limits[:, None]) & (~taken | truth.crowd)
        ranks = np.where(eligible, rank, -1)
        best = ranks.argmax(axis=1)
        found = ranks.max(axis=1) >= 0
        ignored[d] = found & truth.ignored[best]
        hit[d] = found & ~ignored[d]
        taken[found, best[found]] = True
    return Matches(hit, ignored)


def match_voc(boxes: Floats, classes: npt.NDArray[np.int64], truth: Objects, thresholds: Floats) -> Matches:
    """Match as VOC does, at IoU >= threshold; arguments as `match_coco`, objects with `ignored` are difficult."""
    iou, hit, ignored = _prepared(boxes, classes, truth._replace(crowd=np.zeros_like(truth.crowd)), thresholds)
    taken = np.zeros((len(thresholds), len(truth.classes)), bool)
    for d in np.flatnonzero(iou.max(axis=1, initial=-1) >= thresholds.min()):
        best = int(iou[d].argmax())
        found = iou[d, best] >= thresholds
        ignored[d] = found & truth.ignored[best]
        hit[d] = found & ~ignored[d] & ~taken[:, best]
        taken[:, best] |= hit[d]
    return Matches(hit, ignored)


def _prepared(
    boxes: Floats, classes: npt.NDArray[np.int64], truth: Objects, thresholds: Floats
) -> tuple[Floats, Bools, Bools]:
    """IoU with the objects of the same class, -1 with all others, and two empty answers."""
    iou = np.where(classes[:, None] == truth.classes, box_iou(boxes, truth.boxes, truth.crowd), -1.0)
    shape = (len(boxes), len(thresholds))
    return iou, np.zeros(shape, bool), np.zeros(shape, bool)


MATCHERS: dict[str, Callable[[Floats, npt.NDArray[np.int64], Objects, Floats], Matches]] = {
    "coco": match_coco,
    "voc": match_voc,
    "voc11": match_voc,
}
