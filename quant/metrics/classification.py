"""The metrics of classification, in one table."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from quant.metrics import confusion
from quant.metrics.base import Family, Parameter
from quant.metrics.calibration import Brier, CalibrationError
from quant.metrics.class_counts import ClassRatio, Right
from quant.metrics.curves import auc, average_precision
from quant.metrics.ranking import RankArea
from quant.metrics.sweep import Sweep

if TYPE_CHECKING:
    from collections.abc import Mapping

_COMMON = {
    "ignore": Parameter(None, help="label that stands for no class; in maps 255 does, unless it is a class"),
    "output": Parameter("", help="name of the model's output; the first where none is given"),
}
_POSITIVE = Parameter(1, help="the class that is looked for, of two")
_RATIO = {
    "average": Parameter("macro", ("macro", "micro", "weighted", "binary"), "over classes; binary: the positive one"),
    "positive": _POSITIVE,
    **_COMMON,
}
_AREA = {
    "average": Parameter("macro", ("macro", "weighted"), "over classes, where there are more than two"),
    "positive": _POSITIVE,
    **_COMMON,
}
_BOTH = ("classification", "segmentation")

CLASSIFICATION: Mapping[str, Family] = {
    "accuracy": Family(Right, "correct / all", _COMMON, _BOTH),
    "topk": Family(
        Right,
        "the true class is among the k with the highest scores",
        {"k": Parameter(5, help="how many count"), **_COMMON},
    ),
    "precision": Family(partial(ClassRatio, confusion.precision_parts), "hits / predicted, of a class", _RATIO, _BOTH),
    "recall": Family(partial(ClassRatio, confusion.recall_parts), "hits / actual, of a class", _RATIO, _BOTH),
    "f1": Family(partial(ClassRatio, confusion.f1_parts), "2 hits / (predicted + actual), of a class", _RATIO, _BOTH),
    "auc": Family(
        partial(RankArea, auc),
        "area under the ROC curve, true over false positive rate; of more than two classes, one against the rest",
        _AREA,
        ("binary",),
    ),
    "ap": Family(
        partial(RankArea, average_precision),
        "average precision, the area under precision over recall, not interpolated",
        _AREA,
        ("binary",),
    ),
    "sweep": Family(Sweep, "the best F1 over all thresholds of the confidence", {"positive": _POSITIVE, **_COMMON}),
    "brier": Family(Brier, "mean squared error of the probabilities (Brier 1950)", _COMMON),
    "ece": Family(
        CalibrationError,
        "expected calibration error (Guo et al. 2017)",
        {"bins": Parameter(15, help="of equal width"), **_COMMON},
    ),
}
