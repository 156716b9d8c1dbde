"""Average precision of records, each image with a weight: the area under precision over recall.

With detections of a class in the order of their score, best first, TP and FP counted up to each: precision =
TP / (TP + FP), recall = TP / objects; interpolated precision at recall r = the greatest precision at a recall of r or
more. AP of a class is

* coco: the mean of the interpolated precision at recall 0, 0.01, ... 1 (101 points);
* voc: the area under the interpolated precision, all points (VOC since 2010);
* voc11: its mean at recall 0, 0.1, ... 1 (VOC 2007).

Classes without an object that counts have no AP; mAP is the mean over the others and over the IoU thresholds. AR is the
mean over both of the recall that all detections together reach.

Equal scores stay in the order of the images and, within one, of the output (pycocotools sorts stably). An image that
counts w times is w images in a row, to the last bit of the order: the detections of one image with equal scores, of
which some hit and some do not, come again as a group, not each by itself w times.

Only places where an object is found are looked at: interpolated precision is reached there, and repeating a hit moves
along recall without lowering it. So detections after a class's last hit are dropped, and a resample costs one running
sum over the rest and little for each threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from quant.metrics.statistics import HELD_AT_ONCE

if TYPE_CHECKING:
    from quant.metrics.base import Records

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer]
Summary = Callable[[Floats, Floats], Floats]

# One detection: its class and score, and a bit per IoU threshold for "hit" and "does not count".
DETECTION_RECORD = np.dtype([("label", np.int32), ("score", np.float64), ("hit", np.uint32), ("ignored", np.uint32)])
MOST_THRESHOLDS = 32  # bits of the record


def packed(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint32]:
    """Flags of shape (D, T) as bits, the first threshold in the lowest."""
    bits = flags @ (1 << np.arange(flags.shape[1], dtype=np.int64))
    return bits.astype(np.uint32)


class Ranked(NamedTuple):
    """The detections of one class in all images, best first.

    Attributes:
        image: of each, shape (D,).
        hit: bits per threshold, shape (D,).
        ignored: likewise.
        copy: which of its image's repetitions it stands for, from 0; -1 stands for all of them.
        truth: how many objects each image has that count, shape (n,).
    """

    image: Integers
    hit: Integers
    ignored: Integers
    copy: Integers
    truth: Floats

    def weighted(self, weights: Floats) -> Floats:
        """How often each detection counts: (r, n) -> (r, D)."""
        drawn = np.take(weights, self.image, axis=1)
        single = np.flatnonzero(self.copy >= 0)
        drawn[:, single] = np.clip(drawn[:, single] - self.copy[single], 0, 1)
        return drawn

    def blocks(self, weights: Floats) -> list[slice]:
        """Portions of the resamples that need little memory at once."""
        rows = max(1, HELD_AT_ONCE // max(len(self.image), 1))
        return [slice(start, start + rows) for start in range(0, len(weights), rows)]


def ranked(records: Records, repeats: Floats) -> dict[int, Ranked]:
    """Detections in order, by class, for all classes with an object that counts.

    Args:
        records: of `Detection.collect`: per image its detections and the classes of its objects.
        repeats: the largest weight that each image has, shape (n,).
    """
    found, objects = ([*column] for column in records)
    image = np.repeat(np.arange(len(found)), [len(part) for part in found])
    home = np.repeat(np.arange(len(objects)), [len(part) for part in objects])
    # As bytes: NumPy takes long to find out that structured types are alike.
    detections = np.concatenate([part.view(np.uint8) for part in found]).view(DETECTION_RECORD)
    labels = np.concatenate(objects)
    by_class = np.argsort(detections["label"], kind="stable")
    starts = np.searchsorted(detections["label"][by_class], classes := np.unique(labels))
    ends = np.searchsorted(detections["label"][by_class], classes, side="right")
    result = {}
    for label, start, end in zip(classes, starts, ends, strict=True):
        rows = by_class[start:end]
        truth = np.bincount(home[labels == label], minlength=len(objects)).astype(np.float64)
        result[int(label)] = _ordered(detections[rows], image[rows], repeats, truth)
    return result


def _ordered(detections: np.ndarray, image: Integers, repeats: Floats, truth: Floats) -> Ranked:
    order = np.argsort(-detections["score"], kind="stable")
    detections, image = detections[order], image[order]
    hits = detections["hit"] != 0
    last = len(hits) - int(hits[::-1].argmax()) if hits.any() else 0
    tied = _tied(detections, image)
    if last:  # a tie that the last hit belongs to stays whole: its repetitions interleave
        last = max(last, int(np.flatnonzero(tied == tied[last - 1])[-1]) + 1)
    detections, image, tied = detections[:last], image[:last], tied[:last]
    times = np.where(_mixed(detections, tied), np.maximum(np.ceil(repeats[image]), 1), 1).astype(int)
    rows = np.repeat(np.arange(len(image)), times)
    copy = np.arange(len(rows)) - np.repeat(np.cumsum(times) - times, times)
    again = np.lexsort((rows, copy, tied[rows]))
    rows, copy = rows[again], copy[again]
    copy[times[rows] == 1] = -1
    return Ranked(image[rows], detections["hit"][rows], detections["ignored"][rows], copy, truth)


def _tied(detections: np.ndarray, image: Integers) -> Integers:
    """A number for each group of neighbours with one score in one image, in order."""
    new = np.ones(len(image), bool)
    new[1:] = (np.diff(detections["score"]) != 0) | (np.diff(image) != 0)
    groups: Integers = np.cumsum(new) - 1
    return groups


def _mixed(detections: np.ndarray, tied: Integers) -> npt.NDArray[np.bool_]:
    """Whether a detection is tied with others such that one hits and one is wrong, at any threshold."""
    if not len(tied):
        return np.zeros(0, bool)
    starts = np.flatnonzero(np.diff(tied, prepend=-1))
    right = np.bitwise_or.reduceat(detections["hit"], starts)
    wrong = np.bitwise_or.reduceat(~(detections["hit"] | detections["ignored"]), starts)
    mixed: npt.NDArray[np.bool_] = ((right & wrong) != 0)[tied]
    return mixed


def on_grid(points: int) -> Summary:
    """The mean of the interpolated precision at so many recalls from 0 to 1."""
    grid = np.linspace(0, 1, points)

    def summary(recall: Floats, precision: Floats) -> Floats:
        reached = np.searchsorted(grid, recall.ravel(), side="right").reshape(recall.shape)
        area: Floats = np.einsum("rp,rp->r", np.diff(reached, axis=1, prepend=0), precision) / points
        return area

    return summary


def _area(recall: Floats, precision: Floats) -> Floats:
    area: Floats = np.einsum("rp,rp->r", np.diff(recall, axis=1, prepend=0.0), precision)
    return area


def _reached(recall: Floats, _precision: Floats) -> Floats:
    return recall[:, -1] if recall.shape[1] else np.zeros(len(recall))


SUMMARIES: Mapping[str, Summary] = {
    "coco": on_grid(101),
    "voc": _area,
    "voc11": on_grid(11),
    "recall": _reached,
}


def by_class(records: Records, weights: Floats, thresholds: int, summary: Summary) -> dict[int, Floats]:
    """The figure of every class, the mean over IoU thresholds; NaN where no object of it is drawn.

    Args:
        records: of `Detection.collect`.
        weights: how often each image counts, shape (r, n).
        thresholds: how many IoU thresholds the records have.
        summary: recall and interpolated precision at the hits, both (r, hits), -> (r,).

    Returns:
        Class -> shape (r,), for all classes with an object that counts.
    """
    figures = {}
    for label, rank in ranked(records, weights.max(axis=0)).items():
        parts = [_of_class(rank, weights[rows], thresholds, summary) for rows in rank.blocks(weights)]
        figures[label] = np.concatenate(parts)
    return figures


def _of_class(rank: Ranked, weights: Floats, thresholds: int, summary: Summary) -> Floats:
    drawn = rank.weighted(weights)
    seen = np.cumsum(drawn, axis=1)
    objects = weights @ rank.truth
    total = np.zeros(len(weights))
    for bit in np.left_shift(1, np.arange(thresholds)):
        places = np.flatnonzero(rank.hit & bit)
        hits = np.cumsum(np.take(drawn, places, axis=1), axis=1)
        counted = np.take(seen, places, axis=1) - _before(drawn, np.flatnonzero(rank.ignored & bit), places)
        precision = np.divide(hits, counted, out=np.zeros_like(hits), where=counted > 0)
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        recall = hits / np.maximum(objects, 1e-300)[:, None]
        total += summary(recall, best)
    return np.where(objects > 0, total / thresholds, np.nan)


def _before(drawn: Floats, ignored: Integers, places: Integers) -> Floats:
    """How many detections that do not count stand before each place: (r, places)."""
    if not len(ignored):
        return np.zeros((1, 1))
    sums = np.zeros((len(drawn), len(ignored) + 1))
    np.cumsum(drawn[:, ignored], axis=1, out=sums[:, 1:])
    before: Floats = sums[:, np.searchsorted(ignored, places)]
    return before


def mean_of_classes(figures: Mapping[int, Floats], resamples: int) -> Floats:
    """The mean over the classes of which an object is drawn, (r,); 0 where there is none."""
    if not figures:
        return np.zeros(resamples)
    table = np.stack([*figures.values()])
    there = ~np.isnan(table)
    total = np.where(there, table, 0.0).sum(axis=0)
    mean: Floats = np.divide(total, there.sum(axis=0), out=np.zeros(resamples), where=there.any(axis=0))
    return mean
