"""The interval of an mAP drop holds the true drop as often as it says: a sample of benchmarks/coverage_map.py."""

import json
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield import_module("coverage_map")
    for name in ("_common", "coverage_map"):
        sys.modules.pop(name, None)


def covered(script, name, scenario, images, experiments, population=20_000):
    metric = script.DETECTION[name].build()
    drop = script.true_drop(metric, script.SCENARIOS[scenario], images=population)
    return script.coverage(metric, script.SCENARIOS[scenario], drop, images, experiments)


def test_a_small_sample_is_covered_and_a_plain_bootstrap_does_not_cover_it(script):
    found = covered(script, "map50", "rarely different", 50, experiments=80)
    assert found["coverage"] >= 0.93
    assert found["plain"] < 0.85
    assert found["plain_width"] < found["width"] < 0.3


def test_the_script_writes_what_it_found(script, tmp_path, capsys):
    arguments = ["--all", "--images", "30", "--experiments", "4", "--resamples", "60", "--population", "500"]
    assert script.main([*arguments, "--output", str(tmp_path)]) in (0, 1)
    record = json.loads((tmp_path / "coverage_map.json").read_text())
    assert len(record["cases"]) == 6
    assert {case["images"] for case in record["cases"]} == {30}
    assert record["machine"]["packages"]["numpy"] == np.__version__
    assert "true drop" in (tmp_path / "coverage_map.md").read_text()
    assert "map50, rarely different, 30 images" in capsys.readouterr().out


def test_the_published_figures_hold_the_promise():
    record = json.loads((FOLDER / "results" / "coverage_map.json").read_text())
    assert record["experiments"] >= 1000
    assert {case["images"] for case in record["cases"]} == {50, 200, 500}
    assert min(case["coverage"] for case in record["cases"]) >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "scenario"), [("map50", "slightly worse"), ("map50", "clearly worse"), ("map", "slightly worse")]
)
def test_a_larger_sample_is_covered(script, name, scenario):
    assert covered(script, name, scenario, 50, experiments=300)["coverage"] >= 0.93
