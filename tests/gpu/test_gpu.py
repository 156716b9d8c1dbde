"""The same contracts as tests/quant checks with a faked provider, on a real GPU: `pytest -m gpu tests/gpu`.

Needs an NVIDIA GPU, its driver and onnxruntime-gpu with the libraries of CUDA and cuDNN.
"""

import json
import time

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from profiler.errors import DataError
from quant import quantize
from quant.calibrate import observe
from quant.data import Samples
from quant.export import export_onnx
from quant.graph import prepare, to_bytes
from quant.half import to_float16
from quant.latency import compare_latency
from quant.machine import doctor
from quant.place import cpu, qdq
from quant.place.lower import lower
from quant.report import json_text
from quant.runtime import open_session

pytestmark = pytest.mark.gpu

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
RNG = np.random.default_rng(0)
FEEDS = [{"x": RNG.standard_normal((4, 3, 32, 32), dtype=np.float32)} for _ in range(3)]


class Net(nn.Module):
    """Convolutions, a depthwise one among them, a residual, attention and a classifier."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU())
        self.depthwise = nn.Sequential(nn.Conv2d(32, 32, 3, 1, 1, groups=32), nn.Hardswish(), nn.Conv2d(32, 32, 1))
        self.norm = nn.LayerNorm(32)
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        y = self.stem(x)
        tokens = self.norm((y + self.depthwise(y)).flatten(2).transpose(1, 2)).unsqueeze(1)
        return self.head(nn.functional.scaled_dot_product_attention(tokens, tokens, tokens).mean((1, 2)))


@pytest.fixture(scope="module")
def graph():
    torch.manual_seed(0)
    return prepare(export_onnx(Net().eval(), (torch.from_numpy(FEEDS[0]["x"]),), input_names=["x"]).model)


@pytest.fixture(scope="module")
def files(graph):
    lowered = lower(graph)
    plan = cpu.candidates(lowered.graph)["static"]
    return {
        "float32": to_bytes(graph),
        "float16": to_float16(graph, lambda: FEEDS).file,
        "int8": to_bytes(qdq.apply(plan, lowered, observe(lowered, lambda: FEEDS, plan.observed))),
    }


# Relative to the largest output. CUDA computes float32 convolutions with 10 bits of mantissa (TF32) where it can; an
# int8 file may round a value that lies between two integers to the other one.
TOLERANCE = {"float32": 5e-3, "float16": 1e-2, "int8": 5e-2}


def close(ours, theirs, precision):
    assert np.abs(ours - theirs).max() <= TOLERANCE[precision] * np.abs(theirs).max()


@pytest.mark.parametrize("precision", list(TOLERANCE))
class TestSessions:
    def test_results_are_the_cpus(self, cuda, files, precision):
        session, reference = open_session(files[precision], device=cuda), open_session(files[precision])
        for feed in FEEDS:
            close(session.run(feed)[0], reference.run(feed)[0], precision)

    def test_bound_results_are_those_of_plain_runs(self, cuda, files, precision):
        session = open_session(files[precision], device=cuda)
        bound = session.bound(FEEDS)
        for index in (0, 1, 2, 1, 4):
            plain = session.run(FEEDS[index % 3])[0]
            np.testing.assert_allclose(bound.outputs(index)[0], plain, rtol=1e-4, atol=1e-5 * np.abs(plain).max())

    def test_nodes_ran_on_the_gpu(self, cuda, files, precision):
        placed = open_session(files[precision], device=cuda).assignment
        assert placed.nodes[CUDA]["Conv"] >= 3
        assert not placed.left_out, placed.summary()


class TestPlacement:
    def test_what_cuda_has_no_kernel_for_is_named(self, cuda):
        nodes = [
            onnx.helper.make_node("Relu", ["x"], ["r"]),
            onnx.helper.make_node("Det", ["r"], ["y"], name="determinant"),
        ]
        values = [onnx.helper.make_tensor_value_info(n, 1, s) for n, s in (("x", (2, 3, 3)), ("y", (2,)))]
        graph = onnx.helper.make_graph(nodes, "fallback", values[:1], values[1:])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
        placed = open_session(model.SerializeToString(), device=cuda).assignment
        assert placed.summary() == "1 of 2 nodes ran on CPU: Det x1"
        assert placed.warning("m") is not None

    def test_wrong_inputs_are_named(self, cuda, files):
        with pytest.raises(DataError, match="expected float32, got float64"):
            open_session(files["float32"], device=cuda).bound([{"x": FEEDS[0]["x"].astype(np.float64)}])(0)

    def test_doctor_says_that_it_loads(self, cuda):
        assert CUDA in {state.name for state in doctor().providers if state.loads}


class TestTiming:
    def test_a_run_ends_when_the_gpu_has_finished(self, cuda, graph, files):
        """Waiting a second time takes no time worth the name: nothing is left to wait for."""
        bound = open_session(files["float32"], device=cuda).bound(FEEDS)
        for index in range(20):
            bound(index)
        began = time.perf_counter()
        bound(0)
        ran = time.perf_counter()
        bound._bindings[0].synchronize_outputs()
        assert time.perf_counter() - ran < max(ran - began, 1e-3)

    def test_report(self, cuda, files):
        found = compare_latency(files["float32"], files["float16"], inputs=FEEDS, device=cuda, seconds=2)
        report = json.loads(json.dumps(found.to_dict()))
        assert report["session"]["io_binding"] is True
        for entry in report["session"]["on_device"]:
            assert entry["transfers"]["host_to_device_ms"] > 0
            assert entry["transfers"]["input_bytes"] == FEEDS[0]["x"].nbytes
        assert report["float_ms"] > 0


class TestPipeline:
    def test_quantize_with_float16_beside_it(self, cuda, tmp_path):
        torch.manual_seed(0)
        data = Samples({"x": RNG.standard_normal((64, 3, 32, 32), dtype=np.float32)}, None, "samples")
        result = quantize(Net().eval(), data, output=tmp_path / "m.int8.onnx", device=cuda, seconds=2)
        report = json.loads(json_text(result))
        assert report["latency"]["device"] == "cuda"
        assert report["float16"]["latency"]["float16_ms"] > 0
        assert result.float16.comparison.metrics["sqnr"].int8 > 30
        assert (tmp_path / "m.float16.onnx").is_file()


class TestTensorrt:
    @pytest.mark.parametrize("precision", ["float32", "float16"])
    def test_results_and_the_engines_cache(self, tensorrt, files, precision):
        reference = open_session(files[precision]).run(FEEDS[0])[0]
        built = []
        for _ in range(2):
            session = open_session(files[precision], device=tensorrt)
            close(session.run(FEEDS[0])[0], reference, precision)
            close(session.bound(FEEDS).outputs(0)[0], reference, precision)
            built.append(session.engine.to_dict()["built"])
        assert built[0] >= 1
        assert built[1] == 0
        assert session.assignment.nodes["TensorrtExecutionProvider"]
