"""A detector's outputs, in whatever form it gives them, as boxes, scores and classes of each image.

Three forms are understood:

* three outputs, boxes (n, K, 4), scores (n, K) and classes (n, K), found by their shapes, types and names, as
  torchvision, TensorRT's EfficientNMS and RT-DETR export them; for one image at a time also without the first axis;
* rows (n, K, 6): x1 y1 x2 y2 score class, as YOLOv10 and exports with NMS inside give them;
* raw predictions, (n, 4 + C, A) or (n, A, 4 + C): box and a score per class for each of A anchors, as YOLOv8, v9 and
  v11 are exported; with objectness, 5 + C, as YOLOv5 and v7 are. They go through a score threshold and non-maximum
  suppression (`detection_nms`), and so do boxes (n, A, 4) with scores (n, A, C).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from profiler.errors import DataError, UsageError
from quant.metrics.detection_nms import suppressed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy.typing as npt

    from quant.metrics.base import Evaluated

    Floats = npt.NDArray[np.float64]

LEAST_RAW_SCORE = 0.001  # raw predictions below it never become detections, as in the YOLOs' own validation
MOST_ROWS = 1000  # (n, K, 6) with more rows than this is raw predictions of two classes
_IMAGE_CHANNELS = (1, 3, 4)


class Detections(NamedTuple):
    """Of one image: boxes (K, 4) as x1 y1 x2 y2 in pixels of the model's input, scores (K,), classes (K,)."""

    boxes: Floats
    scores: Floats
    classes: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Reading:
    """How outputs are to be read; the defaults find out.

    Attributes:
        boxes: name of the output with boxes, "" to find it.
        scores: likewise.
        classes: likewise.
        layout: "auto", "separate" outputs, "rows", "yolo" (4 + C) or "yolo5" (objectness, 5 + C).
        format: of a box, "auto", "xyxy", "xywh" or "cxcywh"; "auto" is cxcywh for raw predictions, else xyxy.
        units: of a box, "pixels" of the input or "relative" to its height and width.
        offset: what to take from the model's classes to get those of the labels: 1 where 0 is the background.
        score: detections below it do not count.
        nms: IoU above which raw predictions of one class suppress each other.
        most: raw predictions that are kept of each image.
    """

    boxes: str = ""
    scores: str = ""
    classes: str = ""
    layout: str = "auto"
    format: str = "auto"
    units: str = "pixels"
    offset: int = 0
    score: float = 0.0
    nms: float = 0.7
    most: int = 300

    def read(self, batch: Evaluated) -> list[Detections]:
        """The detections of each image, in the outputs' order; what is padded (a negative class) is left out.

        Metrics that read one batch alike share what was read, as long as the batch is there: suppression takes time.

        Raises:
            DataError: outputs that are none of the forms, or hold NaN or infinity.
            UsageError: a name that no output has.
        """
        known = _READ.setdefault(batch, {})
        if self not in known:
            known[self] = list(self._read(batch))
        return known[self]

    def _read(self, batch: Evaluated) -> Iterator[Detections]:
        outputs = {name: np.asarray(array) for name, array in batch.outputs.items()}
        layout = self._layout(outputs)
        for name, array in outputs.items():
            if np.issubdtype(array.dtype, np.inexact) and not np.isfinite(array).all():
                raise DataError(f"the output {name!r} holds NaN or infinity; no metric can be taken of it")
        images = len(next(iter(batch.labels.values())))
        size = _image_size(batch) if self.units == "relative" else np.ones(2)
        raw = layout in ("yolo", "yolo5")
        convert = FORMATS[("cxcywh" if raw else "xyxy") if self.format == "auto" else self.format]
        for boxes, scores, classes in _LAYOUTS[layout](self, outputs, images):
            pixels = convert(boxes.astype(np.float64)) * np.tile(size, 2)
            yield self._settled(pixels, scores.astype(np.float64), classes)

    def _layout(self, outputs: Mapping[str, np.ndarray]) -> str:
        if self.layout != "auto":
            return self.layout
        if len(outputs) > 1 or self.boxes:
            return "separate"
        name, array = next(iter(outputs.items()))
        if array.ndim == 3 and array.shape[2] == 6 and array.shape[1] <= MOST_ROWS:
            return "rows"
        if array.ndim == 3 and min(array.shape[1:]) > 4:
            return "yolo"
        raise DataError(
            f"the only output {name!r} of size {array.shape} is no detector's: expected (n, K, 6), (n, 4 + C, A) or "
            "(n, A, 4 + C), or three outputs with boxes, scores and classes"
        )

    def _settled(self, boxes: Floats, scores: Floats, classes: np.ndarray | None) -> Detections:
        if classes is not None:
            named = np.rint(classes).astype(np.int64) - self.offset
            kept = (named >= 0) & (scores >= self.score)
            return Detections(boxes[kept], scores[kept], named[kept])
        kept_rows, named = suppressed(boxes, scores, max(self.score, LEAST_RAW_SCORE), self.nms, self.most)
        named_scores = scores[kept_rows, named]
        named = named - self.offset
        return Detections(boxes[kept_rows][named >= 0], named_scores[named >= 0], named[named >= 0])


