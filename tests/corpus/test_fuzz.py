"""A fixed sample of mutated files in every run; `python tests/corpus fuzz` makes as many as you like."""

import io
import json
import random
import subprocess
import sys

import pytest
import torch

from profiler.sources import OPENERS

from . import seeds as seeds_module
from .fuzz import profile, write
from .mutate import mutated
from .seeds import SEEDS, seeds
from .server import MAIN, environment
from .watch import ROOT

SAMPLE = 520


def fuzzed(folder, count, seed):
    command = [sys.executable, str(MAIN), "fuzz", "--count", str(count), "--seed", str(seed), "--report", "r.json"]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    return done, json.loads((folder / "r.json").read_text())


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return fuzzed(tmp_path_factory.mktemp("fuzz"), SAMPLE, 1)


def test_mutated_files_end_in_an_error_of_ours_or_open(sample):
    done, results = sample
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(results) == SAMPLE + len(SEEDS)


def test_valid_files_are_valid(sample):
    """The mutations start from files that open, where their kind opens at all."""
    _, results = sample
    whole = {r["kind"]: r["how"] for r in results if r["number"] < 0}
    assert whole.keys() == SEEDS.keys()
    assert all(how in ("opened", "refused") for how in whole.values()), whole
    assert {k for k, how in whole.items() if how == "opened"} >= {"state_dict", "module", "safetensors", "onnx"}


def test_mutations_reach_beyond_the_front_door(sample):
    """Some still open, some are damaged, some are refused: mutations that are all caught at once would find nothing."""
    _, results = sample
    for kind in ("state_dict", "safetensors", "onnx"):
        ways = [r["how"] for r in results if r["kind"] == kind and r["number"] >= 0]
        assert 0 < ways.count("opened") < len(ways)
    assert len({r["text"].partition(": ")[2] for r in results}) > 100


def test_files_are_the_same_every_time(sample, tmp_path):
    """A seed and a number give the same file in another process."""
    first = {(r["kind"], r["number"]): r["digest"] for r in sample[1]}
    again = {(r["kind"], r["number"]): r["digest"] for r in fuzzed(tmp_path, 26, 1)[1]}
    assert len(again) == 26 + len(SEEDS)
    assert again.items() <= first.items()


def test_legacy_seeds_are_what_torch_reads():
    valid = seeds()
    for kind in ("legacy", "checkpoint"):
        (data,) = valid[kind].values()
        state = torch.load(io.BytesIO(data), weights_only=True)["model"]
        assert torch.equal(state["0.weight"], seeds_module._network().state_dict()["0.weight"])


def test_mutations_change_the_files():
    valid = seeds()
    for kind in SEEDS:
        changed = [mutated(random.Random(f"{kind}{n}"), kind, valid) != valid[kind] for n in range(40)]
        assert sum(changed) > 20


def test_a_defect_would_be_found(tmp_path, monkeypatch):
    path = write(seeds()["safetensors"], tmp_path)
    assert profile(path) == ("opened", "", True)

    def broken(*_args, **_kwargs):
        raise KeyError("x")

    monkeypatch.setitem(OPENERS, "safetensors", broken)
    how, text, fine = profile(path)
    assert not fine
    assert how.startswith("KeyError at profiler/sources/__init__.py")
    assert "unexpected KeyError" in text


@pytest.mark.slow
def test_twenty_thousand_mutated_files(tmp_path):
    done, results = fuzzed(tmp_path, 20_000, 0)
    assert done.returncode == 0, done.stdout[-5000:]
    assert len(results) == 20_000 + len(SEEDS)


def test_the_command_is_the_documented_one():
    text = (ROOT / "docs" / "security.md").read_text()
    assert "python tests/corpus fuzz --count 20000 --seed 0" in text
