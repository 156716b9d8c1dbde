"""Detection metrics against pycocotools, and the VOC forms against the devkit's loops."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.errors import DataError, UsageError
from quant.metrics.base import Draws, Evaluated
from quant.metrics.detection import DETECTION
from quant.metrics.detection_match import box_iou

spec = importlib.util.spec_from_file_location("coco_sets", Path(__file__).with_name("coco_sets.py"))
coco_sets = importlib.util.module_from_spec(spec)
spec.loader.exec_module(coco_sets)
CocoSet, random_set = coco_sets.CocoSet, coco_sets.random_set
pycocotools_eval, pycocotools_figures = coco_sets.pycocotools_eval, coco_sets.pycocotools_figures

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


SETS = {
    "any": {},
    "ties": {"levels": 2, "classes": 2, "detections": 16},
    "only crowds": {"crowds": 1.0},
    "no crowd, areas of the boxes": {"crowds": 0, "areas": False},
    "many classes": {"classes": 9, "images": 8},
    "one image": {"images": 1, "classes": 1},
    "large boxes": {"grid": 20},
    "small boxes": {"grid": 3, "levels": 4},
}


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("seed", range(3))
def test_every_figure_equals_that_of_pycocotools(kind, seed):
    check_all_figures(random_set(seed, **SETS[kind]))


def test_the_sets_put_something_to_the_test():
    figures = [check_all_figures(random_set(seed, levels=4)) for seed in range(4)]
    assert len({round(f, 6) for f in figures}) == 4
    assert min(figures) > 0.01


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 3), st.integers(1, 6), st.integers(1, 14), st.data())
def test_weighted_images_are_repeated_ones_for_pycocotools(seed, images, classes, objects, detections, more):
    times = more.draw(st.lists(st.integers(0, 3), min_size=images, max_size=images).filter(any))
    levels = more.draw(st.sampled_from([0, 2, 4]))
    data = random_set(
        seed, images, classes, objects, detections, levels=levels, grid=more.draw(st.sampled_from([3, 8]))
    )
    check_all_figures(data, times)


def test_ties_within_an_image_that_comes_again_interleave():
    """Hit, miss, hit, miss: half the precision at the end that hit, hit, miss, miss would have."""
    box = np.array([[[0.0, 0, 10, 10]]])
    data = CocoSet(
        {"boxes": box, "classes": np.zeros((1, 1), int), "crowd": np.zeros((1, 1), bool)},
        {
            "boxes": np.array([[[50.0, 50, 60, 60], [0, 0, 10, 10]]]),
            "scores": np.full((1, 2), 0.5),
            "classes": np.zeros((1, 2), int),
        },
    )
    chosen = metric("map50")
    records = chosen.collect(data.batch())
    assert chosen.resampled(records, np.array([[1.0], [3.0]])) == pytest.approx([0.5, 0.5])
    first = CocoSet(data.labels, data.outputs | {"boxes": data.outputs["boxes"][:, ::-1]})
    records = chosen.collect(first.batch())  # hit, miss, hit, miss, hit: 1, 2/3 and 3/5 from a recall of 0, 1/3 and 2/3
    expected = (34 * 1 + 33 * 2 / 3 + 34 * 3 / 5) / 101
    assert chosen.resampled(records, np.array([[1.0], [3.0]])) == pytest.approx([1, expected])


def test_of_two_objects_with_one_iou_the_later_is_taken():
    """As pycocotools does: the second detection, which speaks of the later alone, then finds nothing."""
    truth = np.array([[[0.0, 0, 10, 10], [4, 0, 14, 10]]])
    found = np.array([[[2.0, 0, 12, 10], [4, 0, 14, 10]]])
    none = np.zeros((1, 2), int)
    labels = {"boxes": truth, "classes": none, "crowd": none.astype(bool)}
    for later in (slice(None), slice(None, None, -1)):
        data = CocoSet(
            labels | {"boxes": truth[:, later]}, {"boxes": found, "scores": np.array([[0.9, 0.8]]), "classes": none}
        )
        check_all_figures(data)
    assert value(metric("map50"), CocoSet(labels, data.outputs)) == pytest.approx(51 / 101)
    assert value(metric("map50"), data) == pytest.approx(1)


def test_figures_of_classes_are_pycocotools():
    data = random_set(3, images=8, classes=5)
    precision = pycocotools_eval(data).eval["precision"][:, :, :, 0, 2]
    chosen = metric()
    found = chosen.per_class(chosen.collect(data.batch()), np.ones((1, 8)))
    assert set(found) == {k for k in range(precision.shape[2]) if precision[0, 0, k] > -1}
    for label, figure in found.items():
        assert figure[0] == pytest.approx(precision[:, :, label].mean(), **CLOSE)
        assert value(metric(**{"class": label}), data) == pytest.approx(figure[0], **CLOSE)
    with pytest.raises(DataError, match="no image has an object of class 77"):
        value(metric(**{"class": 77}), data)


@pytest.mark.parametrize("most", [1, 3, 10])
def test_the_limit_of_detections_is_by_class_and_image(most):
    data = random_set(5, detections=30, classes=2)
    expected = pycocotools_figures(data, detections=max(most, 10))
    if most == 10:
        assert value(metric(max_detections=10), data) == pytest.approx(expected["map", "all"], **CLOSE)
    recall = pycocotools_eval(data, 100).eval["recall"]  # of 1, 10 and 100 detections
    if most != 3:
        limited = recall[:, :, 0, (1, 10).index(most)]
        assert value(metric("ar", max_detections=most), data) == pytest.approx(limited[limited > -1].mean(), **CLOSE)
    assert value(metric("ar", max_detections=most), data) <= value(metric("ar"), data)


def test_iou_is_pycocotools():
    from pycocotools import mask

    rng = np.random.default_rng(0)
    first, second = (np.sort(rng.integers(0, 12, (n, 2, 2)), axis=1).reshape(n, 4).astype(float) for n in (40, 30))
    crowd = rng.random(30) < 0.3
    wide = [np.concatenate([b[:, :2], b[:, 2:] - b[:, :2]], axis=1) for b in (first, second)]
    there = ((wide[0][:, 2:].prod(axis=1) > 0)[:, None]) & (wide[1][:, 2:].prod(axis=1) > 0)  # 0/0 is NaN there
    expected = mask.iou(*wide, crowd.astype(np.uint8))
    assert np.allclose(box_iou(first, second, crowd)[there], expected[there], rtol=0, atol=1e-12)
    assert not box_iou(first, second)[~there].any()
    assert box_iou([[0, 0, 2, 2]], [[1, 0, 3, 2]])[0, 0] == pytest.approx(1 / 3)


def voc_ap(data, label, threshold, points):
    """AP as the VOC devkit's loops give it, at IoU >= threshold."""
    found = [
        (-data.outputs["scores"][i, d], i, d)
        for i, named in enumerate(data.outputs["classes"])
        for d in np.flatnonzero(named == label)
    ]
    taken, hits, misses, points_of_curve = set(), 0, 0, []
    objects = (data.labels["classes"] == label) & ~data.labels["crowd"]
    for _, i, d in sorted(found):
        candidates = np.flatnonzero(data.labels["classes"][i] == label)
        box, best, which = data.outputs["boxes"][i, d], -1.0, None
        for g in candidates:
            other = data.labels["boxes"][i, g]
            sides = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
            shared = max(sides[0], 0) * max(sides[1], 0)
            overlap = shared / (np.prod(box[2:] - box[:2]) + np.prod(other[2:] - other[:2]) - shared)
            if overlap > best:
                best, which = overlap, g
        if best >= threshold:
            if data.labels["crowd"][i, which]:
                continue
            hits, misses = (hits, misses + 1) if (i, which) in taken else (hits + 1, misses)
            taken.add((i, which))
        else:
            misses += 1
        points_of_curve.append((hits / objects.sum(), hits / (hits + misses)))
    recall, precision = np.array([*points_of_curve, (0, 0)]).T
    if points:
        at = [max(precision[recall >= r], default=0) for r in np.linspace(0, 1, points)]
        return float(np.mean(at))
    steps = np.unique(recall)
    return float(sum((b - a) * precision[recall >= b].max() for a, b in zip([0, *steps], steps, strict=False)))


