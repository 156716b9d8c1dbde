"""Detection metrics: mean average precision and average recall, in the forms of COCO and of VOC.

The formulas are in `detection_match` (IoU, which detection found which object) and `detection_average` (the curve and
the area under it). The point value is ours, not pycocotools': a bootstrap needs the same figure with every image
weighted, thousands of times, which that library cannot give. The tests hold ours equal to it, on the data as they are
and with images repeated.

Labels: `boxes` (n, M, 4) as x1 y1 x2 y2 in pixels of the model's input, `classes` (n, M), -1 where there is no further
object; optional `crowd` (n, M), in the VOC forms "difficult", and `area` (n, M), else that of the box. What the model
gives is read by `detection_outputs`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from profiler.errors import DataError, UsageError
from quant.metrics.base import Evaluated, Family, Metric, Parameter
from quant.metrics.detection_average import (
    DETECTION_RECORD,
    MOST_THRESHOLDS,
    SUMMARIES,
    by_class,
    mean_of_classes,
    packed,
)
from quant.metrics.detection_interval import drop_interval
from quant.metrics.detection_match import MATCHERS, Objects, box_area
from quant.metrics.detection_outputs import FORMATS, LAYOUTS, Detections, Reading

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from quant.metrics.base import Draws, Records
    from quant.metrics.statistics import Interval

    Floats = npt.NDArray[np.float64]

AREAS: Mapping[str, tuple[float, float]] = {  # COCO's, in square pixels
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
_STEP = 0.05
_NO_CLASS = -1


@dataclass(frozen=True)
class Detection(Metric):
    """Mean over classes and IoU thresholds of an area under precision over recall, or of recall.

    Records, per image: its detections as an array of `DETECTION_RECORD`, and the classes of its objects that count.
    Both differ in length from image to image, so they are arrays of arrays.

    Attributes:
        thresholds: of the IoU.
        form: "coco", "voc" or "voc11": how detections are matched, and the area; see `detection_average`.
        area: objects that count, by their area: "all", "small", "medium" or "large".
        max_detections: the best of each class and image that are looked at.
        label: the only class to report; -1 for the mean over all.
        recall: report the recall that is reached instead.
        reading: how outputs are read.
    """

    thresholds: tuple[float, ...]
    form: str = "coco"
    area: str = "all"
    max_detections: int = 100
    label: int = _NO_CLASS
    recall: bool = False
    reading: Reading = field(default_factory=Reading)

    higher_is_better = True
    needs = ("boxes", "classes")
    unit = "image"
    bounds = (-1.0, 1.0)

    def collect(self, batch: Evaluated) -> Records:
        """As `Metric`."""
        truths = _objects(batch.labels, AREAS[self.area])
        detections = self.reading.read(batch)
        if len(detections) != len(truths):
            raise DataError(f"the model answers for {len(detections)} images, the labels are of {len(truths)}")
        found = np.empty(len(truths), dtype=object)
        objects = np.empty(len(truths), dtype=object)
        for i, (given, truth) in enumerate(zip(detections, truths, strict=True)):
            found[i], objects[i] = self._matched(given, truth), truth.classes[~truth.ignored]
        return found, objects

    def _matched(self, given: Detections, truth: Objects) -> np.ndarray:
        best = np.argsort(-given.scores, kind="stable")
        classes = given.classes[best]
        best = best[_place_in_class(classes) < self.max_detections]
        boxes, classes = given.boxes[best], given.classes[best]
        limits = np.array(self.thresholds)
        matches = MATCHERS[self.form](boxes, classes, truth, limits)
        low, high = AREAS[self.area]
        size = box_area(boxes)
        outside = ((size < low) | (size > high))[:, None]
        ignored = matches.ignored | (~matches.hit & outside)
        record = np.empty(len(best), DETECTION_RECORD)
        record["label"], record["score"] = classes, given.scores[best]
        record["hit"], record["ignored"] = packed(matches.hit), packed(ignored)
        return record[~ignored.all(axis=1)]

    def per_class(self, records: Records, weights: Floats) -> dict[int, Floats]:
        """The figure of each class with an object that counts, (r, n) -> (r,); NaN where a resample has no such."""
        summary = SUMMARIES["recall" if self.recall else self.form]
        return by_class(records, weights, len(self.thresholds), summary)

    def resampled(self, records: Records, weights: Floats) -> Floats:
        """As `Metric`; 0 for a resample without any object that counts."""
        figures = self.per_class(records, weights)
        if self.label != _NO_CLASS:
            figures = {label: values for label, values in figures.items() if label == self.label}
        return mean_of_classes(figures, len(weights))

    def value(self, records: Records) -> float:
        """As `Metric`.

        Raises:
            DataError: no object counts, so that the metric says nothing.
        """
        if not any((objects == self.label).any() if self.label >= 0 else len(objects) for objects in records[1]):
            of = f" of class {self.label}" if self.label >= 0 else ""
            size = "" if self.area == "all" else f" with a {self.area} area"
            raise DataError(f"no image has an object{of}{size} that counts: the metric is undefined")
        return super().value(records)

    def interval(self, first: Records, second: Records, draws: Draws) -> tuple[Interval | None, str]:
        """As `Metric`; see `detection_interval`."""
        return drop_interval(self, first, second, draws)


def _place_in_class(classes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many of the same class stand before each."""
    order = np.argsort(classes, kind="stable")
    _, starts, counts = np.unique(classes[order], return_index=True, return_counts=True)
    place = np.empty(len(classes), np.int64)
    place[order] = np.arange(len(classes)) - np.repeat(starts, counts)
    return place


