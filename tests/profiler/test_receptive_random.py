"""Receptive fields of random networks against the probe: equality where they claim to be exact, containment elsewhere.

The default run takes a fixed sample. All 2,000: `pytest -m slow tests/profiler/test_receptive_random.py`; others:
the same with HYPOTHESIS_PROFILE=explore.
"""

import importlib.util
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from profiler.analyzer import Subject
from profiler.crosscheck.receptive import verify_receptive_fields
from profiler.errors import ModelError

spec = importlib.util.spec_from_file_location("random_graphs", Path(__file__).with_name("random_graphs.py"))
random_graphs = importlib.util.module_from_spec(spec)
sys.modules["random_graphs"] = random_graphs
spec.loader.exec_module(random_graphs)

SAMPLE, ALL = 60, 2000
SLOW_TO_DRAW = [HealthCheck.too_slow, HealthCheck.data_too_large]


def checks_of(graph):
    return verify_receptive_fields(Subject(graph.model(), (graph.size,), {}))


def wrong_in(graph):
    """What is wrong with the fields of a graph; a graph that does not run is not what is looked for."""
    try:
        checks = checks_of(graph)
    except ModelError:
        return []
    return [
        f"{c.packet}: {c.status} {c.detail or c.reason}" for c in checks if c.contradicted or c.status == "not probed"
    ]


def check(graph):
    checks = checks_of(graph)
    if any(c.contradicted or c.status == "not probed" for c in checks):
        graph = graph.reduced(wrong_in)
        raise AssertionError(f"{graph!r}{chr(10).join(wrong_in(graph))}")
    return checks


def shares_of_many(examples):
    """Rows by what the profile says of them, over so many random graphs."""
    rows = Counter()

    # Not shrunk by hypothesis: a graph that fails is reduced by lines, which is faster and reads better.
    @settings(max_examples=examples, suppress_health_check=SLOW_TO_DRAW, phases=[Phase.explicit, Phase.generate])
    @given(random_graphs.graphs())
    def run(graph):
        rows.update(c.reported for c in check(graph))

    run()
    return rows


def test_random_graphs_agree_position_by_position():
    rows = shares_of_many(SAMPLE)
    assert rows["exact"] >= 0.6 * rows.total()  # bounds alone would prove nothing


@pytest.mark.slow
def test_many_random_graphs_agree_position_by_position():
    rows = shares_of_many(ALL)
    assert rows["exact"] >= 0.6 * rows.total()
