"""Segmentation metrics against scikit-learn and torch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from profiler.errors import DataError, UsageError
from quant.metrics.base import Draws, Evaluated
from quant.metrics.losses import LOSSES
from quant.metrics.segmentation import SEGMENTATION

SCORERS = {"iou": reference.jaccard_score, "dice": reference.f1_score}


def metric(name, **settings):
    return SEGMENTATION[name].build(**settings)


def logits(rng, n=4, classes=3, size=(6, 5)):
    return rng.normal(size=(n, classes, *size)).astype(np.float32) * 3


def batch(outputs, labels, reference=None):
    kept = {} if reference is None else {"out": reference}
    return Evaluated({"out": outputs}, {"y": labels}, reference=kept)


def value(chosen, outputs, labels):
    return chosen.value(chosen.collect(batch(outputs, labels)))


CASES = {
    "random": lambda r: (logits(r), r.integers(0, 3, (4, 6, 5))),
    "all wrong": lambda r: ((x := logits(r)), (x.argmax(axis=1) + 1) % 3),
    "all right": lambda r: ((x := logits(r)), x.argmax(axis=1)),
    "a class in neither": lambda r: (logits(r) + np.array([0, 0, -99]).reshape(3, 1, 1), r.integers(0, 2, (4, 6, 5))),
    "a class never named": lambda r: (logits(r) + np.array([0, 0, -99]).reshape(3, 1, 1), r.integers(0, 3, (4, 6, 5))),
    "one map": lambda r: (logits(r, 1), r.integers(0, 3, (1, 6, 5))),
    "lines": lambda r: (logits(r, size=(7,)), r.integers(0, 3, (4, 7))),
    "volumes": lambda r: (logits(r, size=(2, 3, 4)), r.integers(0, 3, (4, 2, 3, 4))),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
@pytest.mark.parametrize("name", SCORERS)
def test_ratios_equal_scikit_learns(case, average, name):
    outputs, labels = CASES[case](np.random.default_rng(0))
    named = outputs.argmax(axis=1)

    def expected(truth, predicted):
        return SCORERS[name](truth.ravel(), predicted.ravel(), average=average, zero_division=0)

    assert value(metric(name, average=average), outputs, labels) == pytest.approx(expected(labels, named), abs=1e-12)
    each = np.mean([expected(*unit) for unit in zip(labels, named, strict=True)])
    assert value(metric(name, average=average, per="map"), outputs, labels) == pytest.approx(each, abs=1e-12)
    assert value(metric("pixel_accuracy"), outputs, labels) == pytest.approx((labels == named).mean())


@pytest.mark.parametrize("name", SCORERS)
def test_each_class(name):
    rng = np.random.default_rng(1)
    outputs, labels = logits(rng, classes=4), rng.integers(0, 4, (4, 6, 5))
    each = SCORERS[name](labels.ravel(), outputs.argmax(axis=1).ravel(), average=None)
    assert [value(metric(name, **{"class": k}), outputs, labels) for k in range(4)] == pytest.approx(each)
    with pytest.raises(UsageError, match="class=4: the model has 4 classes"):
        value(metric(name, **{"class": 4}), outputs, labels)


def test_mean_iou_is_that_of_the_confusion_matrix():
    rng = np.random.default_rng(2)
    outputs, labels = logits(rng), rng.integers(0, 3, (4, 6, 5))
    matrix = reference.confusion_matrix(labels.ravel(), outputs.argmax(axis=1).ravel())
    hits = np.diagonal(matrix)
    expected = np.mean(hits / (matrix.sum(axis=0) + matrix.sum(axis=1) - hits))
    assert value(metric("iou"), outputs, labels) == pytest.approx(float(expected))


def soft_dice(smooth=1.0, **options):
    return metric("dice", smooth=smooth, counts="soft", **options)


def torch_dice_loss(outputs, labels, smooth):
    """1 - (2I + s)/(A + B + s) of probabilities, the mean over classes."""
    p = torch.softmax(torch.from_numpy(outputs).double(), dim=1)
    y = torch.nn.functional.one_hot(torch.from_numpy(labels), p.shape[1]).movedim(-1, 1).double()
    axes = (0, *range(2, p.ndim))
    return float((1 - (2 * (p * y).sum(axes) + smooth) / (p.sum(axes) + y.sum(axes) + smooth)).mean())


@pytest.mark.parametrize("smooth", [0.0, 1.0, 5.0])
def test_soft_dice_is_that_of_torch(smooth):
    """Formulas E: 1 - (2I + s)/(A + B + s), and IoU beside it."""
    rng = np.random.default_rng(3)
    outputs, labels = logits(rng), rng.integers(0, 3, (4, 6, 5))
    loss = 1 - value(soft_dice(smooth), outputs, labels)
    assert loss == pytest.approx(torch_dice_loss(outputs, labels, smooth), abs=1e-9)
    each = [torch_dice_loss(outputs[i : i + 1], labels[i : i + 1], smooth) for i in range(4)]
    loss = 1 - value(soft_dice(smooth, per="map"), outputs, labels)
    assert loss == pytest.approx(np.mean(each), abs=1e-9)
    by_map = LOSSES["dice_loss"].build(smooth=smooth)
    assert value(by_map, outputs, labels) == pytest.approx(loss, abs=1e-6)


def test_dice_and_iou_say_the_same_of_one_class():
    """Dice = 2 IoU / (1 + IoU)."""
    rng = np.random.default_rng(4)
    outputs, labels = logits(rng), rng.integers(0, 3, (4, 6, 5))
    for k in range(3):
        iou, dice = (value(metric(name, **{"class": k}), outputs, labels) for name in SCORERS)
        assert dice == pytest.approx(2 * iou / (1 + iou))


def test_smoothing_by_hand():
    """I = 1, A = 2, B = 1, s = 1: (2 + 1) / (3 + 1)."""
    outputs = np.array([[[[5.0, -5, -5, -5]]]])
    labels = np.array([[[1, 1, 0, 0]]])
    assert value(metric("dice", smooth=1.0, **{"class": 1}), outputs, labels) == 0.75
    assert value(metric("dice", **{"class": 1}), outputs, labels) == pytest.approx(2 / 3)


def test_ignored_positions_do_not_count():
    rng = np.random.default_rng(5)
    outputs, labels = logits(rng), rng.integers(0, 3, (4, 6, 5))
    marked = np.where(rng.random(labels.shape) < 0.3, 255, labels)
    kept = marked != 255
    named = outputs.argmax(axis=1)
    for name, scorer in SCORERS.items():
        expected = scorer(labels[kept], named[kept], average="macro")
        assert value(metric(name, ignore=255), outputs, marked) == pytest.approx(expected)
        assert value(metric(name), outputs, marked) == pytest.approx(expected)
    with pytest.raises(DataError, match=r"sample 2 has a label 254; .* say ignore=254"):
        value(metric("iou"), outputs, np.where(np.arange(4)[:, None, None] == 2, 254, labels))
    probabilities = torch.softmax(torch.from_numpy(outputs).double(), dim=1).numpy()
    changed = np.where(kept[:, None], probabilities, 1 / 3)
    soft = soft_dice(ignore=255, outputs="probabilities")
    assert value(soft, probabilities, marked) == pytest.approx(value(soft, changed, marked))
    assert value(metric("iou", ignore=255), outputs, np.full_like(labels, 255)) == 0


@pytest.mark.parametrize("shape", [(4, 1, 6, 5), (4, 6, 5)])
def test_one_channel_is_a_binary_map(shape):
    rng = np.random.default_rng(6)
    scores, labels = rng.normal(size=(4, 6, 5)) * 2, rng.integers(0, 2, (4, 6, 5))
    for threshold in (0.5, 0.8):
        cut = np.log(threshold / (1 - threshold))
        expected = reference.jaccard_score(labels.ravel(), (scores > cut).ravel())
        for outputs in (scores, 1 / (1 + np.exp(-scores))):  # logits, probabilities
            found = value(metric("iou", threshold=threshold, **{"class": 1}), outputs.reshape(shape), labels)
            assert found == pytest.approx(expected)
            assert (
                value(
                    metric("iou", threshold=threshold, **{"class": 1}),
                    outputs.reshape(shape),
                    labels[:, None].reshape(shape),
                )
                == found
            )
    p, y = torch.sigmoid(torch.from_numpy(scores)), torch.from_numpy(labels)
    dice = (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)
    assert value(soft_dice(**{"class": 1}), scores.reshape(shape), labels) == pytest.approx(float(dice))


def test_a_map_without_the_class():
    outputs = np.full((2, 1, 2, 2), -5.0)
    outputs[0, 0, 0] = 5
    labels = np.zeros((2, 2, 2), int)
    labels[0, 0] = 1  # named right in the first, neither there nor named in the second
    only = {"class": 1}
    assert value(metric("dice", per="map", **only), outputs, labels) == 1
    assert value(metric("dice", per="map", **only), outputs, 0 * labels) == 0  # the second does not enter
    assert value(metric("dice", per="map", absent="one", **only), outputs, 0 * labels) == 0.5
    assert value(metric("iou", absent="one", **only), outputs[1:], 0 * labels[1:]) == 1


def test_the_first_model_says_whether_outputs_are_probabilities():
    """An int8 softmax does not sum to one; it is read as the float model's is."""
    rng = np.random.default_rng(7)
    first = torch.softmax(torch.from_numpy(logits(rng)), dim=1).numpy()
    labels, second = rng.integers(0, 3, (4, 6, 5)), np.round(first * 8) / 8
    chosen = soft_dice()
    found = chosen.value(chosen.collect(batch(second, labels, reference=first)))
    assert found == pytest.approx(value(soft_dice(outputs="probabilities"), second, labels))
    assert found != pytest.approx(value(soft_dice(outputs="logits"), second, labels), abs=1e-3)


