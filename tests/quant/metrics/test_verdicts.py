"""What may be said: several verdicts, few units, records that are equal, and what the JSON report holds of it."""

import json

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from profiler.errors import DataError
from quant.metrics import compare_outputs
from quant.metrics.base import FEW_DIFFERING, Draws, Evaluated, MeanMetric
from quant.metrics.registry import find
from quant.metrics.statistics import Interval, minimum_detectable_drop, stretched, tango_interval

ONE = np.eye(4, dtype=np.float32)


class Loss(MeanMetric):
    """A mean in no unit that a limit could be in."""

    higher_is_better = False

    def collect(self, batch):
        return batch.output, np.ones(len(batch.output))


class Share(Loss):
    """A mean between 0 and 1."""

    higher_is_better = True
    bounds = (-1.0, 1.0)


def two_models(n=500, lost=9, gained=1):
    truth = np.arange(n) % 4
    first, second = truth.copy(), truth.copy()
    second[:lost] = (truth[:lost] + 1) % 4
    first[lost : lost + gained] = (truth[lost : lost + gained] + 1) % 4
    return ONE[first], ONE[second], truth


def test_further_verdicts_share_five_percent():
    first, second, truth = two_models(lost=4, gained=0)
    alone = compare_outputs(first, second, truth, metrics=("recall:average=micro",)).metrics["recall:average=micro"]
    assert (alone.verdict, alone.adjusted) == ("lost", None)
    metrics = ("accuracy", "recall:average=micro", "precision:average=micro", "f1:average=micro")
    found = compare_outputs(first, second, truth, metrics=metrics)
    assert found.metrics["accuracy"].verdict == "lost"
    assert {m.verdict for m in list(found.metrics.values())[1:]} == {"cannot tell"}  # the same figure, with less left
    assert [m.adjusted for m in list(found.metrics.values())[1:]] == pytest.approx([1 - 0.05 / 3] * 3)
    assert found.metrics["recall:average=micro"].interval == alone.interval
    assert any("4 verdicts: accuracy's is drawn at 95 %, the other 3 at 98.33%" in note for note in found.notes)
    assert found.to_dict()["verdicts"]["drawn"] == 4


def test_the_first_metric_that_has_a_verdict_is_the_primary_one():
    x = np.random.default_rng(0).normal(size=(50, 5))
    found = compare_outputs(x, x, None, metrics=("sqnr", "agreement"))
    assert (found.metrics["sqnr"].verdict, found.metrics["agreement"].adjusted) == ("", None)
    assert not any("verdicts" in note for note in found.notes)


def test_stretching_follows_the_normal_distribution():
    low, high = stretched(Interval(-1.96, 3.92), 0.0, 0.01)
    z = stats.norm.ppf(0.995) / stats.norm.ppf(0.975)
    assert (low, high) == pytest.approx((-1.96 * z, 3.92 * z))


def test_what_so_many_samples_could_show_is_told():
    first, second, truth = two_models(lost=2)
    found = compare_outputs(first, second, truth).metrics
    assert found["accuracy"].detectable == minimum_detectable_drop(500) == pytest.approx(4 / 500)
    assert found["f1"].detectable == pytest.approx(found["f1"].drop - found["f1"].interval.low)
    assert found["accuracy"].p == pytest.approx(stats.binomtest(2, 3, 0.5).pvalue)
    assert found["f1"].p is None


@pytest.mark.parametrize("n", [30, 500])
@pytest.mark.parametrize(
    "name", ["precision", "recall", "f1", "f1:average=weighted", "recall:average=binary:positive=0"]
)
def test_of_a_single_class_the_interval_is_that_of_the_accuracy(name, n):
    one = np.tile(ONE[:1], (n, 1))
    found = compare_outputs(one, one, np.zeros(n, int), metrics=(name,)).metrics[name]
    assert found.interval == tango_interval(0, 0, n)
    other = one.copy()
    other[:1] = ONE[1]
    found = compare_outputs(one, other, np.zeros(n, int), metrics=(name,)).metrics[name]
    truth, predicted = np.zeros(n, int), other.argmax(1)
    scorer = getattr(reference, f"{name.partition(':')[0]}_score")
    average = "weighted" if "weighted" in name else None
    scores = scorer(truth, predicted, average=average, zero_division=0)
    expected = np.mean(scores) if average is None and "binary" not in name else np.ravel(scores)[0]
    assert found.int8 == pytest.approx(expected)
    assert found.interval.low <= found.drop <= found.interval.high