_READ: WeakKeyDictionary[Evaluated, dict[Reading, list[Detections]]] = WeakKeyDictionary()
Parts = tuple[np.ndarray, np.ndarray, "np.ndarray | None"]  # boxes, scores and classes; or scores per class and None


def _separate(reading: Reading, outputs: Mapping[str, np.ndarray], images: int) -> Iterator[Parts]:
    boxes, scores, classes = _found(reading, outputs, images)
    if boxes.ndim != 3 or boxes.shape[2] != 4 or scores.shape[:2] != boxes.shape[:2]:
        raise DataError(f"boxes {boxes.shape} and scores {scores.shape} do not go together; expected (n, K, 4), (n, K)")
    if scores.ndim == 3:
        _check_probabilities(scores)
        yield from ((b, s, None) for b, s in zip(boxes, scores, strict=True))
    elif classes is None or classes.shape != scores.shape:
        size = "none" if classes is None else f"{classes.shape}"
        raise DataError(
            f"classes are expected beside scores {scores.shape}, got {size} among the outputs "
            f"{_listed(outputs)}; name the right one with classes=NAME"
        )
    else:
        yield from zip(boxes, scores, classes, strict=True)


def _found(
    reading: Reading, outputs: Mapping[str, np.ndarray], images: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Boxes, scores and classes with the image as their first axis."""
    batched = images != 1 or any(a.ndim == 3 and a.shape[2] == 4 for a in outputs.values())
    whole = outputs if batched else {name: array[None] for name, array in outputs.items()}
    boxes = _pick("boxes", reading.boxes, whole, lambda a: a.ndim == 3 and a.shape[2] == 4 and _is_real(a))
    left = {k: a for k, a in whole.items() if a is not boxes and a.shape[:2] == boxes.shape[:2]}
    if reading.classes or any(_speaks("classes", k, a) for k, a in left.items()):
        classes = _pick("classes", reading.classes, whole if reading.classes else left, lambda a: a.ndim == 2)
        left = {k: a for k, a in left.items() if a is not classes}
    else:
        classes = None
    if reading.scores:
        return boxes, _pick("scores", reading.scores, whole, _is_real), classes
    flat = {k: a for k, a in left.items() if a.ndim == 2 and _is_real(a)}
    return boxes, _pick("scores", "", flat or left, lambda a: a.ndim < 4 and _is_real(a)), classes


_WORDS = {"boxes": ("box",), "scores": ("score", "conf", "prob"), "classes": ("class", "label", "categor")}


def _is_real(array: np.ndarray) -> bool:
    return bool(np.issubdtype(array.dtype, np.floating))


def _speaks(what: str, name: str, array: np.ndarray) -> bool:
    """Whether an output says by its name or its type that it is this."""
    by_type = what == "classes" and array.ndim == 2 and np.issubdtype(array.dtype, np.integer)
    return by_type or (array.ndim == 2 and any(word in name.lower() for word in _WORDS[what]))


def _pick(what: str, name: str, outputs: Mapping[str, np.ndarray], fits: Callable[[np.ndarray], bool]) -> np.ndarray:
    if name:
        if name not in outputs:
            raise UsageError(f"{what}={name}: the model has no such output; it has {_listed(outputs)}")
        return outputs[name]
    fitting = {k: a for k, a in outputs.items() if fits(a)}
    named = {k: a for k, a in fitting.items() if any(word in k.lower() for word in _WORDS[what])}
    typed = {k: a for k, a in fitting.items() if what == "classes" and np.issubdtype(a.dtype, np.integer)}
    for candidates in (fitting, named, typed):
        if len(candidates) == 1:
            return next(iter(candidates.values()))
    raise DataError(f"which output holds the {what}? Name it with {what}=NAME; the model has {_listed(outputs)}")


def _listed(outputs: Mapping[str, np.ndarray]) -> str:
    return ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in outputs.items())


def _rows(reading: Reading, outputs: Mapping[str, np.ndarray], images: int) -> Iterator[Parts]:
    array = _only(reading, outputs, images)
    if array.ndim != 3 or array.shape[2] != 6:
        raise DataError(f"rows of x1 y1 x2 y2 score class are expected, (n, K, 6); the output is {array.shape}")
    yield from ((image[:, :4], image[:, 4], image[:, 5]) for image in array)


def _raw(reading: Reading, outputs: Mapping[str, np.ndarray], images: int) -> Iterator[Parts]:
    array = _only(reading, outputs, images)
    before = 5 if reading.layout == "yolo5" else 4
    if array.ndim != 3 or min(array.shape[1:]) <= before:
        raise DataError(
            f"raw predictions are (n, {before} + C, A) or (n, A, {before} + C); the output is {array.shape}"
        )
    if array.shape[1] < array.shape[2]:
        array = array.swapaxes(1, 2)
    _check_probabilities(array[..., 4:])
    for image in array:
        scores = image[:, before:]
        yield image[:, :4], scores if before == 4 else scores * image[:, 4:5], None


def _only(reading: Reading, outputs: Mapping[str, np.ndarray], images: int) -> np.ndarray:
    if reading.boxes and reading.boxes not in outputs:
        raise UsageError(f"boxes={reading.boxes}: the model has no such output; it has {_listed(outputs)}")
    array = outputs[reading.boxes] if reading.boxes else next(iter(outputs.values()))
    return array[None] if array.ndim == 2 and images == 1 else array


def _check_probabilities(scores: np.ndarray) -> None:
    if scores.size and (scores.min() < -0.01 or scores.max() > 1.01):  # an int8 output may overshoot by a step
        raise DataError(
            f"class scores run from {scores.min():g} to {scores.max():g}; probabilities are expected: let the model "
            "end with its sigmoid or softmax"
        )


_LAYOUTS: dict[str, Callable[[Reading, Mapping[str, np.ndarray], int], Iterator[Parts]]] = {
    "separate": _separate,
    "rows": _rows,
    "yolo": _raw,
    "yolo5": _raw,
}
LAYOUTS = ("auto", *_LAYOUTS)

FORMATS: dict[str, Callable[[Floats], Floats]] = {
    "xyxy": lambda b: b,
    "xywh": lambda b: np.concatenate([b[..., :2], b[..., :2] + b[..., 2:]], axis=-1),
    "cxcywh": lambda b: np.concatenate([b[..., :2] - b[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2], axis=-1),
}


def _image_size(batch: Evaluated) -> Floats:
    """Width and height of the model's input, channels first or last."""
    image = next((a for a in batch.inputs.values() if a.ndim == 4), None)
    if image is None:
        raise DataError("boxes relative to the image need an input with four axes; this model has none")
    shape = image.shape
    last = shape[1] not in _IMAGE_CHANNELS and shape[3] in _IMAGE_CHANNELS
    height, width = shape[1:3] if last else shape[2:]
    return np.array([width, height], np.float64)
