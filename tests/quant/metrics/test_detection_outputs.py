"""Every form in which detectors answer, read as the same boxes; suppression against torchvision's and against loops."""

import gc

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from profiler.errors import DataError, UsageError
from quant.metrics import detection_outputs
from quant.metrics.base import Evaluated
from quant.metrics.detection import DETECTION
from quant.metrics.detection_match import box_iou
from quant.metrics.detection_nms import suppressed
from quant.metrics.detection_outputs import Reading

BOXES = np.array(
    [[[10.0, 20, 30, 60], [50, 50, 60, 70], [0, 0, 8, 8]], [[5, 5, 25, 45], [40, 10, 44, 20], [1, 1, 2, 2]]]
)
SCORES = np.array([[0.9, 0.5, 0.25], [0.75, 0.5, 0.125]])
CLASSES = np.array([[1, 0, 2], [0, 2, -1]])
IMAGES = np.zeros((2, 3, 80, 160), np.float32)


def batch(outputs, images=IMAGES):
    labels = {"boxes": np.zeros((len(images), 1, 4)), "classes": np.zeros((len(images), 1), int)}
    return Evaluated(outputs, labels, {"images": images})


def read(outputs, images=IMAGES, **settings):
    return Reading(**settings).read(batch(outputs, images))


def check(found, boxes=BOXES, scores=SCORES, classes=CLASSES):
    for image, (b, s, c) in enumerate(found):
        there = classes[image] >= 0
        assert b == pytest.approx(boxes[image][there])
        assert s == pytest.approx(scores[image][there])
        assert list(c) == list(classes[image][there])
    assert len(found) == len(boxes)


def centred(boxes):
    return np.concatenate([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], axis=-1)


@pytest.mark.parametrize(
    "names", [("boxes", "scores", "labels"), ("a", "b", "c"), ("num", "detection_scores", "classes")]
)
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_three_outputs_are_found_by_shape_type_and_name(names, order):
    arrays = [BOXES.astype(np.float32), SCORES.astype(np.float32), CLASSES]
    check(read({names[i]: arrays[i] for i in order}))


def test_classes_may_be_floats_and_further_outputs_may_be_there():
    outputs = {"num_dets": np.array([[3], [2]]), "det_boxes": BOXES, "det_scores": SCORES, "det_classes": CLASSES * 1.0}
    check(read(outputs))
    masks = {"masks": np.zeros((2, 3, 28, 28)), "boxes": BOXES, "other_boxes": BOXES + 1, "p": SCORES, "q": CLASSES}
    check(read(masks, boxes="boxes"))
    check(read(masks, boxes="other_boxes", scores="p", classes="q"), BOXES + 1)


@pytest.mark.parametrize(
    ("form", "change"),
    [
        ("xyxy", lambda b: b),
        ("cxcywh", centred),
        ("xywh", lambda b: np.concatenate([b[..., :2], b[..., 2:] - b[..., :2]], -1)),
    ],
)
def test_formats_and_units(form, change):
    outputs = {"boxes": change(BOXES), "scores": SCORES, "labels": CLASSES}
    check(read(outputs, format=form))
    outputs["boxes"] = change(BOXES / [160, 80, 160, 80])
    check(read(outputs, format=form, units="relative"))
    check(read(outputs, format=form, units="relative", images=IMAGES.transpose(0, 2, 3, 1)))
    with pytest.raises(DataError, match="four axes"):
        read(outputs, images=np.zeros((2, 5)), units="relative")


def test_the_background_is_taken_off():
    outputs = {"boxes": BOXES, "scores": SCORES, "labels": CLASSES + 1}
    check(read(outputs, offset=1))


def test_low_scores_do_not_count():
    outputs = {"boxes": BOXES, "scores": SCORES, "labels": CLASSES}
    assert [len(d.scores) for d in read(outputs, score=0.5)] == [2, 2]


@pytest.mark.parametrize("count", [0, 1, 3, 4])
def test_one_image_without_its_axis(count):
    rng = np.random.default_rng(0)
    boxes, scores, classes = rng.random((count, 4)) * 9, rng.random(count), rng.integers(0, 3, count)
    found = read({"boxes": boxes, "labels": classes, "scores": scores}, IMAGES[:1])
    check(found, boxes[None], scores[None], classes[None])
    check(
        read({"b": boxes[None], "c": classes[None], "s": scores[None]}, IMAGES[:1]),
        boxes[None],
        scores[None],
        classes[None],
    )


def test_rows_of_six():
    rows = np.concatenate([BOXES, SCORES[..., None], CLASSES[..., None]], axis=2).astype(np.float32)
    check(read({"output0": rows}))
    check(read({"output0": rows[0]}, IMAGES[:1], layout="rows"), BOXES[:1], SCORES[:1], CLASSES[:1])


def raw_predictions(classes=3, anchors=40, seed=0):
    """The boxes as predictions among others of no score, channels last."""
    rng = np.random.default_rng(seed)
    raw = np.zeros((2, anchors, 4 + classes))
    raw[..., :4] = centred(rng.random((2, anchors, 4)) * 9)
    for image in range(2):
        for k, place in enumerate(rng.permutation(anchors)[:3]):
            raw[image, place, :4] = centred(BOXES[image, k])
            if CLASSES[image, k] >= 0:
                raw[image, place, 4 + CLASSES[image, k]] = SCORES[image, k]
    return raw


