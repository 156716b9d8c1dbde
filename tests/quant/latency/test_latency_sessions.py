"""The interval over sessions, against scipy; the widening of the result, against sessions that differ."""

import dataclasses

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from quant.latency.protocol import compare
from quant.latency.sessions import session_differences, sessions_interval, t_quantile
from quant.latency.settings import Protocol


@given(probability=st.floats(0.51, 0.9995), degrees=st.integers(1, 60))
def test_quantiles_of_t(probability, degrees):
    assert t_quantile(probability, degrees) == pytest.approx(scipy.stats.t.ppf(probability, degrees), rel=1e-9)


def test_differences_are_those_of_each_sessions_medians():
    first, second = np.arange(1.0, 13.0), np.linspace(3.0, 2.0, 12)
    session = np.arange(12) // 2 % 3
    expected = [
        np.log(np.median([x for x, s in zip(first, session, strict=True) if s == k]))
        - np.log(np.median([x for x, s in zip(second, session, strict=True) if s == k]))
        for k in range(3)
    ]
    np.testing.assert_allclose(session_differences(first, second, session), expected, rtol=1e-12)


@given(st.lists(st.floats(-1.0, 1.0), min_size=3, max_size=12), st.sampled_from([0.5, 0.95, 0.99]))
def test_interval_is_students(differences, confidence):
    values = np.array(differences)
    low, high = sessions_interval(values, confidence)
    if np.ptp(values) < 1e-9:
        assert low == pytest.approx(high)
        return
    expected = scipy.stats.ttest_1samp(values, 0.0).confidence_interval(confidence)
    np.testing.assert_allclose(np.log([low, high]), [expected.low, expected.high], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_two_sessions_say_nothing_of_their_spread(count):
    assert sessions_interval(np.zeros(count)) is None


class Clock:
    def __init__(self):
        self.now = 0

    def __call__(self):
        return self.now

    def model(self, milliseconds):
        def run(_index):
            self.now += round(1e6 * milliseconds)

        return run


def test_lucky_sessions_widen_the_interval():
    """Without noise each pair says the same; only the sessions tell that the next ones may say another thing."""
    clock = Clock()
    lucky = [3.0, 3.0, 2.9, 3.0]
    settings = dataclasses.replace(Protocol(), rest_seconds=0.0, resamples=200)
    found = compare(
        [clock.model(3.0)] * 4, [clock.model(t) for t in lucky], settings=settings, clock=clock, pause=lambda _: None
    )
    low, high = sessions_interval(np.log(3.0 / np.array(lucky)))
    assert found.interval == pytest.approx((low, high))
    assert found.interval[0] < 1.0 < found.interval[1]
    assert found.verdict == "no difference shown"
    assert found.session_differences == pytest.approx(np.log(3.0 / np.array(lucky)))
    same = compare(clock.model(3.0), clock.model(2.9), settings=settings, clock=clock, pause=lambda _: None)
    assert same.verdict == "faster"
    assert same.interval == pytest.approx((3.0 / 2.9, 3.0 / 2.9))