@settings(max_examples=30)
@given(
    st.integers(0, 10**6),
    st.sampled_from([*SEGMENTATION]),
    st.sampled_from(["pooled", "map"]),
    st.lists(st.integers(0, 3), min_size=4, max_size=4).filter(any),
)
def test_weighted_maps_are_repeated_ones(seed, name, per, times):
    rng = np.random.default_rng(seed)
    outputs, labels = logits(rng, size=(2, 3)), rng.integers(0, 3, (4, 2, 3))
    chosen, again = metric(name, per=per), np.repeat(np.arange(4), times)
    records = chosen.collect(batch(outputs, labels))
    weights = np.stack([np.ones(4), times]).astype(float)
    expected = value(chosen, outputs[again], labels[again])
    assert chosen.resampled(records, weights) == pytest.approx([chosen.value(records), expected], abs=1e-12)


def test_batches_add_up():
    rng = np.random.default_rng(8)
    outputs, labels = logits(rng), rng.integers(0, 3, (4, 6, 5))
    chosen = metric("iou")
    parts = [chosen.collect(batch(outputs[a : a + 3], labels[a : a + 3])) for a in (0, 3)]
    assert chosen.value((np.concatenate([p[0] for p in parts]),)) == value(chosen, outputs, labels)
    assert chosen.unit == "map"


