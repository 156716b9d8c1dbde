"""Metrics of scores against scikit-learn, and every form that outputs and labels come in."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from profiler.errors import DataError, UsageError
from quant.metrics import compare_outputs
from quant.metrics.base import Draws, Evaluated
from quant.metrics.registry import find
from quant.metrics.scores import log_odds


def value(name, outputs, labels, kinds=None):
    metric = find(name)
    return metric.value(metric.collect(Evaluated({"out": outputs}, {"y": labels}, kinds=kinds or {})))


def softmax(x):
    return torch.softmax(torch.from_numpy(np.asarray(x, np.float64)), 1).numpy()


BINARY = {
    "random": lambda r: (r.integers(0, 2, 60), r.normal(size=60)),
    "ties": lambda r: (r.integers(0, 2, 80), r.integers(-2, 3, 80).astype(float)),
    "all equal": lambda r: (r.integers(0, 2, 20), np.full(20, 0.3)),
    "perfect": lambda _: (np.arange(30) % 2, np.arange(30) % 2 * 4.0 - 2),
    "all wrong": lambda _: (np.arange(30) % 2, 2 - np.arange(30) % 2 * 4.0),
    "one positive": lambda r: (np.eye(25, dtype=int)[7], r.normal(size=25)),
    "huge": lambda r: (r.integers(0, 2, 40), 1e3 * r.normal(size=40)),
}


@pytest.mark.parametrize("case", BINARY)
@pytest.mark.parametrize("form", ["one", "column", "two", "probabilities"])
def test_binary_scores_equal_scikit_learns(case, form):
    truth, z = BINARY[case](np.random.default_rng(1))
    with np.errstate(over="ignore"):
        p = 1 / (1 + np.exp(-z))
    forms = {
        "one": (z, "logits"),
        "column": (z[:, None], "logits"),
        "two": (np.stack([-z / 2, z / 2], axis=1), "logits"),
        "probabilities": (p, "probabilities"),
    }
    outputs, kind = forms[form]
    ranks = p if form == "probabilities" else z  # where p rounds to 0 or 1 it ties, and z does not
    found = {name: value(name, outputs, truth, {"out": kind}) for name in ("auc", "ap", "brier", "sweep", "accuracy")}
    assert found["auc"] == pytest.approx(reference.roc_auc_score(truth, ranks))
    assert found["ap"] == pytest.approx(reference.average_precision_score(truth, ranks))
    assert found["brier"] == pytest.approx(reference.brier_score_loss(truth, p), abs=1e-12)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(truth, z > 0))
    precision, recall, _ = reference.precision_recall_curve(truth, ranks)
    with np.errstate(invalid="ignore"):
        assert found["sweep"] == pytest.approx(np.nanmax(2 * precision * recall / (precision + recall)))


@settings(max_examples=25, deadline=None)
@given(st.integers(6, 60), st.integers(3, 6), st.booleans(), st.integers(0, 10_000))
def test_scores_of_many_classes_equal_scikit_learns(n, classes, coarse, seed):
    r = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(classes), r.integers(0, classes, n - classes if n > classes else 0)])
    logits = r.normal(0, 2, (len(truth), classes))
    logits = logits.round() if coarse else logits
    p = softmax(logits).round(6)
    for average in ("macro", "weighted"):
        expected = reference.roc_auc_score(truth, p, multi_class="ovr", average=average, labels=range(classes))
        assert value(f"auc:average={average}", p, truth) == pytest.approx(expected, abs=1e-12)
        expected = reference.average_precision_score(np.eye(classes)[truth], p, average=average)
        assert value(f"ap:average={average}", p, truth) == pytest.approx(expected)
        if not coarse:  # a softmax makes ties of its own, and breaks others
            assert value(f"ap:average={average}", logits, truth) == pytest.approx(expected)
    expected = reference.brier_score_loss(truth, softmax(logits), labels=range(classes), scale_by_half=False)
    assert value("brier", logits, truth) == pytest.approx(expected)
    if not coarse:  # the order of equal scores is a matter of taste
        expected = reference.top_k_accuracy_score(truth, logits, k=2, labels=range(classes))
        assert value("topk:k=2", logits, truth) == pytest.approx(expected)


def test_log_odds_keep_the_order_where_probabilities_round():
    logits = np.array([[0.0, 50.0, 3.0], [0.0, 60.0, 3.0], [0.0, 800.0, -800.0], [1.0, 1.0, 1.0]])
    found = log_odds(logits, "logits")
    assert (np.diff(found[:3, 1]) > 0).all()
    assert found[3] == pytest.approx(np.log(1 / 3) - np.log(2 / 3))
    p = softmax(np.array([[0.2, -0.4, 1.5]]))
    assert log_odds(np.log(p), "logits") == pytest.approx(np.log(p / (1 - p)))
    assert log_odds(p, "probabilities") == pytest.approx(np.log(p / (1 - p)))


@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_the_positive_class_alone(name, positive):
    r = np.random.default_rng(2)
    truth, z = r.integers(0, 2, 50), r.normal(size=50)
    scorer = getattr(reference, f"{name}_score")
    expected = scorer(truth, z > 0, pos_label=positive, zero_division=0)
    assert value(f"{name}:average=binary:positive={positive}", z, truth) == pytest.approx(expected)


def test_topk_counts_the_first_of_equal_scores_as_higher():
    outputs = np.array([[1.0, 1.0, 1.0, 0.0]] * 3)
    assert value("topk:k=1", outputs, np.array([0, 1, 2])) == pytest.approx(1 / 3)
    assert value("topk:k=2", outputs, np.array([0, 1, 2])) == pytest.approx(2 / 3)
    with pytest.raises(UsageError, match="choose a smaller k"):
        compare_outputs(outputs, outputs, np.array([0, 1, 2]), metrics=("topk:k=4",))


def test_the_calibration_error_by_hand():
    p = np.array([0.95, 0.91, 0.62, 0.65, 0.5])
    truth = np.array([1, 0, 1, 1, 0])  # of a probability of exactly one half the first class counts
    bins = {10: [(0.93, 0.5, 2)], 7: [(0.635, 1.0, 2)], 5: [(0.5, 1.0, 1)]}
    expected = sum(n * abs(c - a) for entries in bins.values() for c, a, n in entries) / 5
    assert value("ece:bins=10", p, truth) == pytest.approx(expected)


NAMES = ("auc", "auc:average=weighted", "ap", "sweep", "brier", "ece", "topk:k=2")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("classes", [2, 4])
def test_weights_are_repeated_samples(name, classes):
    if name.startswith("topk") and classes == 2:
        name = "accuracy"
    r = np.random.default_rng(3)
    truth, outputs = np.arange(30) % classes, r.normal(size=(30, classes)).round(1)
    metric = find(name)
    weights = r.integers(0, 3, (4, 30))
    weights[:, :classes] += 1  # each class is there
    records = metric.collect(Evaluated({"out": outputs}, {"y": truth}))
    for row, got in zip(weights, metric.resampled(records, weights.astype(float)), strict=True):
        again = np.repeat(np.arange(30), row)
        assert got == pytest.approx(value(name, outputs[again], truth[again]))


@pytest.mark.parametrize("name", ["accuracy", "f1", "auc", "ap", "sweep", "brier", "ece"])
def test_an_ignored_label_is_as_if_it_were_not_there(name):
    r = np.random.default_rng(4)
    truth, outputs = np.arange(40) % 3, r.normal(size=(40, 3))
    kept = np.arange(40) % 5 > 0
    marked = np.where(kept, truth, 255)
    assert value(f"{name}:ignore=255", outputs, marked) == pytest.approx(value(name, outputs[kept], truth[kept]))
    found = compare_outputs(outputs, outputs, marked, metrics=(f"{name}:ignore=255",)).metrics[f"{name}:ignore=255"]
    assert found.n == kept.sum()
    assert found.interval is None or found.interval.low < 0 < found.interval.high


def test_in_maps_255_is_no_class():
    r = np.random.default_rng(5)
    truth, outputs = r.integers(0, 3, (8, 4, 4)), r.normal(size=(8, 3, 4, 4))
    truth[:, 0] = 255
    found = compare_outputs(outputs, outputs, truth)
    expected = reference.accuracy_score(truth[:, 1:].reshape(-1), outputs.argmax(1)[:, 1:].reshape(-1))
    assert (found.task, found.metrics["accuracy"].unit) == ("segmentation", "map")
    assert found.metrics["accuracy"].float == pytest.approx(expected)
    assert found.confusion[0].sum() == 8 * 12
    one = compare_outputs(outputs[:, :1], outputs[:, :1], (truth == 1)[:, None])  # yes or no for each position
    assert one.task == "segmentation"


def test_curves_are_in_the_report():
    r = np.random.default_rng(6)
    truth, z = r.integers(0, 2, 500), r.normal(size=500)
    found = compare_outputs(z, z, truth, metrics=("auc", "ap", "sweep", "ece", "f1")).to_dict()["metrics"]
    roc = found["auc"]["details"]["float"]["roc"]
    assert len(roc["threshold"]) == 200
    assert (roc["true_positive_rate"][-1], roc["false_positive_rate"][-1]) == (1, 1)
    points = np.round(np.stack(reference.roc_curve(truth, z, drop_intermediate=False)[:2], axis=1), 9)
    ours = np.round(np.stack([roc["false_positive_rate"], roc["true_positive_rate"]], axis=1), 9)
    assert set(map(tuple, ours)) <= set(map(tuple, points))
    sweep = found["sweep"]["details"]["int8"]
    assert 0 < sweep["best_threshold"] < 1
    assert max(sweep["sweep"]["f1"]) == pytest.approx(found["sweep"]["int8"], abs=0.01)
    assert sum(found["ece"]["details"]["float"]["reliability"]["n"]) == 500
    expected = reference.f1_score(truth, z > 0, average=None)
    assert list(found["f1"]["details"]["float"]["per_class"].values()) == pytest.approx(expected)


def test_one_class_has_no_curve():
    z = np.random.default_rng(7).normal(size=20)
    with pytest.raises(DataError, match="auc: is undefined where the labels are of one class"):
        compare_outputs(z, z, np.zeros(20, int), metrics=("auc",))
    found = compare_outputs(z, z, np.zeros(20, int))
    assert "auc" not in found.metrics
    assert any("without auc and ap" in note for note in found.notes)


def test_two_classes_are_reported_with_their_curves():
    r = np.random.default_rng(8)
    found = compare_outputs(r.normal(size=90), r.normal(size=90), r.integers(0, 2, 90))
    assert list(found.metrics) == ["accuracy", "precision", "recall", "f1", "auc", "ap"]
    assert found.task == "classification"


@pytest.mark.parametrize("name", ["auc", "ap", "sweep", "brier", "ece"])
@pytest.mark.parametrize("classes", [2, 3])
def test_intervals_hold_the_drop_and_have_a_width(name, classes):
    r = np.random.default_rng(9)
    truth, outputs = np.arange(120) % classes, r.normal(size=(120, classes))
    outputs[np.arange(120), truth] += 1
    few, all_ = outputs.copy(), outputs + 0.3 * r.normal(size=outputs.shape)
    few[:2] *= -1
    metric = find(name)
    records = [metric.collect(Evaluated({"out": x}, {"y": truth})) for x in (outputs, outputs, few, all_)]
    for second in records[1:]:
        (low, high), _ = metric.interval(records[0], second, Draws(120, 0))
        sign = 1 if metric.higher_is_better else -1
        drop = sign * (metric.value(records[0]) - metric.value(second))
        assert low <= drop <= high
        assert high - low > 0.005
    again, _ = metric.interval(records[0], records[3], Draws(120, 0))
    assert again == metric.interval(records[0], records[3], Draws(120, 0))[0]


def test_one_against_the_rest_of_too_many_classes_says_so():
    x = np.zeros((4, 200), np.float32)
    with pytest.raises(UsageError, match="100 classes at most"):
        compare_outputs(x, x, np.arange(4), metrics=("auc",))
