"""The roofline on numbers made by hand."""

import pytest

from quant.latency.roofline import Ceilings, Work, in_words, judge, most_limited

ROOF = Ceilings(50.0, 200.0, ((1_000, 100.0), (1_000_000, 20.0), (10_000_000, 10.0)), 0.2, 1)


@pytest.mark.parametrize(
    ("work", "bound", "need", "part"),
    [
        # 50e6 MACs at 50e9 a second take 1 ms; 1e6 bytes at 20e9 a second take 0.05 ms.
        (Work(50_000_000, 1_000_000, 2.0), "compute", 1.0, 0.5),
        (Work(50_000_000, 1_000_000, 2.0, int8=True), "compute", 0.25, 0.125),
        (Work(1_000_000, 1_000_000, 0.1), "memory", 0.05, 0.5),
        (Work(0, 20_000_000, 4.0), "memory", 2.0, 0.5),  # beyond the largest set: 10e9 bytes a second
        (Work(0, 1_000, 0.0001), "memory", 0.00001, 0.1),  # inside the first cache: 100e9
        (Work(50_000_000, 0, 11.0), "overhead", 1.0, 1 / 11),
        (Work(0, 0, 0.5), "overhead", 0.0, 0.0),
        (Work(50_000_000, 1_000, 1.0, overhead=True), "overhead", 0.0, 0.0),
        (Work(50_000_000, 0, 0.8), "compute", 1.0, 1.25),  # above a ceiling measured on a busy machine: said as it is
    ],
)
def test_one_node(work, bound, need, part):
    verdict = judge([work], ROOF)
    assert verdict.bound == bound
    assert verdict.need_ms == pytest.approx(need)
    assert verdict.of_ceiling == pytest.approx(part)
    assert verdict.excess_ms == pytest.approx(work.ms - need)


def test_needs_add_up_and_most_of_the_time_decides():
    compute, conversion = Work(50_000_000, 0, 2.0), Work(0, 1_000, 1.5, overhead=True)
    verdict = judge([compute, conversion], ROOF)
    assert verdict.bound == "compute"
    assert verdict.of_ceiling == pytest.approx(1.0 / 3.5)
    assert judge([compute, conversion, conversion], ROOF).bound == "overhead"


def test_a_layer_without_time():
    verdict = judge([], ROOF)
    assert (verdict.bound, verdict.of_ceiling, verdict.excess_ms) == ("overhead", None, 0.0)


def test_the_most_limited_lose_most_time_not_most_of_the_ceiling():
    layers = [
        ("slow", 10.0, judge([Work(400_000_000, 0, 10.0)], ROOF)),  # needs 8, loses 2
        ("bad", 0.5, judge([Work(0, 0, 0.5)], ROOF)),  # loses 0.5, all of it
        ("middling", 4.0, judge([Work(50_000_000, 0, 4.0)], ROOF)),  # needs 1, loses 3
        ("perfect", 1.0, judge([Work(50_000_000, 0, 1.0)], ROOF)),
    ]
    assert most_limited(layers) == [2, 0]
    assert most_limited(layers[3:]) == []
    text = in_words(*layers[2])
    assert text.startswith("middling: 4.000 ms where the ceilings need 1.000 ms, 3.000 ms more; 25% of its ceiling")


def test_bandwidth_is_that_of_the_next_larger_set():
    assert [ROOF.gb_s(n) for n in (0, 1_000, 1_001, 1_000_000, 5_000_000, 10**9)] == [100, 100, 20, 20, 10, 10]
    assert ROOF.memory_gb_s == 10.0
    assert ROOF.to_dict()["memory_gb_s"] == 10.0