def test_the_interval_draws_maps_and_claims_nothing_of_four():
    rng = np.random.default_rng(9)
    labels = rng.integers(0, 3, (30, 6, 5))
    first = np.eye(3)[np.where(rng.random(labels.shape) < 0.9, labels, 0)].transpose(0, 3, 1, 2)
    second = np.eye(3)[np.where(rng.random(labels.shape) < 0.7, labels, 1)].transpose(0, 3, 1, 2)
    for name in SEGMENTATION:
        chosen = metric(name)
        pair = [chosen.collect(batch(x, labels, reference=first)) for x in (first, second)]
        interval, method = chosen.interval(*pair, Draws(30, seed=0, resamples=300, unit="map"))
        sign = 1 if chosen.higher_is_better else -1
        assert 0 < interval.low < sign * (chosen.value(pair[0]) - chosen.value(pair[1])) < interval.high
        assert method == "paired bootstrap of 30 maps, seed 0"
        few = [tuple(part[:4] for part in records) for records in pair]
        interval, method = chosen.interval(*few, Draws(4, seed=0, unit="map"))
        assert tuple(interval) == (-1, 1)
        assert method == "none: 4 maps, an interval takes 5"


def test_what_cannot_be():
    rng = np.random.default_rng(10)
    outputs, labels = logits(rng), rng.integers(0, 3, (4, 6, 5))
    cases = [
        (outputs, labels[:, :5], "labels have the size"),
        (outputs, labels + 0.5, "fractions"),
        (outputs, labels + 3, "the model has 3 classes"),
        (np.full_like(outputs, np.nan), labels, "NaN"),
        (outputs[:, :, 0, 0], labels[:, 0, 0], "expected"),
    ]
    for given_outputs, given_labels, words in cases:
        with pytest.raises(DataError, match=words):
            value(metric("iou"), given_outputs, given_labels)
    with pytest.raises(DataError, match="needs labels"):
        metric("iou").collect(Evaluated({"out": outputs}, {}))
    with pytest.raises(UsageError, match="one class"):
        metric("iou", average="micro", **{"class": 1})
    with pytest.raises(UsageError, match="negative"):
        metric("dice", smooth=-1.0)
