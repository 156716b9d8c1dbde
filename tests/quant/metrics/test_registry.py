"""How metrics are named, and that the table is whole."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.errors import UsageError
from quant.metrics import METRICS
from quant.metrics.base import Family, Metric, Parameter
from quant.metrics.class_counts import Right
from quant.metrics.registry import default_metrics, find, parse

TABLE = {
    "plain": Family(Right, "about"),
    "rich": Family(
        lambda **given: given,
        "about",
        {
            "count": Parameter(3),
            "share": Parameter(0.5),
            "on": Parameter(False),
            "word": Parameter("", ("", "one", "two")),
            "several": Parameter((0.5, 0.75)),
            "maybe": Parameter(None),
        },
    ),
}
DEFAULTS = {"count": 3, "share": 0.5, "on": False, "word": "", "several": (0.5, 0.75), "maybe": None}


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_can_be_built_and_is_described(name):
    metric = find(f"{name}:losses=ce" if "losses" in METRICS[name].parameters else name)
    assert isinstance(metric, Metric)
    assert METRICS[name].about
    assert metric.bounds[0] <= 0 <= metric.bounds[1]
    assert parse(name).title == name


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("rich", {}),
        ("rich:", {}),
        (" rich:count=7 ", {"count": 7}),
        ("rich:share=1", {"share": 1.0}),
        ("rich:on=yes:word=two", {"on": True, "word": "two"}),
        ("rich:word=one:count=2", {"count": 2, "word": "one"}),
        ("rich:several=0.1,0.2,0.3", {"several": (0.1, 0.2, 0.3)}),
        ("rich:maybe=255", {"maybe": 255}),
        ("rich:maybe=none", {"maybe": None}),
        ("rich:maybe=0.5", {"maybe": 0.5}),
        ("rich:maybe=name:0:count=1", {"maybe": "name:0", "count": 1}),
    ],
)
def test_parameters_are_read_with_the_type_of_their_default(text, given):
    spec = parse(text, TABLE)
    assert dict(spec.given) == given
    assert spec.build() == {**DEFAULTS, **given}
    again = parse(spec.title, TABLE)
    assert (again.title, dict(again.given)) == (spec.title, given)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ric", "no metric named 'ric'; there is rich"),
        ("rich:cuont=3", "no parameter 'cuont'; it has count"),
        ("plain:k=3", "has no parameter 'k'; it has none"),
        ("rich:count=three", "'three' is no whole number"),
        ("rich:count=1.5", "is no whole number"),
        ("rich:share=x", "is no number"),
        ("rich:on=maybe", "is no yes or no"),
        ("rich:word=three", "there is , one, two"),
        ("rich:count=1:count=2", "count is given twice"),
        ("rich:macro", "NAME:PARAMETER=VALUE"),
        ("rich:macro:count=1", "NAME:PARAMETER=VALUE"),
    ],
)
def test_what_cannot_be_meant_is_answered_with_what_can(text, words):
    with pytest.raises(UsageError, match=words):
        parse(text, TABLE)


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=30))
def test_no_text_breaks_the_reader(text):
    with contextlib.suppress(UsageError):
        assert parse(text).name in METRICS


@pytest.mark.parametrize("text", ["topk:k=0", "ece:bins=0"])
def test_parameters_that_make_no_sense_are_refused(text):
    with pytest.raises(UsageError, match="at least"):
        find(text)


def test_defaults():
    assert default_metrics("classification") == ("accuracy", "precision", "recall", "f1")
    assert default_metrics("fidelity")[0] == "agreement"
    assert default_metrics("nonsense") == ()
