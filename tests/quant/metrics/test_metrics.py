"""Metrics against scikit-learn and torch."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from profiler.errors import DataError, UsageError
from quant.metrics import compare_outputs
from quant.metrics.base import Evaluated
from quant.metrics.classification import CLASSIFICATION
from quant.metrics.closeness import FIDELITY
from quant.metrics.confusion import PairedCounts
from quant.metrics.fidelity import fidelity
from quant.metrics.registry import find


def scores(classes, predicted, seed=0):
    """Outputs whose largest score is at `predicted`."""
    outputs = np.random.default_rng(seed).random((*predicted.shape, classes)).astype(np.float32)
    np.put_along_axis(outputs, predicted[..., None], 2.0, axis=-1)
    return np.moveaxis(outputs, -1, 1)


CASES = {
    "random": lambda r: (r.integers(0, 5, 200), r.integers(0, 5, 200)),
    "good": lambda r: ((y := r.integers(0, 5, 200)), np.where(r.random(200) < 0.9, y, 0)),
    "all wrong": lambda r: ((y := r.integers(0, 5, 50)), (y + 1) % 5),
    "one class": lambda r: (np.zeros(20, int), np.zeros(20, int)),
    "a class missing": lambda r: (r.integers(0, 3, 60), r.integers(1, 5, 60)),
    "one sample": lambda r: (np.array([2]), np.array([3])),
}
SCORERS = {"precision": reference.precision_score, "recall": reference.recall_score, "f1": reference.f1_score}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
@pytest.mark.parametrize("name", SCORERS)
def test_ratios_equal_scikit_learns(case, average, name):
    truth, predicted = CASES[case](np.random.default_rng(1))
    full = f"{name}:average={average}"
    outputs = scores(5, predicted)
    found = compare_outputs(outputs, outputs, truth, metrics=(full, "accuracy"))
    expected = SCORERS[name](truth, predicted, average=average, zero_division=0)
    assert found.metrics[full].float == pytest.approx(expected)
    assert found.metrics["accuracy"].int8 == pytest.approx(reference.accuracy_score(truth, predicted))
    assert np.array_equal(found.confusion[0], reference.confusion_matrix(truth, predicted, labels=range(5)))


def test_iou_equals_the_jaccard_score_and_maps_are_drawn_whole():
    r = np.random.default_rng(2)
    truth, a, b = (r.integers(0, 2, (12, 6, 6)) for _ in range(3))
    found = compare_outputs(scores(2, a), scores(2, b), truth)
    assert found.task == "segmentation"
    expected = reference.jaccard_score(truth.reshape(-1), b.reshape(-1), average="macro")
    assert found.metrics["iou"].int8 == pytest.approx(expected)
    assert found.metrics["accuracy"].n == 12


@pytest.mark.parametrize("shape", [(40,), (7, 3, 3)])
@pytest.mark.parametrize("name", ["accuracy", "precision:average=weighted", "recall", "f1", "f1:average=micro"])
def test_a_resample_counts_what_repeating_the_units_would(shape, name):
    r = np.random.default_rng(9)
    truth, first = r.integers(-1, 4, shape), r.integers(0, 4, shape)
    metric = find(f"{name}:ignore=-1")
    weights = r.multinomial(shape[0], np.full(shape[0], 1 / shape[0]), size=3)
    records = metric.collect(Evaluated({"out": scores(4, first)}, {"y": truth}))
    for row, value in zip(weights, metric.resampled(records, weights.astype(float)), strict=True):
        again = np.repeat(np.arange(shape[0]), row)
        repeated = metric.collect(Evaluated({"out": scores(4, first[again])}, {"y": truth[again]}))
        assert value == pytest.approx(metric.value(repeated))


def test_equal_models_never_have_an_empty_interval():
    truth = np.random.default_rng(4).integers(0, 10, 500)
    outputs = scores(10, truth)
    for metric in compare_outputs(outputs, outputs, truth).metrics.values():
        assert metric.drop == 0
        assert metric.interval.low < 0 < metric.interval.high


def test_a_clear_loss_is_called_lost_and_its_mirror_gained():
    truth = np.random.default_rng(5).integers(0, 10, 500)
    bad = np.where(np.arange(500) % 10 == 0, (truth + 1) % 10, truth)
    good, worse = scores(10, truth), scores(10, bad)
    assert {m.verdict for m in compare_outputs(good, worse, truth).metrics.values()} == {"lost"}
    assert {m.verdict for m in compare_outputs(worse, good, truth).metrics.values()} == {"gained"}


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(2, 6), st.integers(0, 10_000))
def test_fidelity_equals_torchs(n, classes, seed):
    r = np.random.default_rng(seed)
    x, y = r.normal(0, 3, (n, classes)), r.normal(0, 3, (n, classes))
    found = fidelity(x, y)
    p, q = (torch.log_softmax(torch.from_numpy(v), 1) for v in (x, y))
    kl = torch.nn.functional.kl_div(q, p, log_target=True, reduction="none").sum(1)
    cosine = torch.nn.functional.cosine_similarity(torch.from_numpy(x), torch.from_numpy(y), dim=1)
    assert found.kl == pytest.approx(kl.numpy(), abs=1e-9)
    assert found.kl.min() >= -1e-12
    assert found.cosine == pytest.approx(cosine.numpy(), abs=1e-9)
    assert found.sqnr_db == pytest.approx(
        [10 * np.log10(a @ a / ((a - b) @ (a - b))) for a, b in zip(x, y, strict=True)]
    )
    assert found.largest == pytest.approx(np.abs(x - y).max(axis=1))
    assert found.agreement == pytest.approx((x.argmax(1) == y.argmax(1)).astype(float))


def test_without_labels_fidelity_is_reported():
    x = np.random.default_rng(6).normal(size=(100, 10))
    found = compare_outputs(x, x + 1e-3, None)
    assert list(found.metrics) == ["agreement", "sqnr", "kl", "cosine", "max_error"]
    assert found.metrics["agreement"].int8 == 1.0
    assert found.metrics["agreement"].interval.high > 0
    assert found.metrics["max_error"].int8 == pytest.approx(1e-3)


def test_outputs_without_classes_have_no_agreement():
    x = np.random.default_rng(7).normal(size=(30, 1))
    assert "agreement" not in compare_outputs(x, x, None).metrics


GOOD = np.zeros((4, 3), dtype=np.float32)


@pytest.mark.parametrize(
    ("first", "second", "labels", "words"),
    [
        (GOOD, GOOD[:, :2], None, "differ in size"),
        (GOOD, GOOD * np.nan, None, "second model gives infinite"),
        (GOOD, GOOD, np.array([0, 1, 2]), "labels have the size"),
        (GOOD, GOOD, np.array([0, 1, 2, 3]), "sample 3: its label 3 is out of range: the model has 3 classes, 0 to 2"),
        (GOOD, GOOD, np.array([0, -1, 2, 1]), "sample 1: its label -1"),
        (GOOD, GOOD, np.array([0.5, 1, 2, 1]), "sample 0: its label 0.5 is a fraction"),
        (GOOD, GOOD, np.array([0, np.nan, np.nan, 1]), "sample 1: its label nan .*1 more.* is missing"),
    ],
)
def test_data_that_does_not_fit_is_explained(first, second, labels, words):
    with pytest.raises(DataError, match=words):
        compare_outputs(first, second, labels)


def test_a_model_of_one_output_has_two_classes():
    with pytest.raises(DataError, match=r"sample 2: its label 2 .*is out of range: the model has 2 classes"):
        compare_outputs(GOOD[:, 0], GOOD[:, 0], np.arange(4), task="classification")


def test_unknown_metrics_are_answered_with_close_ones():
    with pytest.raises(UsageError, match="accuracy"):
        compare_outputs(GOOD, GOOD, None, metrics=("acuracy",))
    with pytest.raises(UsageError, match="needs labels"):
        compare_outputs(GOOD, GOOD, None, metrics=("accuracy",))


def test_every_direction_is_declared():
    worse = {name for name in (*CLASSIFICATION, *FIDELITY) if not find(name).higher_is_better}
    assert worse == {"kl", "max_error", "brier", "ece"}


def test_a_thousand_classes_fit_in_memory():
    r = np.random.default_rng(8)
    truth = r.integers(0, 1000, 600)
    predicted = np.where(r.random(600) < 0.98, truth, r.integers(0, 1000, 600))
    found = compare_outputs(scores(1000, truth), scores(1000, predicted), truth, metrics=("f1",)).metrics["f1"]
    assert found.int8 == pytest.approx(reference.f1_score(truth, predicted, average="macro", zero_division=0))
    assert found.interval.low <= found.drop <= found.interval.high


def test_paired_counts_draw_what_drawing_the_samples_would():
    r = np.random.default_rng(9)
    truth, first, second = (r.integers(0, 4, 40) for _ in range(3))
    counts = PairedCounts(truth, first, second, 4)
    groups = counts._groups
    tallies = groups.summed(groups.alike[None, :].astype(int), 20).reshape(5, 4)
    for predicted, rows in ((first, (2, 0, 1)), (second, (4, 0, 3))):
        assert np.array_equal(tallies[list(rows)], np.stack(counts.counts(predicted)))


@pytest.mark.parametrize("maps", [1, 2, 4])
def test_a_few_maps_show_nothing(maps):
    truth = np.zeros((maps, 8, 8), dtype=int)
    worse = truth.copy()
    worse[:, :4] = 1
    found = compare_outputs(scores(2, truth), scores(2, worse), truth).metrics
    assert {m.verdict for m in found.values()} == {"cannot tell"}


def test_one_sample_that_changes_class_is_no_lost_agreement():
    x = np.random.default_rng(10).normal(size=(1000, 10))
    y = x.copy()
    y[0] = np.roll(y[0], 1)
    assert compare_outputs(x, y, None).metrics["agreement"].verdict == "within 0.01"
    assert compare_outputs(x, np.roll(x, 1, axis=1), None).metrics["agreement"].verdict == "lost"
    assert compare_outputs(x, x + 1e-3 * y, None).metrics["kl"].verdict == ""


def test_infinity_is_null_in_json():
    x = np.random.default_rng(11).normal(size=(20, 5))
    rows = json.loads(json.dumps(compare_outputs(x, x, None).to_dict(), allow_nan=False))["metrics"]
    assert rows["sqnr"]["int8"] is None
    assert rows["cosine"]["int8"] == pytest.approx(1.0)


def test_the_divergence_of_probabilities_is_not_taken_of_their_softmax():
    r = np.random.default_rng(12)
    p, q = (torch.softmax(torch.from_numpy(3 * r.normal(size=(50, 6))), 1) for _ in range(2))
    found = compare_outputs(p.numpy(), q.numpy(), None)
    expected = torch.nn.functional.kl_div(q.log(), p, reduction="batchmean")
    assert found.metrics["kl"].int8 == pytest.approx(float(expected))
    assert any("probabilities" in note for note in found.notes)


def test_ties_and_undefined_ratios_are_noted():
    truth = np.arange(9) % 3
    notes = " ".join(compare_outputs(scores(3, truth), np.zeros((9, 3)), truth).notes)
    assert "second model's best score is tied 9 times" in notes
    assert "second model's precision is 0/0, taken as 0, in classes it never predicts: 1, 2" in notes
    assert "first model's" not in notes


def test_scores_in_maps_of_one_position_are_classification():
    truth = np.arange(30) % 3
    found = compare_outputs(scores(3, truth)[:, :, None, None], scores(3, truth)[:, :, None, None], truth)
    assert (found.task, found.metrics["accuracy"].int8) == ("classification", 1.0)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"task": "clasification"}, UsageError, "no task 'clasification'"),
        ({"task": "segmentation"}, DataError, "are classification, not segmentation"),
    ],
)
def test_a_task_that_does_not_fit_is_refused(options, error, words):
    with pytest.raises(error, match=words):
        compare_outputs(GOOD, GOOD, np.zeros(4, int), **options)


def test_nothing_that_was_asked_for_is_left_out_in_silence():
    x = np.random.default_rng(13).normal(size=(30, 1))
    with pytest.raises(UsageError, match="agreement: needs outputs with two classes"):
        compare_outputs(x, x, None, metrics=("agreement",))
    with pytest.raises(DataError, match="do not go with outputs"):
        compare_outputs(np.zeros((30, 2, 3)), np.zeros((30, 2, 3)), np.zeros((30, 5), int))
    with pytest.raises(DataError, match="nothing to compare"):
        compare_outputs(x[:0], x[:0], None)
    assert any("without agreement and kl" in note for note in compare_outputs(x, x, None).notes)