@pytest.mark.parametrize(("form", "points"), [("voc", 0), ("voc11", 11)])
@pytest.mark.parametrize("seed", range(5))
def test_voc_forms_equal_the_devkits_loops(form, points, seed):
    data = random_set(seed, images=10, levels=0, areas=False, detections=20)
    classes = np.unique(data.labels["classes"][(data.labels["classes"] >= 0) & ~data.labels["crowd"]])
    for spec, thresholds in (("0.5", [0.5]), ("0.5-0.6", [0.5, 0.55, 0.6])):
        expected = np.mean([[voc_ap(data, k, t, points) for k in classes] for t in thresholds])
        assert value(metric(form=form, iou=spec), data) == pytest.approx(expected, **CLOSE)
    assert value(metric(form=form), data) != pytest.approx(value(metric(), data), rel=1e-4)


def one_class(hits, objects):
    """Detections of one image in order of score, hits or not, of so many objects."""
    corner = np.arange(objects) * 20.0
    boxes = np.stack([corner, corner, corner + 10, corner + 10], axis=1)
    free = iter(boxes)
    found = np.array([next(free) if hit else [0, 500, 10, 510] for hit in hits], float).reshape(-1, 4)
    scores = 1 - np.arange(len(hits)) / 100
    labels = {"boxes": boxes[None], "classes": np.zeros((1, objects), int), "crowd": np.zeros((1, objects), bool)}
    return CocoSet(labels, {"boxes": found[None], "scores": scores[None], "classes": np.zeros((1, len(hits)), int)})


