"""float16 files: the same network with weights in half precision, its inputs and outputs float32 as before."""

import json
from types import SimpleNamespace

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from profiler.errors import ModelError
from quant.data import Samples
from quant.export import export_onnx
from quant.float16 import half_arm
from quant.graph import prepare, to_bytes
from quant.half import _Halver, overflowing, rounded, to_float16
from quant.latency.whole import Timing
from quant.pipeline import quantize
from quant.report import json_text, quantization_text
from quant.run import Run
from quant.runtime import open_session

X = np.random.default_rng(0).standard_normal((6, 3, 8, 8), dtype=np.float32)


def batches(x=X):
    return lambda: [{"x": x[:3]}, {"x": x[3:]}]


class Net(nn.Module):
    """A convolution with a batch norm, a residual, a layer norm, attention-like products and a classifier."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.mix = nn.Conv2d(8, 8, 1)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        y = self.stem(x)
        y = (y + self.mix(y)).flatten(2).transpose(1, 2)
        weights = (y @ y.transpose(1, 2) / 8).softmax(-1)
        return self.head(self.norm(weights @ y).mean(1))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def graph(net):
    return prepare(export_onnx(net, (torch.from_numpy(X[:2]),), input_names=["x"]).model)


class TestConversion:
    def test_agrees_with_torchs_half(self, net, graph):
        session = open_session(to_float16(graph, batches()).file)
        (ours,) = session.run({"x": X})
        with torch.no_grad():
            half = torch.from_numpy(X).half()
            theirs, exact = nn.Module.half(Net().eval()).requires_grad_(False), net(torch.from_numpy(X)).numpy()
            theirs.load_state_dict({k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()})
            reference = theirs(half).float().numpy()
        assert ours.dtype == np.float32
        step = 2.0**-10 * np.abs(exact).max()  # float16 has 11 bits
        assert np.abs(ours - exact).max() < 3 * step
        assert np.abs(ours - reference).max() < 6 * step
        assert np.abs(ours - exact).max() > 0  # it is no float32 file

    def test_weights_are_the_rounded_ones(self, graph):
        half = onnx.ModelProto.FromString(to_float16(graph, batches()).file)
        stored = {t.name: onnx.numpy_helper.to_array(t) for t in half.graph.initializer}
        for name, value in graph.graph.initializers.items():
            array = value.const_value.numpy()
            if array.dtype == np.float32 and array.size > 1:
                assert name not in stored
                np.testing.assert_array_equal(stored[f"{name}_float16"], array.astype(np.float16), strict=True)

    def test_inputs_and_outputs_stay(self, graph):
        session = open_session(to_float16(graph, batches()).file)
        assert (session.input_names, session.input_types) == (("x",), ("float32",))
        assert session.output_names == tuple(output.name for output in graph.graph.outputs)

    def test_is_half_the_size(self, graph):
        size = sum(value.const_value.nbytes for value in graph.graph.initializers.values())
        half = onnx.ModelProto.FromString(to_float16(graph, batches()).file)
        assert sum(onnx.numpy_helper.to_array(t).nbytes for t in half.graph.initializer) < 0.6 * size

    def test_is_the_same_each_time_and_leaves_the_graph(self, graph):
        before = graph.graph.initializers.copy()
        assert to_float16(graph, batches()).file == to_float16(graph, batches()).file
        assert graph.graph.initializers == before


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_nodes_may_stay_float32(graph, data):
    kept = data.draw(st.sets(st.sampled_from([node.name for node in graph.graph])))
    copy = graph.clone()
    _Halver(copy, kept).apply()
    file = to_bytes(copy)
    onnx.checker.check_model(onnx.ModelProto.FromString(file), full_check=True)
    written = {name: node for node in onnx.ModelProto.FromString(file).graph.node for name in node.output}
    for node in written.values():
        if node.name in kept:
            assert not any(name.endswith("_float16") for name in node.input), "it reads what is float16"
    (ours,), (exact,) = (open_session(content).run({"x": X}) for content in (file, to_bytes(graph)))
    np.testing.assert_allclose(ours, exact, atol=2.0**-8 * np.abs(exact).max())


class TestOverflow:
    """Values beyond 65504 are infinite in float16: such nodes stay float32."""

    NODES = (("Mul", "x big", "m"), ("Mul", "m m", "q"), ("Mul", "q small", "s"), ("Relu", "s", "y"))

    def graph(self, build, big):
        constants = {"big": np.float32(big), "small": np.float32(1e-6)}
        return prepare(build(*self.NODES, constants=constants))

    def test_nodes_that_reach_it_stay_float32(self, build):
        graph = self.graph(build, 300.0)  # (300 x)^2 is beyond it, its product with 1e-6 is not
        kept = overflowing(graph, batches())
        assert kept == {"Mul_q", "Mul_s"}
        half = to_float16(graph, batches())
        assert half.kept == ("Mul_q", "Mul_s")
        (y,) = open_session(half.file).run({"x": X})
        np.testing.assert_allclose(y, np.maximum((300.0 * X) ** 2 * 1e-6, 0), rtol=4e-3, atol=1e-6)

    def test_small_values_keep_none(self, build):
        assert overflowing(self.graph(build, 1.0), batches()) == set()

    def test_a_margin_is_left(self, build):
        largest = float(np.abs(X).max())
        for reached, kept in ((40_000.0, True), (30_000.0, False)):
            graph = prepare(build(("Mul", "x big", "y"), constants={"big": np.float32(reached / largest)}))
            assert bool(overflowing(graph, batches())) is kept

    def test_constants_count(self, build):
        constants = {"big": np.array([1e6, 0, 0], np.float32).reshape(3, 1, 1), "none": np.zeros((3, 1, 1), np.float32)}
        nodes = (("Where", "c big none", "w"), ("Mul", "x none", "m"), ("Add", "m w", "y"))
        condition = {"c": np.zeros((3, 1, 1), bool)}
        graph = build(*nodes, constants={**constants, **condition})
        assert overflowing(graph, batches()) >= {"Where_w"}

    def test_infinity_is_no_overflow(self, build):
        constants = {"c": X[0] > 0, "out": np.float32(-np.inf)}
        graph = prepare(build(("Where", "c x out", "w"), ("Softmax", "w", "y"), constants=constants))
        half = to_float16(graph, batches())
        assert half.kept == ()
        (y,) = open_session(half.file).run({"x": X})
        (exact,) = open_session(to_bytes(graph)).run({"x": X})
        assert np.isnan(exact).any() == np.isnan(y).any()
        np.testing.assert_allclose(y, exact, atol=1e-3)


class TestTypes:
    """Where float32 and float16 meet."""

    def check(self, graph, x=X, tolerance=2e-3):
        half = to_float16(graph, lambda: [{"x": x}])
        onnx.checker.check_model(onnx.ModelProto.FromString(half.file), full_check=True)
        ours, exact = (open_session(file).run({"x": x}) for file in (half.file, to_bytes(graph)))
        for one, other in zip(ours, exact, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
        return onnx.ModelProto.FromString(half.file)

    def kinds(self, model):
        return {t.name: t.data_type for t in model.graph.initializer}

    def test_an_epsilon_stays_above_zero(self, build):
        nodes = (("Sub", "x x", "z"), ("Add", "z eps", "e"), ("Div", "z e", "y"))
        self.check(prepare(build(*nodes, constants={"eps": np.float32(1e-12)})))
        np.testing.assert_array_equal(rounded(np.float32([1e-12, -1e-12, 0, 1])), np.float16([6e-8, -6e-8, 0, 1]))

    def test_scales_of_resize_stay_float32(self, build):
        constants = {"scales": np.float32([1, 1, 2, 2]), "roi": np.zeros(0, np.float32)}
        model = self.check(prepare(build(("Relu", "x", "r"), ("Resize", "r roi scales", "y"), constants=constants)))
        assert self.kinds(model)["scales"] == onnx.TensorProto.FLOAT

    def test_a_constant_for_both_types_is_there_twice(self, build):
        constants = {"w": np.float32(0.5), "zero": np.float32(0)}
        nodes = (
            *(("Mul", "x w", "m"), ("ReduceMax", "x", "top", {"keepdims": 0}), ("Range", "zero top w", "n")),
            *(("ReduceSum", "n", "s", {"keepdims": 0}), ("Add", "m s", "y")),
        )
        kinds = self.kinds(self.check(prepare(build(*nodes, constants=constants))))
        assert kinds["w"] == onnx.TensorProto.FLOAT
        assert kinds["w_float16"] == onnx.TensorProto.FLOAT16

    def test_operators_without_float16_stay(self, build):
        constants = {"k": np.int64([3])}
        nodes = (("Relu", "x", "r"), ("TopK", "r k", "t i"), ("Neg", "t", "y"))
        self.check(prepare(build(*nodes, constants=constants, outputs=("y",))))

    def test_an_output_that_is_read_inside_too(self, build):
        self.check(prepare(build(("Relu", "x", "a"), ("Neg", "a", "y"), outputs=("a", "y"))))

    def test_an_input_that_is_an_output(self, build):
        self.check(prepare(build(("Identity", "x", "a"), ("Neg", "x", "y"), outputs=("a", "y"))))

    def test_indices_and_comparisons(self, build):
        nodes = (
            *(("ArgMax", "x", "i", {"axis": 1}), ("Cast", "i", "f", {"to": 1}), ("Greater", "x f", "g")),
            *(("Shape", "x", "s"), ("Where", "g x f", "w"), ("Reshape", "w s", "y")),
        )
        self.check(prepare(build(*nodes, outputs=("y",))))

    def test_graphs_inside_read_float32(self):
        inner = [
            onnx.helper.make_graph(
                [onnx.helper.make_node(op, ["r"], [f"{op}_out"], name=op)],
                op,
                [],
                [onnx.helper.make_tensor_value_info(f"{op}_out", 1, None)],
            )
            for op in ("Neg", "Exp")
        ]
        nodes = [
            onnx.helper.make_node("Relu", ["x"], ["r"], name="relu"),
            onnx.helper.make_node("ReduceMax", ["r"], ["m"], name="max", keepdims=0),
            onnx.helper.make_node("Greater", ["m", "half"], ["c"], name="greater"),
            onnx.helper.make_node("If", ["c"], ["z"], name="if", then_branch=inner[0], else_branch=inner[1]),
            onnx.helper.make_node("Add", ["z", "r"], ["y"], name="add"),
        ]
        values = [onnx.helper.make_tensor_value_info(name, 1, ("N", 3, 8, 8)) for name in "xy"]
        half = [onnx.numpy_helper.from_array(np.float32(0.5), "half")]
        graph = onnx.helper.make_graph(nodes, "branches", values[:1], values[1:], half)
        proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
        model = ir.passes.common.ShapeInferencePass()(ir.serde.deserialize_model(proto)).model
        for x in (X, X * 0.01):
            self.check(model, x)

    @pytest.mark.parametrize(("operator", "gates"), [("LSTM", 4), ("GRU", 3)])
    def test_recurrent(self, build, operator, gates):
        rng = np.random.default_rng(gates)
        sizes = {"W": (1, 4 * gates, 6), "R": (1, 4 * gates, 4), "B": (1, 8 * gates)}
        constants = {name: rng.standard_normal(size, dtype=np.float32) / 2 for name, size in sizes.items()}
        graph = prepare(build((operator, "x W R B", "y h", {"hidden_size": 4}), x=(5, "N", 6), constants=constants))
        self.check(graph, rng.standard_normal((5, 2, 6), dtype=np.float32), tolerance=6e-3)


@pytest.fixture(scope="module")
def arguments():
    """A network of two layers and samples for it."""
    rng = np.random.default_rng(1)
    constants = {
        "w": rng.standard_normal((16, 3, 3, 3), dtype=np.float32) / 4,
        "v": rng.standard_normal((5, 16), dtype=np.float32) / 4,
    }
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        onnx.helper.make_node("Relu", ["c"], ["r"], name="relu"),
        onnx.helper.make_node("GlobalAveragePool", ["r"], ["g"], name="pool"),
        onnx.helper.make_node("Flatten", ["g"], ["f"], name="flatten"),
        onnx.helper.make_node("Gemm", ["f", "v"], ["y"], name="head", transB=1),
    ]
    values = [onnx.helper.make_tensor_value_info(n, 1, s) for n, s in (("x", ("N", 3, 8, 8)), ("y", ("N", 5)))]
    weights = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = onnx.helper.make_graph(nodes, "two layers", values[:1], values[1:], weights)
    opsets = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return model, Samples({"x": np.concatenate([X] * 4)}, None, "samples")


class TestPipeline:
    def test_float16_stands_beside_int8(self, arguments, tmp_path):
        result = quantize(
            *arguments, output=tmp_path / "m.int8.onnx", seconds=0.2, fp16=True, timing=Timing(cold=False)
        )
        half = result.float16
        assert half.output == tmp_path / "m.float16.onnx"
        assert half.output.read_bytes() == half.model
        assert result.reference == tmp_path / "m.float.onnx"
        assert half.comparison.metrics["sqnr"].int8 > 40
        report = result.to_dict()["float16"]
        assert {"float", "float16", "drop"} <= set(report["metrics"]["agreement"])
        assert report["latency"]["float16_ms"] > 0
        assert report["file_bytes"] == len(half.model)
        assert "float16   file" in quantization_text(result)
        assert "m.float16.onnx" in quantization_text(result)
        assert '"kept_float32": []' in json_text(result)

    def test_on_a_gpu_it_is_made_unasked(self, arguments, fake_gpu):
        result = quantize(*arguments, device="cuda", seconds=0.2, timing=Timing(cold=False))
        assert result.float16 is not None
        assert result.float16.latency.settings["io_binding"] is True
        assert json.loads(json_text(result))["latency"]["session"]["on_device"][0]["placement"].startswith("all")

    @pytest.mark.parametrize(("device", "fp16"), [("cpu", None), ("cpu", False), ("cuda", False)])
    def test_elsewhere_only_where_it_is_asked_for(self, arguments, device, fp16):
        bench = SimpleNamespace(run=Run(device))
        assert half_arm(None, arguments[1], bench, None, 1.0, fp16=fp16) == (None, [])

    def test_a_failure_is_a_note(self, arguments, monkeypatch):
        def fails(*_, **__):
            raise ModelError("no such type\nmore")

        monkeypatch.setattr("quant.float16.to_float16", fails)
        bench = SimpleNamespace(run=Run("cpu"))
        found = half_arm(None, arguments[1], bench, None, 1.0, fp16=True)
        assert found == (None, ["no float16 model: no such type"])
        assert [stage.kept for stage in bench.run.stages] == [False]
