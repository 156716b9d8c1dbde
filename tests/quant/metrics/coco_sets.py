"""Detection sets of every kind, and what pycocotools says of them."""

import contextlib
import io
from typing import NamedTuple

import numpy as np

from quant.metrics.base import Evaluated


class CocoSet(NamedTuple):
    """Labels and outputs of some images, padded: classes of -1 are none."""

    labels: dict
    outputs: dict

    def batch(self, part=slice(None)):
        return Evaluated({k: v[part] for k, v in self.outputs.items()}, {k: v[part] for k, v in self.labels.items()})

    def repeated(self, times):
        """Each image so many times, the copies beside one another."""
        again = np.repeat(np.arange(len(times)), times)
        return CocoSet({k: v[again] for k, v in self.labels.items()}, {k: v[again] for k, v in self.outputs.items()})


def random_set(seed, images=6, classes=3, objects=5, detections=12, *, levels=0, crowds=0.15, areas=True, grid=8):
    """A set whose boxes lie on a grid, so that IoU ties and meets thresholds exactly.

    Args:
        levels: scores take so many values, 0 for any.
    """
    rng = np.random.default_rng(seed)

    def boxes(count):
        corner = rng.integers(0, 10, (images, count, 2))
        return np.concatenate([corner, corner + rng.integers(1, 9, (images, count, 2))], axis=-1) * float(grid)

    def padded(count):
        labels = rng.integers(0, classes, (images, count))
        return np.where(np.arange(count) < rng.integers(0, count + 1, (images, 1)), labels, -1)

    truth, named = boxes(objects), padded(objects)
    found, guessed = boxes(detections), padded(detections)
    for image in range(images):  # most detections lie near an object
        for d in range(detections if objects else 0):
            if rng.random() < 0.7:
                near = rng.integers(objects)
                found[image, d] = truth[image, near] + rng.integers(-1, 2, 4) * grid / 2
                if guessed[image, d] >= 0 and rng.random() < 0.8:
                    guessed[image, d] = max(named[image, near], 0)
    scores = rng.random((images, detections)) if not levels else rng.integers(1, levels + 1, (images, detections)) / 8
    labels = {"boxes": truth, "classes": named, "crowd": rng.random(named.shape) < crowds}
    if areas:
        sides = truth[..., 2:] - truth[..., :2]
        labels["area"] = sides.prod(axis=-1) * rng.choice([0.5, 0.75, 1], named.shape)
    return CocoSet(labels, {"boxes": found, "scores": scores, "classes": guessed})


def _xywh(box):
    return [float(v) for v in (*box[:2], *np.maximum(box[2:] - box[:2], 0))]


def pycocotools_eval(data, detections=100):
    """`COCOeval` of a set after `accumulate`; None where there is no object or no detection."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = []
    for image, named in enumerate(data.labels["classes"]):
        for position in np.flatnonzero(named >= 0):
            box = _xywh(data.labels["boxes"][image, position])
            area = data.labels["area"][image, position] if "area" in data.labels else box[2] * box[3]
            truth.append(
                {
                    "id": len(truth) + 1,
                    "image_id": image + 1,
                    "category_id": int(named[position]) + 1,
                    "bbox": box,
                    "area": float(area),
                    "iscrowd": int(data.labels["crowd"][image, position]),
                }
            )
    found = [
        {
            "image_id": image + 1,
            "category_id": int(named[position]) + 1,
            "bbox": _xywh(data.outputs["boxes"][image, position]),
            "score": float(data.outputs["scores"][image, position]),
        }
        for image, named in enumerate(data.outputs["classes"])
        for position in np.flatnonzero(named >= 0)
    ]
    most = max([1, *(a.max(initial=0) + 1 for a in (data.labels["classes"], data.outputs["classes"]))])
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": i + 1} for i in range(len(data.labels["classes"]))],
            "categories": [{"id": int(k) + 1} for k in range(most)],
            "annotations": truth,
        }
        coco.createIndex()
        if not found:
            return None
        evaluated = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluated.params.maxDets = [1, 10, detections]
        evaluated.evaluate()
        evaluated.accumulate()
    return evaluated


AREAS = ("all", "small", "medium", "large")


def pycocotools_figures(data, detections=100):
    """mAP by threshold set and area, and AR, of pycocotools; None where it has none."""
    evaluated = pycocotools_eval(data, detections)
    if evaluated is None:
        return None
    precision, recall = evaluated.eval["precision"], evaluated.eval["recall"]
    figures = {}
    for a, area in enumerate(AREAS):
        figures["map", area] = _mean(precision[:, :, :, a, 2])
        figures["map50", area] = _mean(precision[0, :, :, a, 2])
        figures["map75", area] = _mean(precision[5, :, :, a, 2])
        figures["ar", area] = _mean(recall[:, :, a, 2])
    return figures


def _mean(table):
    there = table > -1
    return table[there].mean() if there.any() else None
