"""Which nodes are planned as int8, which tensors share a grid, and the reasons given."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from quant.place import cpu
from quant.place.choose import choose
from quant.place.integers import activation_grids
from quant.place.lower import lower
from quant.place.plan import Mode, Role

W = {"w": np.ones((3, 3, 1, 1), np.float32), "v": np.full((3, 3, 1, 1), 2, np.float32)}


def plan_of(model, **options):
    return choose(model.graph, cpu.TARGET, name="test", **options)


def kernels(plan):
    return {name: decision.kernel for name, decision in plan.nodes.items()}


def test_what_moves_values_shares_the_grid_of_its_input(bench, rng):
    nodes = (
        ("Conv", "x w", "a"),
        ("MaxPool", "a", "b", {"kernel_shape": [2, 2]}),
        ("Transpose", "b", "c", {"perm": [0, 1, 3, 2]}),
        ("Conv", "c v", "y"),
    )
    plan = plan_of(bench.prepared(*nodes, constants=W))
    assert plan.observed == ("x", "a", "y")
    grids = activation_grids(plan, {name: cpu.Range(-1.0, number) for number, name in enumerate(plan.observed)})
    assert grids["a"] == grids["b"] == grids["c"]
    assert grids["a"] != grids["x"]


def test_a_scaled_tensor_has_the_same_integers(bench):
    nodes = ("Conv", "x w", "a"), ("Mul", "a half", "b"), ("Conv", "b v", "y")
    plan = plan_of(bench.prepared(*nodes, constants={**W, "half": np.float32(0.5)}))
    assert plan.nodes["Mul_b"].mode is Mode.ABSORBED
    assert plan.tensors["b"].factor == 0.5
    grids = activation_grids(plan, dict.fromkeys(plan.observed, cpu.Range(-1.0, 1.0)))
    assert grids["b"].scale == grids["a"].scale / 2
    assert grids["b"].zero_point == grids["a"].zero_point


def test_a_negative_factor_is_an_ordinary_product(bench):
    nodes = ("Conv", "x w", "a"), ("Mul", "a minus", "b"), ("Conv", "b v", "y")
    plan = plan_of(bench.prepared(*nodes, constants={**W, "minus": np.float32(-1)}))
    assert plan.nodes["Mul_b"].mode is Mode.STATIC


def test_a_relu_folds_only_where_nothing_else_reads_its_input(bench):
    nodes = ("Conv", "x w", "a"), ("Relu", "a", "b"), ("Conv", "b v", "c"), ("Add", "a c", "d"), ("Conv", "d w", "y")
    plan = plan_of(bench.prepared(*nodes, constants=W))
    assert kernels(plan) == {"Conv_a": "int8", "Relu_b": "float", "Conv_c": "int8", "Add_d": "int8", "Conv_y": "int8"}
    assert "used elsewhere" in plan.nodes["Relu_b"].reason


def test_a_tail_without_products_stays_float(bench):
    nodes = ("Conv", "x w", "a"), ("Conv", "x v", "b"), ("Add", "a b", "c"), ("Sigmoid", "c", "y")
    plan = plan_of(bench.prepared(*nodes, constants=W))
    assert kernels(plan) == {"Conv_a": "int8", "Conv_b": "int8", "Add_c": "float", "Sigmoid_y": "float"}
    assert "nothing" in plan.nodes["Add_c"].reason


@pytest.mark.parametrize(
    ("node", "constants", "reason"),
    [
        (("Gemm", "x g", "y", {"alpha": 0.5}), {"g": np.ones((8, 4), np.float32)}, "alpha"),
        (("Gemm", "x g c", "y"), {"g": np.ones((8, 4), np.float32), "c": np.ones((1, 4), np.float32)}, "one axis"),
        (("Sin", "x", "y"), {}, "no int8 kernel for Sin"),
        (("Softmax", "x", "y"), {}, "finer steps"),
    ],
)
def test_reasons(bench, node, constants, reason):
    plan = plan_of(bench.prepared(node, constants=constants, x=("N", 8)))
    ((_, decision),) = plan.nodes.items()
    assert decision.kernel == "float"
    assert reason in decision.reason


def test_products_of_activations_only_where_asked_for(bench):
    nodes = ("Transpose", "x", "t", {"perm": [0, 2, 1]}), ("MatMul", "x t", "y")
    model = bench.prepared(*nodes, x=("N", 4, 8))
    assert kernels(plan_of(model))["MatMul_y"] == "float"
    asked = choose(model.graph, cpu.TARGET_WITH_ATTENTION, name="attention")
    assert kernels(asked)["MatMul_y"] == "int8"


def test_what_the_caller_excludes_stays_float_with_his_reason(bench):
    model = bench.prepared(("Conv", "x w", "a"), ("Conv", "a v", "y"), constants=W)
    plan = plan_of(model, excluded={"Conv_a": "too sensitive"})
    assert plan.nodes["Conv_a"].reason == "too sensitive"
    assert plan.observed == ("a", "y")


def test_without_a_role(bench):
    nodes = ("Conv", "x w", "a"), ("Conv", "x v", "b"), ("Add", "a b", "c"), ("Conv", "c w", "y")
    plan = plan_of(bench.prepared(*nodes, constants=W), without={Role.ELEMENTWISE})
    assert kernels(plan)["Add_c"] == "float"


def test_control_flow_stays_float(bench):
    then = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["t"])],
        "then",
        [],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)],
    )
    otherwise = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["e"])],
        "else",
        [],
        [helper.make_tensor_value_info("e", TensorProto.FLOAT, None)],
    )
    branch = ("If", "positive", "y", {"then_branch": then, "else_branch": otherwise})
    nodes = ("ReduceMax", "x", "m", {"keepdims": 0}), ("Greater", "m zero", "positive"), branch
    model = bench.prepared(*nodes, constants={"zero": np.float32(0)})
    plan = plan_of(model)
    assert "control flow" in plan.nodes["If_y"].reason


def test_a_graph_of_int8_around_control_flow_still_runs(bench, rng):
    """A subgraph that reads an int8 tensor of the graph around it."""
    value = helper.make_tensor_value_info
    then = helper.make_graph([helper.make_node("Neg", ["a"], ["t"])], "then", [], [value("t", TensorProto.FLOAT, None)])
    otherwise = helper.make_graph(
        [helper.make_node("Abs", ["a"], ["e"])], "else", [], [value("e", TensorProto.FLOAT, None)]
    )
    nodes = (
        ("Conv", "x w", "a"),
        ("ReduceMax", "x", "m", {"keepdims": 0}),
        ("Greater", "m zero", "positive"),
        ("If", "positive", "y", {"then_branch": then, "else_branch": otherwise}),
    )
    model = lower(bench.prepared(*nodes, constants={"w": W["w"], "zero": np.float32(0)}))
    x = rng.random((2, 3, 8, 8), np.float32)
    quantized = bench.quantize(model, plan_of(model), x)
    assert bench.run(quantized, x)[0] == pytest.approx(bench.run(model, x)[0], abs=0.05)


def test_candidates_are_distinct_and_begin_with_the_stem_in_float(bench, rng):
    constants = {"w": rng.random((8, 3, 3, 3), np.float32), "v": rng.random((8, 8, 3, 3), np.float32)}
    nodes = ("Conv", "x w", "a"), ("Relu", "a", "b"), ("Conv", "b v", "y")
    plans = cpu.candidates(bench.prepared(*nodes, constants=constants).graph)
    assert list(plans) == ["float-stem", "full", "float-ends"]
    assert {name: kernels(plan)["Conv_a"] for name, plan in plans.items()} == {
        "float-stem": "float",
        "full": "int8",
        "float-ends": "float",
    }


def test_a_product_that_may_write_float_is_not_rounded_for_a_relu_that_cannot_fold(bench, rng):
    constants = {"g": rng.random((8, 8), np.float32), "h": rng.random((8, 4), np.float32)}
    nodes = ("Gemm", "x g", "a"), ("Relu", "a", "b"), ("Gemm", "b h", "y")
    model = bench.prepared(*nodes, x=("N", 8), constants=constants, outputs=("a", "y"))
    assert plan_of(model, modes={Mode.STATIC}).observed == ("x", "b")
