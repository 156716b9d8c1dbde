"""Two real ONNX models timed against each other, for a moment only: what is checked is all but the times."""

import json

import numpy as np
import pytest
from onnx import TensorProto, helper

from profiler.errors import DataError, ModelError, UsageError
from quant.latency import compare_latency
from quant.latency.inputs import random_inputs
from quant.runtime import open_session

SECONDS = 0.2


def unary(*operators, kind=TensorProto.FLOAT, shape=("N", 3)):
    """A chain of element by element operators, x -> y."""
    names = ["x", *(f"h{i}" for i in range(len(operators) - 1)), "y"]
    nodes = [helper.make_node(op, [names[i]], [names[i + 1]]) for i, op in enumerate(operators)]
    values = [helper.make_tensor_value_info(name, kind, shape) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "chain", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.fixture(scope="module")
def result():
    return compare_latency(unary("Relu"), unary("Relu", "Neg", "Exp"), seconds=SECONDS, seed=3)


class TestContract:
    def test_report_has_the_promised_names(self, result):
        report = json.loads(json.dumps(result.to_dict()))
        assert {"float_ms", "int8_ms", "speedup", "interval", "verdict", "threads", "device"} <= set(report)
        assert (report["threads"], report["device"]) == (1, "cpu")
        assert report["speedup"] == pytest.approx(report["float_ms"] / report["int8_ms"])
        assert report["verdict"] in {"faster", "slower", "no difference shown"}
        assert report["session"]["spinning"] is False
        assert report["session"]["random_inputs"] is True
        assert report["session"]["seed"] == 3

    def test_ab_names(self, result):
        report = result.to_dict(("a", "b"))
        assert (report["a_ms"], report["b_ms"]) == (result.a_ms, result.b_ms)

    def test_files_sessions_and_given_inputs(self, tmp_path):
        path = tmp_path / "relu.onnx"
        path.write_bytes(unary("Relu"))
        given = [{"x": np.full((2, 3), i, np.float32)} for i in range(40)]
        session = open_session(unary("Neg"), threads=2)
        with pytest.raises(UsageError, match=r"threads is 1 for .*relu\.onnx and 2 for model"):
            compare_latency(path, session, inputs=given, seconds=SECONDS)
        found = compare_latency(path, session, inputs=given, threads=2, seconds=SECONDS)
        assert found.settings["threads"] == 2
        assert (found.settings["inputs"], found.settings["random_inputs"]) == (32, False)


class TestRefusals:
    def test_profiling_sessions(self):
        with pytest.raises(UsageError, match="profile"):
            compare_latency(unary("Relu"), open_session(unary("Relu"), profile=True), seconds=SECONDS)

    def test_no_inputs(self):
        with pytest.raises(DataError, match="no inputs"):
            compare_latency(unary("Relu"), unary("Relu"), inputs=[], seconds=SECONDS)

    def test_inputs_that_fit_one_model_only(self):
        with pytest.raises(DataError, match=r"expected shape \(N, 4\), got \(1, 3\)$"):
            compare_latency(unary("Relu"), unary("Relu", shape=("N", 4)), seconds=SECONDS)

    def test_random_inputs_that_the_model_cannot_take(self):
        halves = helper.make_node("Split", ["x"], ["y", "z"], axis=0, num_outputs=2)
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", 3)) for name in "xyz"]
        squeeze = helper.make_node("Reshape", ["z", "shape"], ["w"])
        shape = helper.make_tensor("shape", TensorProto.INT64, [1], [6])
        graph = helper.make_graph(
            [halves, squeeze],
            "halves",
            values[:1],
            [helper.make_tensor_value_info("w", TensorProto.FLOAT, (6,))],
            [shape],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
        with pytest.raises(ModelError, match=r"open dimensions taken as 1: give inputs"):
            compare_latency(model, model, seconds=SECONDS)

    @pytest.mark.parametrize("order", [1, -1])
    def test_only_one_finite_model(self, tmp_path, order):
        finite, broken = tmp_path / "finite.onnx", tmp_path / "broken.onnx"
        finite.write_bytes(unary("Relu"))
        broken.write_bytes(unary("Neg", "Abs", "Neg", "Log"))
        with pytest.raises(ModelError, match=r"broken\.onnx: gives infinite or undefined outputs on input 0"):
            compare_latency(*[finite, broken][::order], seconds=SECONDS)

    def test_neither_finite_is_a_warning(self):
        broken = unary("Log")
        found = compare_latency(broken, broken, inputs=[{"x": -np.ones((1, 3), np.float32)}], seconds=SECONDS)
        assert any("both models give infinite or undefined outputs" in line for line in found.warnings)


class TestRandomInputs:
    @pytest.mark.parametrize(
        ("kind", "dtype"),
        [
            (TensorProto.FLOAT16, "float16"),
            (TensorProto.DOUBLE, "float64"),
            (TensorProto.INT64, "int64"),
            (TensorProto.BOOL, "bool"),
        ],
    )
    def test_types_and_shapes(self, kind, dtype):
        session = open_session(unary("Identity", kind=kind, shape=("N", 3, None)))
        feeds = random_inputs(session, count=5, seed=1)
        assert len(feeds) == 5
        assert {(feed["x"].shape, str(feed["x"].dtype)) for feed in feeds} == {((1, 3, 1), dtype)}
        for feed in feeds:
            session.run(feed)

    def test_integers_are_in_any_vocabulary(self):
        feeds = random_inputs(open_session(unary("Identity", kind=TensorProto.INT64, shape=(1, 500))), count=1)
        assert set(np.unique(feeds[0]["x"])) == {0, 1}

    def test_the_seed_decides(self):
        session = open_session(unary("Relu"))
        one, same, other = (random_inputs(session, count=1, seed=seed)[0]["x"] for seed in (1, 1, 2))
        assert np.array_equal(one, same)
        assert not np.array_equal(one, other)

    def test_strings_cannot_be_drawn(self):
        session = open_session(unary("Identity", kind=TensorProto.STRING))
        with pytest.raises(DataError, match="random inputs of type object; give inputs"):
            random_inputs(session)
