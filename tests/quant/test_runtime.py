"""Sessions of ONNX Runtime: their settings, their errors, and what is missing where they cannot be had."""

import importlib.metadata
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from profiler.errors import DataError, ModelError, UnavailableError, UsageError
from quant import providers, runtime


def model_bytes(nodes, inputs, outputs, initializers=(), opset=17):
    """An ONNX model; `inputs` and `outputs` map names to (element type, shape)."""
    values = [[helper.make_tensor_value_info(name, *info) for name, info in side.items()] for side in (inputs, outputs)]
    graph = helper.make_graph(nodes, "test", *values, list(initializers))
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def add_model():
    """Output y = x + b, b broadcast over the batch."""
    return model_bytes(
        [helper.make_node("Add", ["x", "b"], ["y"])],
        {"x": (TensorProto.FLOAT, ("N", 4)), "b": (TensorProto.FLOAT, (4,))},
        {"y": (TensorProto.FLOAT, ("N", 4))},
    )


def reshape_model():
    """Output y = x reshaped to s; fails on any s that does not fit."""
    reshape = helper.make_node("Reshape", ["x", "s"], ["y"], name="fold")
    inputs = {"x": (TensorProto.FLOAT, ("N", 4)), "s": (TensorProto.INT64, (1,))}
    return model_bytes([reshape], inputs, {"y": (TensorProto.FLOAT, ("M",))})


X, B = np.arange(8, dtype=np.float32).reshape(2, 4), np.ones(4, np.float32)


class TestSession:
    def test_runs_bytes_and_files(self, tmp_path):
        path = tmp_path / "add.onnx"
        path.write_bytes(add_model())
        for source in (add_model(), path, str(path)):
            session = runtime.open_session(source)
            (y,) = session.run({"x": X, "b": B})
            np.testing.assert_array_equal(y, X + B)
        assert session.name == str(path)

    def test_says_what_the_model_takes_and_gives(self):
        session = runtime.open_session(add_model())
        assert session.input_names == ("x", "b")
        assert session.input_shapes == (("N", 4), (4,))
        assert session.input_types == ("float32", "float32")
        assert session.output_names == ("y",)

    def test_states_its_settings(self):
        session = runtime.open_session(add_model(), threads=2, level="extended")
        options = session._session.get_session_options()
        assert options.intra_op_num_threads == session.settings["threads"] == 2
        assert options.inter_op_num_threads == session.settings["inter_op_threads"] == 1
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
        assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        assert session.settings["providers"] == ["CPUExecutionProvider"]
        (disabled,) = session.settings["disabled_optimizers"]
        assert options.get_session_config_entry("optimization.disable_specified_optimizers") == disabled
        with pytest.raises(TypeError):
            session.settings["threads"] = 3

    @pytest.mark.parametrize(
        ("option", "match"),
        [({"device": "tpu"}, "device 'tpu'.*cpu, cuda"), ({"level": "most"}, "level"), ({"threads": 0}, "one")],
    )
    def test_rejects_what_cannot_be_meant(self, option, match):
        with pytest.raises(UsageError, match=match):
            runtime.open_session(add_model(), **option)

    def test_writes_the_graph_it_runs(self, tmp_path):
        path = tmp_path / "optimized.onnx"
        runtime.open_session(add_model(), optimized_path=path, level="disabled")
        assert [node.op_type for node in onnx.load(path).graph.node] == ["Add"]

    def test_prints_nothing(self, capfd):
        session = runtime.open_session(add_model())
        with pytest.raises(DataError):
            session.run({"x": X})
        with pytest.raises(ModelError):
            runtime.open_session(b"no model")
        with pytest.raises(ModelError):
            runtime.open_session(reshape_model()).run({"x": X, "s": np.array([5])})
        assert capfd.readouterr() == ("", "")


def quantized_matmul():
    """QDQ matrix product: one QLinearMatMul with int8 kernels, float MatMul without."""
    one = helper.make_tensor("scale", TensorProto.FLOAT, [], [0.1])
    zero = helper.make_tensor("zero", TensorProto.UINT8, [], [128])
    weight = helper.make_tensor("weight", TensorProto.UINT8, [4, 4], list(range(16)))
    return model_bytes(
        [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"]),
            helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"]),
            helper.make_node("DequantizeLinear", ["weight", "scale", "zero"], ["wd"]),
            helper.make_node("MatMul", ["xd", "wd"], ["m"]),
            helper.make_node("QuantizeLinear", ["m", "scale", "zero"], ["mq"]),
            helper.make_node("DequantizeLinear", ["mq", "scale", "zero"], ["y"]),
        ],
        {"x": (TensorProto.FLOAT, (1, 4))},
        {"y": (TensorProto.FLOAT, (1, 4))},
        [one, zero, weight],
    )


