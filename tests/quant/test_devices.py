"""Sessions on a GPU: what is asked of ONNX Runtime, which nodes run where, and TensorRT's engines.

The GPU is faked at the session; tests/gpu runs the same on a real one.
"""

import numpy as np
import onnxruntime
import pytest

from profiler.errors import DataError, ModelError
from quant import bound, devices
from quant.assignment import Assignment, assignment
from quant.graph import to_bytes
from quant.runtime import open_session

CPU, CUDA, TENSORRT = (f"{name}ExecutionProvider" for name in ("CPU", "CUDA", "Tensorrt"))
NODES = (
    ("Conv", "x w", "c"),
    ("Relu", "c", "r"),
    ("Shape", "r", "s"),
    ("Reshape", "r s", "y"),
)
WEIGHT = np.linspace(-1, 1, 24, dtype=np.float32).reshape(8, 3, 1, 1)
X = np.random.default_rng(0).standard_normal((2, 3, 8, 8), dtype=np.float32)


@pytest.fixture
def model(build):
    return to_bytes(build(*NODES, constants={"w": WEIGHT}))


class TestSession:
    @pytest.mark.parametrize(("device", "wanted"), [("cuda", [CUDA, CPU]), ("tensorrt", [TENSORRT, CUDA, CPU])])
    def test_providers_in_order(self, fake_gpu, model, device, wanted):
        session = open_session(model, device=device)
        assert list(fake_gpu.sessions[0].asked) == session.settings["providers"] == wanted

    def test_outputs_are_those_of_the_cpu(self, fake_gpu, model):
        (expected,) = open_session(model, device="cuda").run({"x": X})
        convolved = np.maximum(np.einsum("oc,ncij->noij", WEIGHT[:, :, 0, 0], X), 0)
        np.testing.assert_allclose(expected, convolved, rtol=1e-5, atol=1e-6)

    def test_a_failed_run_says_what_to_do(self, fake_gpu, model):
        session = open_session(model, device="cuda")
        fake_gpu.fails = RuntimeError(
            "Non-zero status code returned while running Conv node. /src/bfc_arena.cc:376 void* onnxruntime::BFCArena::"
            "AllocateRawInternal(size_t, bool) Failed to allocate memory for requested buffer of size 1073741824"
        )
        for run in (lambda: session.run({"x": X}), lambda: session.bound([{"x": X}])(0)):
            with pytest.raises(
                ModelError, match=r"model: fails while running: Failed to allocate .* 1073741824\n"
            ) as e:
                run()
            assert "smaller batch" in str(e.value)


class TestAssignment:
    def test_all_nodes(self, fake_gpu, model):
        found = open_session(model, device="cuda").assignment
        assert found.nodes == {CUDA: {"Conv": 1, "Relu": 1, "Shape": 1, "Reshape": 1}}
        assert found.summary() == "all 4 nodes ran on CUDA"
        assert found.warning("m") is None

    def test_sizes_on_the_cpu_are_told_without_a_warning(self, fake_gpu, model):
        fake_gpu.elsewhere = {"Shape": CPU}
        found = open_session(model, device="cuda").assignment
        assert found.summary() == "1 of 4 nodes ran on CPU: Shape x1"
        assert found.warning("m") is None

    def test_computing_elsewhere_is_warned_of(self, fake_gpu, model):
        fake_gpu.elsewhere = {"Relu": CUDA, "Shape": CPU}
        session = open_session(model, device="tensorrt")
        assert session.assignment.warning("m") == (
            "m: 1 of 4 nodes ran on CUDA: Relu x1; 1 of 4 nodes ran on CPU: Shape x1; "
            "the times are not those of TensorRT alone"
        )
        assert session.settings["nodes"][CUDA] == {"Relu": 1}

    def test_nothing_on_the_device_is_an_error(self, fake_gpu, model):
        fake_gpu.elsewhere = dict.fromkeys(("Conv", "Relu", "Shape", "Reshape"), CPU)
        with pytest.raises(ModelError, match=r"model: none of its nodes runs on CUDA: 4 of 4 nodes ran on CPU") as e:
            open_session(model, device="cuda")
        assert e.value.exit_code == 4

    def test_the_real_runtime_tells(self, tmp_path, model):
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        session = onnxruntime.InferenceSession(model, options, providers=[CPU])
        assert assignment(session, CPU).nodes == {CPU: {"Conv": 1, "Relu": 1, "Shape": 1, "Reshape": 1}}

    def test_an_older_one_does_not(self):
        assert assignment(object(), CUDA) is None

    def test_long_lists_are_cut(self):
        counts = {f"Op{i}": 9 - i for i in range(8)}
        text = Assignment(CUDA, {CUDA: {"Conv": 6}, CPU: counts}).summary()
        assert text == "44 of 50 nodes ran on CPU: Op0 x9, Op1 x8, Op2 x7, Op3 x6, Op4 x5 and 3 more operators"

    def test_the_cpu_has_none(self, model):
        assert open_session(model).assignment is None