def records(metric, values):
    return metric.collect(Evaluated({"out": np.asarray(values, float)}, {}))


def test_equal_records_have_the_interval_of_no_discordant_pair_or_none():
    values = np.random.default_rng(1).random(60)
    reach = tango_interval(0, 0, 60).high
    share, loss = Share(), Loss()
    (low, high), method = share.interval(records(share, values), records(share, values), Draws(60, 0))
    assert (low, high) == pytest.approx((-reach, reach))
    assert "0 differ" in method
    interval, method = loss.interval(records(loss, values), records(loss, values), Draws(60, 0))
    assert interval is None
    assert f"an interval takes {FEW_DIFFERING}" in method


def test_few_units_show_nothing_and_groups_count_as_one():
    share = Share()
    first, second = records(share, np.linspace(0.5, 1, 40)), records(share, np.linspace(0.2, 0.7, 40))
    assert share.interval(first, second, Draws(40, 0))[0].low > 0
    interval, method = share.interval(first, second, Draws(40, 0, groups=np.arange(40) // 10))
    assert interval == (-1, 1)
    assert "4 samples" in method
    wide, _ = share.interval(first, second, Draws(40, 0, groups=np.arange(40) // 5))
    narrow, _ = share.interval(first, second, Draws(40, 0))
    assert wide.high - wide.low > narrow.high - narrow.low or wide == pytest.approx(narrow, abs=1e-9)


def test_draws_keep_strata_and_groups_and_are_the_same_by_seed():
    strata, groups = np.arange(60) % 3, np.arange(60) // 4
    kept = np.concatenate(list(Draws(60, 5, strata=strata, resamples=50).weights()))
    assert kept.shape == (50, 60)
    assert all((kept[:, strata == k].sum(axis=1) == 20).all() for k in range(3))
    together = np.concatenate(list(Draws(60, 5, groups=groups, resamples=50).weights()))
    assert all((together[:, groups == g] == together[:, groups == g][:, :1]).all() for g in range(15))
    assert np.array_equal(kept, np.concatenate(list(Draws(60, 5, strata=strata, resamples=50).weights())))
    assert np.concatenate(list(Draws(60, 5, resamples=4000).weights())).var() == pytest.approx(59 / 60, rel=0.02)


def test_groups_must_be_one_number_for_each_sample():
    first, second, truth = two_models(20)
    with pytest.raises(DataError, match=r"`groups` has the size \(20, 2\)"):
        compare_outputs(first, second, {"y": truth, "groups": np.zeros((20, 2))})


def test_every_label_ignored_leaves_nothing():
    first, second, truth = two_models(20)
    with pytest.raises(DataError, match="nothing to compare"):
        compare_outputs(first, second, np.full_like(truth, 9), metrics=("f1:ignore=9",))


def test_the_report_has_the_contracts_names_and_no_infinity():
    first, second, truth = two_models()
    text = json.dumps(compare_outputs(first, second, truth, seed=3).to_dict(("a", "b")), allow_nan=False)
    found = json.loads(text)
    row = found["metrics"]["f1"]
    assert {"a", "b", "drop", "interval", "verdict", "n", "method", "p", "detectable", "adjusted"} <= set(row)
    assert found["seed"] == 3
    assert "seed 3" in row["method"]
    assert set(row["details"]) == {"a", "b"}
    json.dumps(compare_outputs(first, first, None).to_dict(), allow_nan=False)


def test_records_are_small_however_many_the_classes():
    batch = Evaluated({"out": np.zeros((64, 1000), np.float32)}, {"y": np.arange(64)})
    assert sum(array.nbytes for array in find("f1").collect(batch)) <= 64 * 16
    maps = Evaluated({"out": np.zeros((2, 150, 40, 40), np.float32)}, {"y": np.zeros((2, 40, 40), int)})
    assert sum(table.nbytes for table in find("iou").collect(maps)[0]) < 2 * 200


def test_a_matrix_of_many_classes_lists_its_cells():
    truth = np.arange(400) % 300
    outputs = np.eye(300, dtype=np.float32)[truth]
    found = compare_outputs(outputs, outputs, truth, metrics=("accuracy",)).to_dict()["confusion"]
    assert (found["rows"], found["columns"]) == ("truth", "prediction")
    assert [299, 299, 1] in found["float"]
    assert len(found["int8"]) == 300
