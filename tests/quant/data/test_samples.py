"""Samples: what they refuse, and that batches, parts and names keep inputs and labels together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import DataError, UsageError
from quant.data import Samples


def numbered(n, names=("x",)):
    """Samples in which every value of sample i is i."""
    return Samples({name: np.full((n, 2), np.arange(n)[:, None], np.float32) for name in names}, np.arange(n), "set")


ONES = np.ones((3, 2), np.float32)

REFUSED = {
    "no input": ({}, None, "no input array"),
    "no samples": ({"x": np.ones((0, 2))}, None, r"'x' is empty.*\(0, 2\)"),
    "no values": ({"x": np.ones((2, 0))}, None, "'x' is empty"),
    "one value": ({"x": np.array(1.0)}, None, "'x' is a single value"),
    "a list": ({"x": [1, 2]}, None, "'x' is a list"),
    "objects": ({"x": np.array([{}, {}], dtype=object)}, None, "'x' holds Python objects"),
    "NaN": ({"a": ONES, "b": np.where(ONES * [[0], [0], [1]], np.nan, ONES)}, None, "'b' holds NaN .* in sample 2"),
    "infinity": ({"x": ONES * [[1], [np.inf], [1]]}, None, "'x' holds .*infinity, first in sample 1"),
    "NaN labels": ({"x": ONES}, np.array([0, np.nan, 0]), "labels holds NaN"),
    "unequal inputs": ({"a": ONES, "b": ONES[:2]}, None, r"'a': 3, input 'b': 2"),
    "unequal labels": ({"x": ONES}, np.arange(2), r"'x': 3, labels: 2"),
}


@pytest.mark.parametrize(("inputs", "labels", "message"), REFUSED.values(), ids=REFUSED)
def test_unusable_arrays_are_refused_by_name(inputs, labels, message):
    with pytest.raises(DataError, match=f"^set: .*{message}"):
        Samples(inputs, labels, "set")


def test_unknown_task_is_refused():
    with pytest.raises(DataError, match="unknown task 'translation'"):
        Samples({"x": ONES}, None, "set", "translation")


@pytest.mark.parametrize("sample", [0, 255, 256, 599])
def test_nan_is_found_in_whichever_sample_it_is(sample):
    array = np.zeros((600, 4), np.float32)
    array[sample, 3] = np.nan
    with pytest.raises(DataError, match=f"first in sample {sample}$"):
        Samples({"x": array}, None, "set")


def test_whole_numbers_and_text_are_inputs_too():
    assert len(Samples({"ids": np.arange(6).reshape(2, 3), "text": np.array(["a", "b"])}, None, "set")) == 2


def test_the_dictionary_given_is_copied():
    arrays = {"x": ONES}
    samples = Samples(arrays, None, "set")
    arrays["other"] = ONES[:1]
    assert list(samples.inputs) == ["x"]


@given(n=st.integers(1, 30), size=st.integers(1, 40))
def test_batches_are_the_samples_in_order(n, size):
    batches = list(numbered(n, ("a", "b")).batches(size))
    assert all(len(batch) == size for batch in batches[:-1])
    assert np.array_equal(np.concatenate([batch.labels["y"] for batch in batches]), np.arange(n))
    assert np.array_equal(np.concatenate([batch.positions for batch in batches]), np.arange(n))
    for batch in batches:
        assert all(np.array_equal(array[:, 0], batch.labels["y"]) for array in batch.inputs.values())


def test_batches_without_labels():
    assert [batch.labels for batch in Samples({"x": ONES}, None, "set").batches(2)] == [{}, {}]


def test_a_batch_of_none_is_refused_at_once():
    with pytest.raises(UsageError, match="got 0"):
        next(numbered(3).batches(0))


@given(n=st.integers(2, 40), data=st.data())
def test_split_parts_are_disjoint_whole_and_repeatable(n, data):
    holdout, seed = data.draw(st.integers(1, n - 1)), data.draw(st.integers(0, 9))
    kept, held = numbered(n).split(holdout, seed)
    assert len(held) == holdout
    assert sorted([*kept.labels, *held.labels]) == list(range(n))
    assert all(np.array_equal(part.inputs["x"][:, 0], part.labels) for part in (kept, held))
    assert np.array_equal(numbered(n).split(holdout, seed)[1].labels, held.labels)


def test_split_depends_on_the_seed():
    assert len({tuple(numbered(50).split(10, seed)[1].labels) for seed in range(5)}) == 5


@pytest.mark.parametrize("holdout", [-1, 0, 3, 4])
def test_split_leaves_no_part_empty(holdout):
    with pytest.raises(DataError, match=f"hold back {holdout} of 3"):
        numbered(3).split(holdout, 0)


def test_take_keeps_the_order_given():
    taken = numbered(5).take([4, 0, 4])
    assert taken.labels.tolist() == taken.inputs["x"][:, 1].tolist() == [4, 0, 4]


@pytest.mark.parametrize("position", [-1, 5])
def test_take_counts_from_the_start_only(position):
    with pytest.raises(UsageError, match=f"no sample {position}"):
        numbered(5).take([0, position])


def test_x_takes_the_name_of_the_only_input():
    assert list(numbered(2).renamed(["input.1"]).inputs) == ["input.1"]


def test_arrays_come_in_the_order_of_the_models_inputs():
    assert list(numbered(2, ("mask", "ids")).renamed(["ids", "mask"]).inputs) == ["ids", "mask"]


@pytest.mark.parametrize(("held", "wanted"), [(("x",), ("a", "b")), (("a",), ("b",)), (("a", "b"), ("a",))])
def test_names_that_do_not_fit_are_listed(held, wanted):
    got, expected = (", ".join(map(repr, names)) for names in (held, wanted))
    with pytest.raises(DataError, match=f"arrays {got}; the model's inputs are {expected}"):
        numbered(2, held).renamed(wanted)


@pytest.mark.parametrize("labels", [np.array(["cat"] * len(ONES)), np.zeros(len(ONES), "datetime64[s]")])
def test_labels_that_are_no_numbers_are_refused(labels):
    with pytest.raises(DataError, match=r"set: labels hold .*; expected numbers"):
        Samples({"x": ONES}, labels, "set")
