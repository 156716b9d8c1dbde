"""The benchmark scripts run on a tiny network, with torch alone, and write what they say."""

import gc
import json
import logging
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import nn

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _as_scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    logging.disable(logging.NOTSET)
    own = ("_common", "_gpu_networks", "_networks", "_peers", "coverage", "coverage_latency", "data", "gpu", "layers")
    for name in (*own, "latency_verdicts", "memory", "scale", "speed"):
        sys.modules.pop(name, None)


def run(script, *arguments):
    assert not import_module(script).main([str(a) for a in arguments])


def result(folder, name):
    record = json.loads((folder / f"{name}.json").read_text())
    assert record["benchmark"] == name
    assert record["date"].startswith("20")
    assert record["machine"]["packages"]["torch"] == torch.__version__
    text = (folder / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n\n{record['date']}")
    return record, text


def test_speed(tmp_path):
    tools = "ours,torch (meta),torch (cpu)"
    run("speed", "--only", "^plain/tiny$", "--tools", tools, "--rounds", 2, "--cold", "ours", "--output", tmp_path)
    record, text = result(tmp_path, "speed")
    found = record["networks"]["plain/tiny"]
    assert {name: len(entry["seconds"]) for name, entry in found["tools"].items()} == dict.fromkeys(tools.split(","), 2)
    assert {entry["macs"] for entry in found["tools"].values()} == {447136}
    assert not any(entry["error"] for entry in found["tools"].values())
    assert found["cold"]["ours"]["first"] > 0
    assert record["summary"]["median"]["networks"] == 1
    assert "plain/tiny" in text


def test_scale(tmp_path):
    arguments = ["--model", "plain", "--layers", "1", "3", "--repeats", "1", "--output", str(tmp_path)]
    # Its limits are not a test's matter: a child's peak begins with that of the large process it was forked from.
    assert import_module("scale").main(arguments) in (0, 1)
    record, text = result(tmp_path, "scale")
    assert [case["layers"] for case in record["cases"]] == [1, 3]
    macs = [case["macs"] for case in record["cases"]]
    assert macs[0] > 0
    assert macs[1] == 3 * macs[0]
    assert all(case["analyze_peak_bytes"] >= case["import_peak_bytes"] for case in record["cases"])
    assert set(record["fits"]["prompt"]["clock"]) == {"seconds_per_layer", "seconds_at_none", "r_squared"}
    assert "prompt" in text


def test_latency_verdicts(tmp_path):
    arguments = ["--only", "100 layers of 4 channels", "--runs", "1", "--seconds", "0.3", "--output", str(tmp_path)]
    # What the verdicts are in so short a time on a machine that runs tests is not a test's matter.
    assert import_module("latency_verdicts").main(arguments) in (0, 1)
    record, text = result(tmp_path, "latency_verdicts")
    assert [(case["condition"], case["work"], case["expected"]) for case in record["cases"]] == [
        ("quiet", 1.0, "no difference shown"),
        ("quiet", 1.03, "slower"),
        ("busy", 1.0, "no difference shown"),
        ("busy", 1.03, "slower"),
    ]
    assert all(len(case["runs"]) == 1 and case["median_ms"] > 0 for case in record["cases"])
    assert "of 1" in text


def test_coverage_latency(tmp_path):
    coverage = import_module("coverage_latency")
    assert coverage.main(["--experiments", "3", "--seconds", "2", "--only", "drift", "--output", str(tmp_path)]) in (
        0,
        1,
    )
    record, text = result(tmp_path, "coverage_latency")
    assert record["machines"]["drift"]["experiments"] == 3
    assert record["machines"]["drift"]["slower_found"] == 1.0
    assert "drift" in text


def test_intervals_hold_the_truth_in_a_fixed_sample():
    coverage = import_module("coverage_latency")
    found = coverage.rates(coverage.MACHINES["all of them"], experiments=6, seconds=3.0)
    assert min(found["coverage_equal"], found["coverage_slower"]) >= 4 / 6
    assert found["false_claims"] <= 1 / 6
    assert found["slower_reversed"] == 0.0


@pytest.mark.slow
def test_intervals_hold_the_truth(tmp_path):
    assert import_module("coverage_latency").main(["--output", str(tmp_path)]) == 0


def test_memory(tmp_path):
    run("memory", "--only", "^plain/tiny$", "--output", tmp_path)
    record, text = result(tmp_path, "memory")
    found = record["networks"]["plain/tiny"]
    assert record["beyond"] == []
    assert found["ours"] == found["real"] == (3 * 32 * 32 + 2 * 8 * 32 * 32) * 4  # input, convolution, its batch norm
    assert found["allocator_differs_by"] == 0
    assert found["differences"] == []
    assert found["allocator_peak"] >= found["real"]
    assert "plain/tiny" in text


def test_data(tmp_path):
    arguments = ["--gigabytes", 0.05, "--pictures", 120, "--folder", tmp_path, "--output", tmp_path / "results"]
    run("data", *arguments)
    record, text = result(tmp_path / "results", "data")
    assert [case["exit_code"] for case in record["cases"]] == [0, 0, 4]
    assert [case["evaluated"] for case in record["cases"]] == [83, 119, None]
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
    assert "class_1/000061.jpg" in text
    assert str(tmp_path) not in text


def test_gpu(tmp_path, monkeypatch):
    gpu = import_module("gpu")
    monkeypatch.setattr(gpu, "run_case", lambda script, case, timeout: gpu.run_one(case))  # without new processes
    case = ("--device", "cpu", "--models", "tiny", "--batches", 2, "--precisions", "float32", "int8")
    run("gpu", *case, "--seconds", 0.2, "--output", tmp_path)
    record, text = result(tmp_path, "gpu_cpu")
    found = record["networks"]["tiny"]
    assert set(found["file_bytes"]) == {"float32", "float16", "int8"}
    for case in found["cases"]:
        low, high = case["latency_interval_ms"]
        assert low <= case["latency_ms"] <= high
        assert case["throughput_per_s"] == pytest.approx(2e3 / case["latency_ms"])
        assert case["transfers"]["input_bytes"] == 2 * 3 * 32 * 32 * 4
    assert "int8" in text


def test_gpu_cases_that_fail_are_results(tmp_path, monkeypatch, capsys):
    gpu = import_module("gpu")

    def run_case(script, case, timeout):
        return {"error": "out of memory"} if "precision" in case else {"file_bytes": {}}

    monkeypatch.setattr(gpu, "run_case", run_case)
    case = ["--device", "cpu", "--models", "tiny", "--batches", "64", "--precisions", "int8"]
    assert gpu.main([*case, "--output", str(tmp_path)]) == 1
    assert "* tiny, batch 64, int8: out of memory" in (tmp_path / "gpu_cpu.md").read_text()


def test_gpu_without_one_says_what_is_missing(monkeypatch, capsys, tmp_path):
    from quant import installation, providers

    state = providers.ProviderState(
        "CUDAExecutionProvider", False, "libcudnn.so.9 is missing", "libcudnn.so.9", "Do X."
    )
    monkeypatch.setattr(installation, "provider_state", lambda name: state)
    assert import_module("gpu").main(["--output", str(tmp_path)]) == 4
    assert capsys.readouterr().err == "benchmarks/gpu.py: CUDA does not load: libcudnn.so.9 is missing\nDo X.\n"
    assert list(tmp_path.iterdir()) == []


def test_gpu_describes_the_gpu(monkeypatch):
    gpu = import_module("gpu")
    assert gpu.smi(["name"]) is None or isinstance(gpu.smi(["name"]), list)
    values = ["NVIDIA H200", "580.65.06", "143771", "9.0", "1980", "700.00", "Enabled"]
    monkeypatch.setattr(gpu, "smi", lambda query: values if len(query) > 1 else ["812"])
    described = gpu.gpu_described()
    assert (described["name"], described["driver_version"]) == ("NVIDIA H200", "580.65.06")
    assert described["onnxruntime"]
    assert gpu.used_mib() == 812
    monkeypatch.setattr(gpu, "smi", lambda query: None)
    assert gpu.gpu_described() is None
    assert gpu.used_mib() is None


class Keeps(nn.Module):
    """Holds on to an intermediate result, as far as `keep` says."""

    def __init__(self, keep):
        super().__init__()
        self.keep = keep

    def forward(self, x):
        early = x.exp()
        late = early.cos()
        if not self.keep:
            del early
        return late.sin()


@pytest.mark.parametrize(("keep", "tensors"), [(True, 4), (False, 3)])
def test_a_real_run_is_followed_until_tensors_are_freed(keep, tensors):
    account = import_module("memory").real_run(Keeps(keep).eval(), (torch.zeros(10, 10),))
    assert account.peak == tensors * 400
    assert [op for op, _ in account.steps] == ["aten.exp", "aten.cos", "aten.sin"]
    gc.collect()
    assert account.live == 0


def test_a_difference_is_named_with_its_operator():
    memory = import_module("memory")
    x = (torch.zeros(10, 10),)
    ours, real = memory.our_account(Keeps(keep=True), x), memory.real_run(Keeps(keep=False), x)
    assert memory.differences(ours, ours) == []
    (found,) = memory.differences(ours, real)
    assert found == "operator 2, aten.sin: 1600 bytes alive in ours, 1200 in the real run"


def test_an_operator_that_only_one_side_ran_is_named():
    memory = import_module("memory")
    ours, real = memory.Account(steps=[("aten.exp", 4)]), memory.Account(steps=[("aten.cos", 4)])
    assert memory.differences(ours, real) == ["operator 0: ours ran aten.exp, the real run aten.cos"]
    assert memory.differences(ours, memory.Account()) == ["ours ran 1 operators, the real run 0"]


def test_workspace_is_what_an_operator_takes_and_gives_back():
    memory = import_module("memory")
    x, big = torch.ones(4, 4), 1 << 20

    def work():
        with torch.profiler.record_function(f"{memory.MARK}0"):
            scratch = torch.empty(big, dtype=torch.uint8)
            del scratch
            kept = x + x
        with torch.profiler.record_function(f"{memory.MARK}1"):
            return kept, x + x

    record = memory.allocator_record(work)
    assert record.peak == big
    assert record.after == [64, 128]
    assert record.workspace == [big - 64, 0]


def test_every_tool_takes_every_place_in_the_order():
    speed = import_module("speed")
    orders = list(speed.rotations(speed.TOOLS[:3], 6))
    assert all({t.name for t in order} == {t.name for t in orders[0]} for order in orders)
    assert {order[0].name for order in orders} == {t.name for t in speed.TOOLS[:3]}


def test_a_peer_with_two_ways_stands_with_its_faster_and_one_that_failed_does_not_stand():
    speed = import_module("speed")
    tools = [t for t in speed.TOOLS if t.name in ("ours", "fvcore", "torch (meta)", "torch (cpu)")]
    found = {"ours": {"median": 1.0}, "fvcore": {}, "torch (meta)": {"median": 4.0}, "torch (cpu)": {"median": 2.0}}
    assert speed.standing(found, tools, "median") == {"ours": 1.0, "torch": 2.0}
    keys = ("median", "minimum", "processor")
    networks = {"n": {"tools": {name: dict.fromkeys(keys, t["median"]) if t else {} for name, t in found.items()}}}
    summary = speed.summarize(networks, tools)["median"]
    assert summary["faster_than"] == {"torch": 2.0}
    assert summary["fastest_on"] == 1
    found["torch (cpu)"]["median"] = 0.5
    networks = {"n": {"tools": {name: dict.fromkeys(keys, t["median"]) if t else {} for name, t in found.items()}}}
    summary = speed.summarize(networks, tools)["median"]
    assert summary["not_fastest_on"] == {"n": {"torch": 0.5}}


def test_a_tool_that_fails_is_a_result():
    speed, peers = import_module("speed"), import_module("_peers")

    def broken(_model, _inputs):
        raise RuntimeError("no such operator\nmore")

    found = speed.compare("plain/tiny", [peers.TOOLS[0], peers.Tool("broken", "", broken)], 1)
    assert found["broken"]["error"] == "RuntimeError: no such operator"
    assert "median" not in found["broken"]
    assert found["ours"]["median"] > 0


def test_the_line_through_layers():
    fit = import_module("scale").fit
    found = fit({8: 0.18, 32: 0.42, 126: 1.36})
    assert found == pytest.approx({"seconds_per_layer": 0.01, "seconds_at_none": 0.1, "r_squared": 1.0})
    assert fit({8: 1.0}) is None


@pytest.mark.parametrize("error", [{"error": "crashed"}, {}])
def test_limits_of_scale(error):
    within = import_module("scale").within
    case = {"build_seconds": 1.0, "analyze_seconds": 1.9, "analyze_peak_bytes": 799 << 20, **error}
    assert within(case) is not bool(error)
    assert not within({**case, "analyze_seconds": 2.1})
    assert not within({**case, "analyze_peak_bytes": 801 << 20})


def test_a_case_that_fails_is_reported_with_its_error(tmp_path):
    common = import_module("_common")
    script = tmp_path / "fails.py"
    script.write_text("raise ValueError('no such case')")
    assert common.run_case(str(script), {}) == {"error": "ValueError: no such case"}
    script.write_text("import time\ntime.sleep(60)")
    assert common.run_case(str(script), {}, timeout=0.5) == {"error": "not done within 0 s"}


def test_coverage(tmp_path):
    arguments = ["--only", "^(accuracy|auc, few)", "--trials", "20", "--sizes", "180", "--output", str(tmp_path)]
    assert import_module("coverage").main(arguments) in (0, 1)  # of twenty experiments two may well miss
    record, text = result(tmp_path, "coverage")
    assert set(record["metrics"]) == {"accuracy, no drop", "accuracy", "accuracy, one-sided", "auc, few change"}
    for entry in record["metrics"].values():
        assert entry["cases"][0]["covered"] >= 0.7
        assert entry["cases"][0]["without_width"] == 0
    assert record["metrics"]["accuracy, one-sided"]["truth"] == pytest.approx(0.01, abs=1e-3)
    assert "accuracy, one-sided" in text


class Node:
    def __init__(self, name, share):
        self.names, self.share = frozenset({name}), share


class Times:
    def __init__(self, **shares):
        self.nodes = [Node(name, share) for name, share in shares.items()]


def test_shares_of_layers_that_repeat():
    found = import_module("layers").repeated([Times(a=0.5, b=0.48, c=0.02), Times(a=0.55, b=0.44, c=0.01)])
    assert found == pytest.approx({"a": 0.1, "b": 0.48 / 0.44 - 1})


@pytest.mark.parametrize(
    ("change", "good"),
    [({}, True), ({"covered": 0.89}, False), ({"mapped": 0.94}, False), ({"largest_deviation": 0.11}, False)],
)
def test_limits_of_layers(change, good):
    layers = import_module("layers")
    found = {"covered": 0.95, "mapped": 1.0, "largest_deviation": 0.03, **change}
    assert layers.kept(found) is good


def test_networks_whose_layers_failed_are_in_the_report():
    text = import_module("layers").report({"one": {"error": "crashed"}})
    assert "- one: crashed" in text
