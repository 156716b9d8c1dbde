"""Ranking placements, and running models over samples."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from profiler.errors import DataError
from quant.data import Samples
from quant.inference import feeds, first_output
from quant.latency import compare_latency
from quant.runtime import open_session
from quant.select import AS_CLOSE, AS_FAST, Candidate, ranking


def candidate(speedup, sqnr_db, agreement=1.0):
    """A candidate with these figures: 100 held-back samples."""
    hits = np.arange(100) < round(agreement * 100)
    found = SimpleNamespace(agreement=hits.astype(float), sqnr_db=np.full(100, sqnr_db), kl=np.zeros(100))
    return Candidate(SimpleNamespace(name=""), None, found, SimpleNamespace(speedup=speedup))


def test_the_fastest_leads():
    slow, fast = candidate(1.2, 40.0), candidate(2.0, 30.0)
    assert ranking([slow, fast]) == [fast, slow]


def test_of_those_about_as_fast_the_closest_leads():
    near, far = candidate(1.97, 40.0), candidate(2.0, 30.0)
    assert ranking([far, near]) == [near, far]


def test_a_placement_that_changes_answers_goes_last():
    wrong, right = candidate(3.0, 20.0, agreement=0.9), candidate(1.1, 40.0)
    assert ranking([wrong, right]) == [right, wrong]


figures = st.tuples(st.floats(0.5, 3.0), st.floats(10.0, 50.0), st.sampled_from([0.9, 0.98, 0.995, 1.0]))


@given(st.lists(figures, min_size=1, max_size=8))
def test_ranking_loses_none_and_nothing_clearly_faster_comes_later(rows):
    ranked = ranking([candidate(*row) for row in rows])
    assert sorted((c.speedup, c.sqnr_db) for c in ranked) == sorted(row[:2] for row in rows)
    best = max(c.agreement for c in ranked)
    close = [c for c in ranked if c.agreement >= best - AS_CLOSE]
    assert ranked[: len(close)] == close
    for earlier, later in pairwise(close):
        assert later.speedup * (1 - AS_FAST) <= earlier.speedup


def model(batch, kind=TensorProto.FLOAT):
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kind, [batch, 2])],
        [helper.make_tensor_value_info("y", kind, [batch, 2])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


@pytest.mark.parametrize("batch", ["n", 1, 4, 7])
def test_every_sample_comes_out_once_whatever_batch_the_model_wants(batch):
    x = np.random.default_rng(0).normal(size=(10, 2)).astype(np.float32)
    assert np.array_equal(first_output(open_session(model(batch)), Samples({"x": x}, None, "data")), x)


def test_models_with_other_input_names_are_compared_by_position():
    renamed = model("n").replace(b"x", b"q")
    latency = compare_latency(model("n"), renamed, seconds=0.2)
    assert latency.pairs > 0


def test_precision_is_adapted_but_kinds_are_not():
    session = open_session(model("n"))
    doubles = Samples({"x": np.ones((3, 2))}, None, "data")
    assert next(feeds(session, doubles))[0]["x"].dtype == np.float32
    with pytest.raises(DataError, match="int64"):
        next(feeds(session, Samples({"x": np.ones((3, 2), np.int64)}, None, "data")))