class TestQuantKernels:
    @pytest.mark.parametrize(("quant_kernels", "kernel"), [(True, "QLinearMatMul"), (False, "MatMul")])
    def test_can_be_left_out(self, tmp_path, quant_kernels, kernel):
        path = tmp_path / "optimized.onnx"
        runtime.open_session(quantized_matmul(), quant_kernels=quant_kernels, optimized_path=path, level="extended")
        assert kernel in [node.op_type for node in onnx.load(path).graph.node]


class TestProfile:
    def test_events_name_the_nodes(self):
        session = runtime.open_session(add_model(), profile=True)
        folder = Path(session._session.get_session_options().profile_file_prefix).parent
        session.run({"x": X, "b": B})
        events = session.end_profiling()
        assert [event["args"]["op_name"] for event in events if event["cat"] == "Node"] == ["Add"]
        assert folder.is_dir()
        del session
        assert not folder.exists()

    def test_failure_leaves_no_folder(self, monkeypatch, tmp_path):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with pytest.raises(ModelError):
            runtime.open_session(b"no model", profile=True)
        assert list(tmp_path.iterdir()) == []

    def test_needs_a_profiling_session(self):
        with pytest.raises(UsageError, match="profile=True"):
            runtime.open_session(add_model()).end_profiling()

    def test_broken_events_are_left_out(self):
        text = '[\n{"cat": "Node", "name": "a"},\n{"cat": "Node", "name": "b"c"},\n{"cat": "Node", "name": "d"}\n]\n'
        assert [event["name"] for event in runtime._trace_events(text)] == ["a", "d"]


class TestWrongInputs:
    @pytest.mark.parametrize(
        ("inputs", "match"),
        [
            ({"x": X}, r"no data for input 'b'; got 'x'"),
            ({}, r"no data for input 'x', 'b'; got none"),
            ({"x": X, "b": B, "z": B}, r"has no input 'z'; its inputs are 'x', 'b'"),
            ({"x": X, "b": B.astype(np.float64)}, r"input 'b': expected float32, got float64"),
            ({"x": X[:, :3], "b": B}, r"input 'x': expected shape \(N, 4\), got \(2, 3\)"),
            ({"x": [[1.0], [2.0, 3.0]], "b": B}, r"input 'x': expected a NumPy array of float32, got list"),
            ({"x": X[0], "b": B}, r"input 'x': expected shape \(N, 4\), got \(4\)"),
        ],
    )
    def test_are_named(self, inputs, match):
        with pytest.raises(DataError, match=match) as caught:
            runtime.open_session(add_model()).run(inputs)
        assert "\n" not in str(caught.value)

    def test_batches_are_numbered(self):
        session = runtime.open_session(add_model())
        batches = [{"x": X, "b": B}, {"x": X[:1], "b": B}, {"x": X[:, :3], "b": B}]
        results = runtime.run_batches(session, batches)
        assert [next(results)[0].shape, next(results)[0].shape] == [(2, 4), (1, 4)]
        with pytest.raises(DataError, match=r"batch 2: .*'x'"):
            next(results)

    def test_batches_are_run_as_they_are_asked_for(self):
        def batches():
            yield {"x": X, "b": B}
            pytest.fail("the second batch was taken before it was needed")

        next(runtime.run_batches(runtime.open_session(add_model()), batches()))


class TestBadModels:
    def test_failure_while_running(self):
        with pytest.raises(ModelError, match=r"fails while running: .*Reshape.*fold") as caught:
            runtime.open_session(reshape_model()).run({"x": X, "s": np.array([5])})
        assert len(str(caught.value)) < 400

    @pytest.mark.parametrize(
        ("content", "match"),
        [
            # Of bytes ONNX Runtime says it, of files we do.
            (b"no model", r"cannot load it: .*[Pp]rotobuf parsing failed|no model file of a kind that is known"),
            (b"", "No graph was found|is empty"),
            (add_model()[:-10], "cannot load it|no whole ONNX model"),
            (
                model_bytes([helper.make_node("Nope", ["x"], ["y"])], {"x": (1, (1,))}, {"y": (1, (1,))}),
                r"No Op .*Nope",
            ),
            (
                model_bytes([helper.make_node("Relu", ["x"], ["y"])], {"x": (1, (1,))}, {"y": (1, (1,))}, opset=99),
                "pset 99",
            ),
        ],
        ids=["garbage", "empty", "truncated", "unknown operator", "future opset"],
    )
    def test_do_not_load(self, tmp_path, content, match):
        path = tmp_path / "bad.onnx"
        path.write_bytes(content)
        for source in (path, content):
            with pytest.raises(ModelError, match=match) as caught:
                runtime.open_session(source)
            assert "ONNXRuntimeError" not in str(caught.value)
            assert "\n" not in str(caught.value)

    def test_missing_file_is_named(self, tmp_path):
        with pytest.raises(ModelError, match=r"nowhere\.onnx: no such file"):
            runtime.open_session(tmp_path / "nowhere.onnx")