def test_each_form_by_hand():
    data = one_class([True, False, True], 4)  # precision 1 up to recall 1/4, 2/3 up to 1/2, nothing beyond
    assert value(metric("map50"), data) == pytest.approx((26 * 1 + 25 * 2 / 3) / 101)
    assert value(metric("map50", form="voc"), data) == pytest.approx(1 / 4 + 1 / 4 * 2 / 3)
    assert value(metric("map50", form="voc11"), data) == pytest.approx((3 * 1 + 3 * 2 / 3) / 11)
    assert value(metric("ar", iou="0.5"), data) == 0.5


def test_ap_is_the_area_under_precision_and_recall_not_under_roc():
    """Formulas D: one of the sources calls the area under the PR curve AUC; AUC is that under ROC."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    hits = [True, True, False, True, False, False, False, True]
    data = one_class(hits, sum(hits))
    scores = data.outputs["scores"][0]
    ours = value(metric("map50", form="voc"), data)
    assert ours == pytest.approx(average_precision_score(hits, scores), abs=1e-9)  # precision falls from hit to hit
    assert abs(ours - roc_auc_score(hits, scores)) > 0.05


def test_the_thresholds_are_ten():
    """Formulas D: 0.5 to 0.95 in steps of 0.05."""
    assert metric().thresholds == pytest.approx([0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95])
    assert metric("map50").thresholds == (0.5,)
    singles = [value(metric(iou=f"{t:.2f}"), random_set(1)) for t in metric().thresholds]
    assert value(metric(), random_set(1)) == pytest.approx(np.mean(singles))


def test_the_extremes():
    right, wrong, none = one_class([True] * 3, 3), one_class([False] * 3, 3), one_class([], 3)
    for name in DETECTION:
        assert value(metric(name), right) == 1
        assert value(metric(name), wrong) == value(metric(name), none) == 0
    labels = right.labels | {"classes": np.full((1, 3), -1)}
    with pytest.raises(DataError, match="no image has an object"):
        value(metric(), CocoSet(labels, right.outputs))
    assert value(metric(area="small"), right) == 1
    with pytest.raises(DataError, match="medium area"):
        value(metric(area="medium"), right)


def test_batches_add_up():
    data = random_set(7, images=9)
    chosen = metric()
    parts = [chosen.collect(data.batch(slice(a, a + 4))) for a in (0, 4, 8)]
    joined = tuple(np.concatenate(column) for column in zip(*parts, strict=True))
    assert chosen.value(joined) == value(chosen, data)
    assert chosen.unit == "image"


def test_the_interval_is_paired_and_reproducible():
    chosen, data = metric("map50"), random_set(11, images=60, crowds=0)
    worse = dict(data.outputs, scores=data.outputs["scores"].copy(), classes=data.outputs["classes"].copy())
    worse["classes"][::3] = -1
    first, second = chosen.collect(data.batch()), chosen.collect(CocoSet(data.labels, worse).batch())
    draws = Draws(60, seed=3, resamples=400, unit="image")
    interval, method = chosen.interval(first, second, draws)
    drop = chosen.value(first) - chosen.value(second)
    assert interval.low < drop < interval.high
    assert interval == chosen.interval(first, second, draws)[0]
    assert interval != chosen.interval(first, second, Draws(60, seed=4, resamples=400, unit="image"))[0]
    back, _ = chosen.interval(second, first, draws)
    assert (back.low, back.high) == pytest.approx((-interval.high, -interval.low), abs=0.02)
    assert method == "paired bootstrap of 60 images, 2 added, seed 3"


def test_models_that_agree_on_few_images_may_still_differ():
    chosen, data = metric("map50"), random_set(11, images=40, crowds=0)
    records = chosen.collect(data.batch())
    interval, _ = chosen.interval(records, records, Draws(40, seed=0, resamples=400, unit="image"))
    assert interval.low < 0 < interval.high
    assert interval.high - interval.low < 0.2
    few = tuple(part[:4] for part in records)
    interval, method = chosen.interval(few, few, Draws(4, seed=0, unit="image"))
    assert tuple(interval) == (-1, 1)
    assert method == "none: 4 images, an interval takes 5"


def test_images_of_a_group_are_drawn_together():
    chosen, data = metric("map50"), random_set(12, images=40, crowds=0)
    other = CocoSet(data.labels, data.outputs | {"scores": 1 - data.outputs["scores"]})
    pair = chosen.collect(data.batch()), chosen.collect(other.batch())
    alone, _ = chosen.interval(*pair, Draws(40, seed=0, resamples=300, unit="image"))
    groups = np.repeat(np.arange(8), 5)
    grouped, method = chosen.interval(*pair, Draws(40, seed=0, resamples=300, unit="group", groups=groups))
    assert grouped != alone
    assert method.startswith("paired bootstrap of 8 groups")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"iou": "half"}, "iou=half"),
        ({"iou": "0.5-0.93"}, "steps of 0.05"),
        ({"iou": "0"}, "threshold"),
        ({"max_detections": 0}, "at least 1"),
        ({"form": "voc", "area": "small"}, "form=coco"),
        ({"nms": 0.0}, "nms"),
    ],
)
def test_settings_that_cannot_be(settings, words):
    with pytest.raises(UsageError, match=words):
        metric(**settings)


def test_labels_that_cannot_be():
    data = random_set(1)
    cases = [
        ({"y": np.zeros(6)}, "lacks boxes and classes"),
        (data.labels | {"classes": np.zeros((6, 2), int)}, r"expected \(n, M, 4\)"),
        (data.labels | {"crowd": np.zeros((6, 2), bool)}, "crowd"),
        (data.labels | {"boxes": data.labels["boxes"][..., ::-1] + [0, 0, -300, -300]}, "ends before it begins"),
    ]
    for labels, words in cases:
        with pytest.raises(DataError, match=words):
            metric().collect(Evaluated(data.outputs, labels))
    with pytest.raises(DataError, match="answers for 6 images, the labels are of 5"):
        metric().collect(Evaluated(data.outputs, {k: v[:5] for k, v in data.labels.items()}))
