"""Timing on a GPU, faked at the session: the models run with bound inputs, and the report says what ran where."""

import json

import numpy as np
import pytest

from quant.graph import to_bytes
from quant.latency import compare_latency
from quant.latency.on_device import runner, warnings
from quant.report import latency_lines
from quant.runtime import open_session

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.fixture
def models(build):
    return [
        to_bytes(build(("Relu", "x", "y"))),
        to_bytes(build(("Neg", "x", "n"), ("Erf", "n", "y"))),
    ]


class TestComparison:
    def test_is_made_with_bound_inputs(self, fake_gpu, models):
        fake_gpu.elsewhere = {"Erf": CPU}
        found = compare_latency(*models, device="cuda", seconds=0.3)
        report = json.loads(json.dumps(found.to_dict()))
        first, second = report["session"]["on_device"]
        assert report["session"]["io_binding"] is True
        assert report["device"] == "cuda"
        assert first["nodes"] == {CUDA: {"Relu": 1}}
        assert second["nodes"] == {CUDA: {"Neg": 1}, CPU: {"Erf": 1}}
        assert second["transfers"]["input_bytes"] == 3 * 8 * 8 * 4
        assert first["engine"] is None
        assert (
            "second model: 1 of 2 nodes ran on CPU: Erf x1; the times are not those of CUDA alone" in report["warnings"]
        )
        text = "\n".join(latency_lines(found, ("float", "int8")))
        assert "device    float: its one node ran on CUDA; copies " in text
        assert "back, not in the latency" in text

    def test_with_tensorrt_tells_of_the_engines(self, fake_gpu, models):
        found = compare_latency(*models, device="tensorrt", seconds=0.3)
        assert [entry["engine"]["built"] for entry in found.to_dict()["session"]["on_device"]] == [0, 0]
        lines = latency_lines(found, ("float", "int8"))
        assert any(line.startswith("engine    float: from the cache, opening ") for line in lines)

    def test_on_the_cpu_nothing_is_bound(self, models):
        found = compare_latency(*models, seconds=0.2)
        assert found.settings["io_binding"] is False
        assert "on_device" not in found.settings
        assert not any(line.startswith(("device", "engine")) for line in latency_lines(found, ("float", "int8")))


def test_an_older_runtime_does_not_tell(fake_gpu, models, monkeypatch):
    monkeypatch.setattr("quant.runtime.assignment", lambda session, wanted: None)
    session = open_session(models[0], device="cuda")
    assert session.assignment is None
    assert "nodes" not in session.settings
    (warning,) = warnings([("first model", session)])
    assert warning.startswith("first model: this ONNX Runtime does not tell which nodes")


def test_strings_are_copied_and_said_to_be(fake_gpu, build):
    session = open_session(to_bytes(build(("Identity", "x", "y"), x=("N",), kind=8)), device="cuda")
    run = runner(session, [{"x": np.array(["a"], object)}])
    assert run(3)[0].tolist() == ["a"]
    assert list(warnings([("first model", session)])) == [
        "first model: takes strings, which cannot lie on a device; its times hold the copies"
    ]