class FakeDistributions:
    """Stands in for importlib.metadata: these distributions and no other are installed."""

    def __init__(self, monkeypatch, **installed):
        self.installed = {name.replace("_", "-"): version for name, version in installed.items()}
        monkeypatch.setattr(importlib.metadata, "version", self.version)

    def version(self, name):
        if name not in self.installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return self.installed[name]


class TestInstallation:
    def test_both_runtimes_together_are_refused(self, monkeypatch):
        FakeDistributions(monkeypatch, onnxruntime="1.31.0", onnxruntime_gpu="1.30.0")
        with pytest.raises(UnavailableError, match="onnxruntime and onnxruntime-gpu are installed together") as caught:
            runtime.import_onnxruntime()
        assert "pip uninstall onnxruntime onnxruntime-gpu" in str(caught.value)

    @pytest.mark.parametrize("name", ["onnxruntime", "onnxruntime_gpu", "onnxruntime_openvino"])
    def test_one_alone_is_taken(self, monkeypatch, name):
        FakeDistributions(monkeypatch, **{name: "1.31.0"})
        assert runtime.import_onnxruntime() is onnxruntime

    def test_none_says_what_to_install(self, monkeypatch):
        FakeDistributions(monkeypatch)
        monkeypatch.setitem(sys.modules, "onnxruntime", None)  # makes its import fail
        with pytest.raises(UnavailableError, match=r"pip install 'netgauge\[cpu\]'"):
            runtime.import_onnxruntime()

    def test_broken_one_is_not_called_missing(self, monkeypatch):
        FakeDistributions(monkeypatch, onnxruntime="1.31.0")
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(UnavailableError, match="installed but does not load"):
            runtime.import_onnxruntime()

    def test_importing_is_cheap(self):
        code = (
            "import sys, quant.latency, quant.machine, quant.runtime; "
            "print({'torch', 'onnx', 'onnxruntime', 'scipy'} & set(sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "set()\n"


class FakeSession:
    """A session that ONNX Runtime let fall back to the CPU without a word."""

    def __init__(self, source, options, **choices):
        assert choices["enable_fallback"] == 0  # else ONNX Runtime prints to the terminal and tries the CPU

    def get_providers(self):
        return ["CPUExecutionProvider"]


class TestProviders:
    def test_absent_provider_is_an_error(self):
        with pytest.raises(
            UnavailableError, match="CUDAExecutionProvider does not load: it is no part of onnxruntime"
        ) as caught:
            runtime.open_session(add_model(), device="cuda")
        assert "netgauge[gpu]" in str(caught.value) or sys.platform == "darwin"

    def test_a_device_can_be_checked_beforehand(self):
        runtime.check_device("cpu")
        with pytest.raises(UsageError, match="device 'tpu'"):
            runtime.check_device("tpu")
        with pytest.raises(
            UnavailableError, match=r"CUDAExecutionProvider does not load: .*onnxruntime-gpu is not inst"
        ):
            runtime.check_device("cuda")

    @pytest.fixture
    def gpu_build(self, monkeypatch):
        """An ONNX Runtime with CUDA compiled in whose sessions fall back silently."""
        compiled_in = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: compiled_in)
        monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: sys.stdout.write("Failed to load libcublasLt.so.13"))
        monkeypatch.setattr(onnxruntime, "InferenceSession", FakeSession)

    def test_silent_fallback_names_what_is_missing(self, monkeypatch, gpu_build, capfd):
        state = providers.ProviderState(
            "CUDAExecutionProvider", loads=False, reason="libcublasLt.so.13 is missing", remedy="X"
        )
        monkeypatch.setattr(providers, "probe", {"CUDAExecutionProvider": state}.get)
        with pytest.raises(
            UnavailableError, match=r"^CUDAExecutionProvider does not load: libcublasLt\.so\.13 is missing\nX$"
        ):
            runtime.open_session(add_model(), device="cuda")
        assert capfd.readouterr() == ("", "")

    def test_fallback_of_a_working_provider_is_the_models_fault(self, monkeypatch, gpu_build):
        monkeypatch.setattr(providers, "probe", lambda name: providers.ProviderState(name, loads=True))
        with pytest.raises(ModelError, match="it would run without TensorrtExecutionProvider"):
            runtime.open_session(add_model(), device="tensorrt")
