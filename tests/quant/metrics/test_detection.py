"""Detection metrics against pycocotools, and the VOC forms against the devkit's loops."""

import numpy as np
import pytest
from coco_sets import AREAS, CocoSet, pycocotools_eval, pycocotools_figures, random_set
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.errors import DataError, UsageError
from quant.metrics.base import Draws, Evaluated
from quant.metrics.detection import DETECTION
from quant.metrics.detection_match import box_iou

CLOSE = {"rel": 0, "abs": 1e-9}


def metric(name="map", **settings):
    return DETECTION[name].build(**settings)


def value(chosen, data):
    return chosen.value(chosen.collect(data.batch()))


def check_all_figures(data, times=None):
    """Every figure equals that of pycocotools on the set with its images repeated."""
    times = np.ones(len(data.labels["classes"]), int) if times is None else np.asarray(times)
    expected = pycocotools_figures(data.repeated(times))
    if expected is None:
        return 0
    for (name, area), figure in expected.items():
        chosen = metric(name, area=area)
        records = chosen.collect(data.batch())
        weights = np.stack([np.ones(len(times)), times]).astype(float)
        ours = chosen.resampled(records, weights)[1]
        assert ours == pytest.approx(0.0 if figure is None else figure, **CLOSE), (name, area)
        if figure is None and (times == 1).all():
            with pytest.raises(DataError, match="no image has an object"):
                chosen.value(records)
    return expected["map", "all"] or 0