class TestEngines:
    def options(self, fake_gpu):
        return fake_gpu.sessions[-1].asked[TENSORRT]

    def test_every_file_has_a_folder_of_its_own(self, fake_gpu, build, tmp_path):
        seen = set()
        for scale in (1, 2, 1):  # the same graph, which TensorRT's provider gives the same name
            open_session(to_bytes(build(*NODES, constants={"w": WEIGHT * scale})), device="tensorrt")
            seen.add(self.options(fake_gpu)["trt_engine_cache_path"])
        assert len(seen) == 2
        assert all(path.startswith(str(tmp_path / "cache" / "tensorrt")) for path in seen)
        assert self.options(fake_gpu)["trt_engine_cache_enable"] == "True"
        assert (tmp_path / "cache" / "tensorrt").stat().st_mode & 0o700
        assert next((tmp_path / "cache" / "tensorrt").iterdir()).stat().st_mode & 0o077 == 0

    def test_a_file_and_its_bytes_share_one(self, fake_gpu, model, tmp_path):
        path = tmp_path / "m.onnx"
        path.write_bytes(model)
        assert (
            open_session(path, device="tensorrt").engine.folder == open_session(model, device="tensorrt").engine.folder
        )

    def test_built_or_found(self, fake_gpu, model):
        session = open_session(model, device="tensorrt")
        assert session.engine.opening_seconds > 0
        assert session.engine.first_run_seconds is None
        session.run({"x": X})
        first = session.engine.first_run_seconds
        session.run({"x": X})
        assert session.engine.first_run_seconds == first > 0
        (session.engine.folder / "graph_1_sm90.engine").write_bytes(b"engine")
        assert session.engine.to_dict()["built"] == 1
        assert open_session(model, device="tensorrt").engine.to_dict()["built"] == 0

    def test_kinds_that_must_be_asked_for(self, fake_gpu, build):
        half = {"w": WEIGHT.astype(np.float16)}
        cast = (("Cast", "x", "h", {"to": 10}), ("Conv", "h w", "c"), ("Cast", "c", "y", {"to": 1}))
        scale = {"s": np.float32(0.1), "z": np.int8(0), "w": WEIGHT}
        pair = (("QuantizeLinear", "x s z", "q"), ("DequantizeLinear", "q s z", "d"), ("Conv", "d w", "y"))
        cases = (
            (NODES, {"w": WEIGHT}, "False", "False"),
            (cast, half, "True", "False"),
            (pair, scale, "False", "True"),
        )
        for nodes, constants, fp16, int8 in cases:
            open_session(to_bytes(build(*nodes, constants=constants)), device="tensorrt")
            options = self.options(fake_gpu)
            assert (options["trt_fp16_enable"], options["trt_int8_enable"]) == (fp16, int8)

    def test_tensors_in_other_files_are_not_kept(self, fake_gpu):
        engine = devices.engine_for(b"... location ...", "1.31.1")
        assert not engine.kept
        assert not engine.folder.is_relative_to(devices.cache_home())
        engine.folder.rmdir()

    def test_a_cache_that_cannot_be_written(self, fake_gpu, model, tmp_path):
        (tmp_path / "cache").write_text("a file where the folder would be")
        session = open_session(model, device="tensorrt")
        assert not session.engine.kept
        folder = session.engine.folder
        assert folder.is_dir()
        del session
        assert not folder.exists()

    def test_other_devices_have_none(self, fake_gpu, model):
        assert open_session(model, device="cuda").engine is None
        assert fake_gpu.sessions[-1].asked == {CUDA: {}, CPU: {}}


class TestBound:
    """On the CPU for real: results, order and errors are those of `run`."""

    def test_gives_what_run_gives(self, model):
        session = open_session(model)
        feeds = [{"x": X * scale} for scale in (1, 2, 3)]
        ours = session.bound(feeds)
        for index in (0, 1, 2, 4, 0):
            np.testing.assert_array_equal(ours.outputs(index)[0], session.run(feeds[index % 3])[0])

    def test_inputs_of_other_sizes_and_layouts(self, model):
        session = open_session(model)
        feeds = [{"x": X[:1]}, {"x": np.ascontiguousarray(X.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)}]
        ours = session.bound(feeds)
        assert [ours.outputs(index)[0].shape[0] for index in (0, 1, 0)] == [1, 2, 1]
        np.testing.assert_array_equal(ours.outputs(1)[0], session.run(feeds[1])[0])

    def test_a_single_number_stays_one(self, build):
        session = open_session(to_bytes(build(("Neg", "x", "y"), x=())))
        (y,) = session.bound([{"x": np.array(2.0, np.float32)}]).outputs(0)
        assert (y.shape, float(y)) == ((), -2.0)

    @pytest.mark.parametrize(
        ("kind", "there"),
        [("tensor(float)", True), ("tensor(int64)", True), ("tensor(string)", False), ("seq(tensor(float))", False)],
    )
    def test_what_lies_on_a_device(self, kind, there):
        assert bound._on_device(kind) is there

    @pytest.mark.parametrize("device", ["cuda", "tensorrt"])
    def test_memory_of_the_gpu(self, fake_gpu, model, device):
        session = open_session(model, device=device)
        ours = session.bound([{"x": X}, {"x": -X}])
        assert fake_gpu.bound == ["cuda", "cuda"]
        assert [binding.outputs for binding in fake_gpu.sessions[0].bindings] == [{"y": "cuda"}] * 2
        assert ours._options.get_run_config_entry("disable_synchronize_execution_providers") == "1"

    def test_transfers(self, model):
        found = open_session(model).bound([{"x": X}]).transfers()
        assert (found.input_bytes, found.output_bytes) == (X.nbytes, 2 * 8 * 64 * 4)
        assert found.host_to_device_ms > 0
        assert found.device_to_host_ms > 0

    @pytest.mark.parametrize(
        ("feed", "match"),
        [
            ({"z": X}, "no data for input 'x'"),
            ({"x": X, "z": X}, "has no input 'z'"),
            ({"x": X.astype(np.float64)}, "expected float32, got float64"),
            ({"x": X[:, :2]}, r"expected shape \(N, 3, 8, 8\), got \(2, 2, 8, 8\)"),
        ],
    )
    def test_wrong_inputs_are_named(self, model, feed, match):
        with pytest.raises(DataError, match=match):
            open_session(model).bound([feed])(0)