@pytest.mark.parametrize("last", [True, False])
def test_raw_predictions(last):
    raw = raw_predictions()
    check(read({"output0": raw if last else raw.swapaxes(1, 2)}))
    with_objectness = np.concatenate(
        [raw[..., :4], np.full((2, 40, 1), 0.5), raw[..., 4:] * 2 * (raw[..., 4:] < 0.51)], 2
    )
    found = read({"output0": with_objectness if last else with_objectness.swapaxes(1, 2)}, layout="yolo5")
    assert [list(d.scores) for d in found] == [[0.5, 0.25], [0.5]]
    boxes, scores = raw[..., :4], raw[..., 4:]
    check(read({"boxes": boxes, "confs": scores}, format="cxcywh"))


def test_an_output_beside_the_raw_one_is_named():
    raw = raw_predictions().swapaxes(1, 2)
    check(read({"protos": np.zeros((2, 32, 9, 9)), "output0": raw}, layout="yolo", boxes="output0"))


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 60), st.sampled_from([0.3, 0.5, 0.7]), st.sampled_from([3, 300]))
def test_suppression_by_loops(seed, anchors, limit, most):
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 10, (anchors, 2)).astype(float)
    boxes = np.concatenate([corner, corner + rng.integers(1, 6, (anchors, 2))], axis=1)
    scores = rng.integers(0, 9, (anchors, 2)) / 8
    expected = []
    for _, row, label in sorted((-scores[r, k], r, k) for r in range(anchors) for k in range(2) if scores[r, k] >= 0.2):
        same = [r for r, k in expected if k == label]
        if not same or box_iou(boxes[same], boxes[[row]]).max() <= limit:
            expected.append((row, label))
    rows, labels = suppressed(boxes, scores, 0.2, limit, most)
    assert [*zip(rows.tolist(), labels.tolist(), strict=True)] == expected[:most]


def test_suppression_is_onnx_runtimes():
    node = helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "iou", "least"], ["y"])
    constants = {"most": np.array([400]), "iou": np.float32([0.5]), "least": np.float32([0.01])}
    graph = helper.make_graph(
        [node],
        "nms",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("boxes", "scores")],
        [helper.make_tensor_value_info("y", TensorProto.INT64, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    corner = rng.random((400, 2)) * 100
    boxes = np.concatenate([corner, corner + rng.random((400, 2)) * 60], axis=1).astype(np.float32)
    scores = np.where(rng.random((400, 3)) < 0.5, rng.random((400, 3)), 0).astype(np.float32)
    (chosen,) = session.run(None, {"boxes": boxes[None], "scores": scores.T[None]})
    rows, labels = suppressed(boxes.astype(float), scores, 0.01, 0.5, 2000)
    assert {*zip(labels, rows, strict=True)} == {(label, row) for _, label, row in chosen}
    assert 50 < len(rows) == len(chosen)
    assert (np.diff(scores[rows, labels]) <= 0).all()


def test_a_map_of_raw_predictions():
    """Two of three objects found by raw predictions of an image, one by the other form."""
    labels = {"boxes": BOXES, "classes": np.where(CLASSES < 0, -1, CLASSES)}
    metric = DETECTION["map"].build(layout="yolo")
    raw = raw_predictions()
    assert metric.value(metric.collect(Evaluated({"output0": raw}, labels))) == 1
    raw[0, :, 4 + 1] = 0  # class 1 has one object
    assert metric.value(metric.collect(Evaluated({"output0": raw}, labels))) == pytest.approx(2 / 3)


def test_metrics_that_read_alike_share_what_was_read(monkeypatch):
    times = []
    monkeypatch.setattr(detection_outputs, "suppressed", lambda *a: times.append(a) or suppressed(*a))
    one = batch({"output0": raw_predictions()})
    for name in ("map", "map50", "ar"):
        DETECTION[name].build().collect(one)
    assert len(times) == 2  # images
    DETECTION["map"].build(score=0.4).collect(one)
    assert len(times) == 4
    kept = len(detection_outputs._READ)
    del one
    gc.collect()
    assert len(detection_outputs._READ) < kept


CANNOT = {
    "one output that is no detector's": ({"y": np.zeros((2, 10))}, {}, "no detector's"),
    "no boxes": ({"a": np.zeros((2, 3)), "b": np.zeros((2, 3), int)}, {}, "which output holds the boxes"),
    "two boxes": ({"a": BOXES, "b": BOXES, "s": SCORES, "c": CLASSES}, {}, "boxes=NAME"),
    "scores or scores": ({"a": BOXES, "s": SCORES, "t": SCORES}, {}, "which output holds the scores"),
    "no classes": ({"boxes": BOXES, "scores": SCORES}, {}, "classes=NAME"),
    "logits": ({"y": raw_predictions() * 40}, {}, "sigmoid or softmax"),
    "not finite": ({"boxes": BOXES * np.nan, "scores": SCORES, "labels": CLASSES}, {}, "'boxes' holds NaN"),
    "not rows": ({"y": BOXES}, {"layout": "rows"}, "rows of x1 y1 x2 y2 score class"),
    "no raw predictions": ({"y": BOXES}, {"layout": "yolo"}, "raw predictions are"),
    "lengths": ({"boxes": BOXES, "s": SCORES[:, :2], "c": CLASSES[:, :2]}, {"scores": "s", "classes": "c"}, "together"),
}


@pytest.mark.parametrize("case", CANNOT)
def test_what_cannot_be_read(case):
    outputs, settings, words = CANNOT[case]
    with pytest.raises(DataError, match=words):
        read(outputs, **settings)


@pytest.mark.parametrize("what", ["boxes", "scores", "classes"])
def test_names_that_no_output_has(what):
    outputs = {"boxes": BOXES, "scores": SCORES, "labels": CLASSES}
    with pytest.raises(UsageError, match=f"{what}=x: the model has no such output; it has boxes"):
        read(outputs, **{what: "x"})
    with pytest.raises(UsageError, match="no such output"):
        read({"y": raw_predictions()}, boxes="x", layout="yolo")