def _objects(labels: Mapping[str, np.ndarray], area: tuple[float, float]) -> list[Objects]:
    """The truth of each image.

    Raises:
        DataError: labels that are missing or do not go together.
    """
    missing = [name for name in Detection.needs if name not in labels]
    if missing:
        raise DataError(f"detection needs the labels boxes and classes; the data lacks {' and '.join(missing)}")
    boxes, classes = np.asarray(labels["boxes"], np.float64), np.asarray(labels["classes"])
    if boxes.ndim != 3 or boxes.shape[2] != 4 or classes.shape != boxes.shape[:2]:
        raise DataError(f"labels: boxes {boxes.shape} and classes {classes.shape}; expected (n, M, 4) and (n, M)")
    crowd = np.asarray(labels.get("crowd", np.zeros(classes.shape, bool)))
    sizes = np.asarray(labels.get("area", box_area(boxes)), np.float64)
    for name, array in (("crowd", crowd), ("area", sizes)):
        if array.shape != classes.shape:
            raise DataError(f"labels: {name} {array.shape} beside classes {classes.shape}; they must be alike")
    there = classes >= 0
    swapped = there & (boxes[..., 2:] < boxes[..., :2]).any(axis=-1)
    if swapped.any():
        image, position = (int(i) for i in np.argwhere(swapped)[0])
        raise DataError(f"labels: box {position} of image {image} ends before it begins; boxes are x1 y1 x2 y2")
    ignored = crowd.astype(bool) | (sizes < area[0]) | (sizes > area[1])
    whole = classes.astype(np.int64)
    return [Objects(boxes[i][t], whole[i][t], crowd[i][t].astype(bool), ignored[i][t]) for i, t in enumerate(there)]


def _thresholds(spec: str) -> tuple[float, ...]:
    """Thresholds of "0.5", or of "0.5-0.95" in steps of 0.05."""
    ends = spec.split("-")
    try:
        low, high = float(ends[0]), float(ends[-1])
    except ValueError:
        low, high = 0.0, 0.0
    if len(ends) > 2 or not 0 < low <= high <= 1:
        raise UsageError(f"iou={spec}: a threshold such as 0.5, or a range such as 0.5-0.95 (in steps of 0.05)")
    count = round((high - low) / _STEP) + 1
    if abs(low + (count - 1) * _STEP - high) > 1e-9 or count > MOST_THRESHOLDS:
        raise UsageError(f"iou={spec}: the range is no whole number of steps of 0.05")
    return tuple(float(t) for t in np.linspace(low, high, count))


_READING = {
    "boxes": Parameter("", help="name of the output with the boxes; found by its shape where not given"),
    "scores": Parameter("", help="name of the output with the scores"),
    "classes": Parameter("", help="name of the output with the classes"),
    "layout": Parameter("auto", LAYOUTS, "three outputs, rows of six, or raw YOLO predictions"),
    "format": Parameter("auto", ("auto", *FORMATS), "what the four numbers of an output box are"),
    "units": Parameter("pixels", ("pixels", "relative"), "of output boxes: pixels of the input, or parts of its sides"),
    "offset": Parameter(0, help="what to take from output classes: 1 where the model's 0 is the background"),
    "score": Parameter(0.0, help="detections below it do not count; raw predictions need 0.001 at least"),
    "nms": Parameter(0.7, help="IoU at which raw predictions of a class suppress each other"),
    "most": Parameter(300, help="raw predictions kept of an image"),
}


def _parameters(iou: str, detections: int = 100) -> dict[str, Parameter]:
    return {
        "iou": Parameter(iou, help="IoU threshold, or a range such as 0.5-0.95 in steps of 0.05"),
        "form": Parameter("coco", tuple(MATCHERS), "COCO's 101 points, VOC's whole area, VOC 2007's 11 points"),
        "area": Parameter("all", tuple(AREAS), "objects that count, by their area in pixels"),
        "max_detections": Parameter(detections, help="the best of each class and image that are looked at"),
        "class": Parameter(_NO_CLASS, help="report this class alone; -1 for the mean over classes"),
        **_READING,
    }


def _family(about: str, parameters: Mapping[str, Parameter], tasks: tuple[str, ...] = (), **fixed: Any) -> Family:  # noqa: ANN401  # a metric's settings
    def build(**given: Any) -> Detection:  # noqa: ANN401
        settings = {name: parameter.default for name, parameter in parameters.items()} | given
        for name, least in (("max_detections", 1), ("most", 1), ("class", _NO_CLASS)):
            if settings[name] < least:
                raise UsageError(f"{name}={settings[name]}: at least {least}")
        if settings["area"] != "all" and settings["form"] != "coco":
            raise UsageError(f"area={settings['area']} belongs to form=coco; VOC knows no areas")
        if not 0 < settings["nms"] <= 1:
            raise UsageError(f"nms={settings['nms']}: an IoU above 0, up to 1")
        return Detection(
            _thresholds(str(settings["iou"])),
            settings["form"],
            settings["area"],
            settings["max_detections"],
            settings["class"],
            reading=Reading(**{f.name: settings[f.name] for f in fields(Reading)}),
            **fixed,
        )

    return Family(build, about, parameters, tasks)


_TASK = ("detection",)
DETECTION: Mapping[str, Family] = {
    "map": _family("mean average precision over IoU 0.5 to 0.95 (COCO, 101 points)", _parameters("0.5-0.95"), _TASK),
    "map50": _family("mean average precision at IoU 0.5 (COCO, 101 points)", _parameters("0.5"), _TASK),
    "map75": _family("mean average precision at IoU 0.75 (COCO, 101 points)", _parameters("0.75"), _TASK),
    "ar": _family("average recall over IoU 0.5 to 0.95 (COCO)", _parameters("0.5-0.95"), recall=True),
}
