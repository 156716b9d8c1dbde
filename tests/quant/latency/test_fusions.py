"""Graphs whose fusion by ONNX Runtime is known, traced back; the optimized graphs are its own."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quant.graph import to_bytes
from quant.latency.fusions import origins
from quant.place import cpu
from quant.runtime import open_session


def graph(*nodes, x=("N", 8, 12, 12), constants=None, outputs=("y",), named=True):
    """An ONNX model from (op, reads, writes, attributes); nodes are named after what they write, or not at all."""
    made = [
        helper.make_node(op, reads.split(), writes.split(), name=f"{op}/{writes}" if named else "", **attributes)
        for op, reads, writes, attributes in ((*node, {})[:4] for node in nodes)
    ]
    body = helper.make_graph(
        made,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()],
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def traced(model, folder, macs=None):
    """What ONNX Runtime makes of a model, as (operator, operators covered, operator stood for, overhead, found)."""
    path = folder / "optimized.onnx"
    open_session(model.SerializeToString(), optimized_path=path)
    optimized = onnx.load(path).graph
    nodes = model.graph.node
    found = origins(model.graph, optimized, macs)
    return [
        (
            node.op_type,
            [nodes[n].op_type for n in origin.covered],
            nodes[origin.node].output[0] if origin.node is not None else None,
            origin.overhead,
            origin.found,
        )
        for node, origin in zip(optimized.node, found, strict=True)
    ]


def weights(rng, *shape):
    return (rng.standard_normal(shape) / 8).astype(np.float32)


@pytest.fixture
def norm(rng):
    return {name: np.abs(weights(rng, 8)) + 1 for name in ("gain", "shift", "mean", "var")}


@pytest.mark.parametrize("named", [True, False])
def test_convolution_norm_and_relu_are_one(rng, norm, tmp_path, named):
    model = graph(
        ("Conv", "x w", "a", {"pads": [1, 1, 1, 1]}),
        ("BatchNormalization", "a gain shift mean var", "b"),
        ("Relu", "b", "y"),
        constants={"w": weights(rng, 8, 8, 3, 3), **norm},
        named=named,
    )
    rows = traced(model, tmp_path, {"a": 100})
    assert [(row[1], row[2]) for row in rows if row[1]] == [(["Conv", "BatchNormalization", "Relu"], "a")]
    assert all(row[2] == "a" and row[4] for row in rows)
    assert all(row[3] for row in rows if row[0].startswith("Reorder"))


@pytest.mark.parametrize("named", [True, False])
def test_a_residual_sum_goes_into_the_convolution(rng, tmp_path, named):
    pads = {"pads": [1, 1, 1, 1]}
    model = graph(
        ("Conv", "x u", "a", pads),
        ("Relu", "a", "b"),
        ("Conv", "b v", "c", pads),
        ("Add", "c b", "d"),
        ("Relu", "d", "y"),
        constants={"u": weights(rng, 8, 8, 3, 3), "v": weights(rng, 8, 8, 3, 3)},
        named=named,
    )
    rows = traced(model, tmp_path, {"a": 9, "c": 9})
    covered = {row[2]: row[1] for row in rows if row[1]}
    assert sorted(op for ops in covered.values() for op in ops) == ["Add", "Conv", "Conv", "Relu", "Relu"]
    assert covered["a"] == ["Conv", "Relu"]
    assert covered["c"][0] == "Conv"
    assert all(row[4] for row in rows)


def test_gemm_takes_the_relu_behind_it(rng, tmp_path):
    model = graph(
        ("Gemm", "x w c", "a"),
        ("Relu", "a", "b"),
        ("Gemm", "b v", "y"),
        x=(2, 16),
        constants={"w": weights(rng, 16, 16), "c": weights(rng, 16), "v": weights(rng, 16, 4)},
    )
    assert [row[:3] for row in traced(model, tmp_path, {"a": 512, "y": 128})] == [
        ("FusedGemm", ["Gemm", "Relu"], "a"),
        ("Gemm", ["Gemm"], "y"),
    ]


def test_a_layer_norm_spelled_out_is_one_node(rng, tmp_path):
    model = graph(
        ("ReduceMean", "x axis", "m", {"keepdims": 1}),
        ("Sub", "x m", "d"),
        ("Pow", "d two", "q"),
        ("ReduceMean", "q axis", "v", {"keepdims": 1}),
        ("Add", "v eps", "e"),
        ("Sqrt", "e", "r"),
        ("Div", "d r", "n"),
        ("Mul", "n gain", "g"),
        ("Add", "g shift", "h"),
        ("Erf", "h", "y"),
        x=(2, 5, 16),
        constants={
            "axis": np.int64([-1]),
            "two": np.float32(2),
            "eps": np.float32(1e-5),
            "gain": weights(rng, 16),
            "shift": weights(rng, 16),
        },
    )
    rows = traced(model, tmp_path)
    assert [row[0] for row in rows] == ["LayerNormalization", "Erf"]
    assert len(rows[0][1]) == 9
    assert rows[1][1:3] == (["Erf"], "y")


def test_a_product_takes_its_bias_even_where_it_must_be_reshaped(rng, tmp_path):
    model = graph(
        ("MatMul", "x w", "a"),
        ("Add", "a c", "b"),
        ("Gelu", "b", "y"),
        x=(2, 5, 16),
        constants={"w": weights(rng, 16, 16), "c": weights(rng, 16)},
    )
    rows = traced(model, tmp_path, {"a": 5})
    assert [row[:3] for row in rows if row[1]] == [("Gemm", ["MatMul", "Add"], "a"), ("Gelu", ["Gelu"], "y")]
    # The product of three axes is one of two: what reshapes for it and back is its overhead.
    assert [row[:4] for row in rows if not row[1]] == [("Reshape", [], "a", True)] * 2


def test_a_bias_that_no_product_takes_goes_to_the_gelu(rng, tmp_path):
    model = graph(
        ("MatMul", "x w", "a"),
        ("Add", "a c", "b"),
        ("Gelu", "b", "y"),
        x=("N", "T", 16),
        constants={"w": weights(rng, 16, 16), "c": weights(rng, 16)},
    )
    assert [row[:3] for row in traced(model, tmp_path, {"a": 5})] == [
        ("MatMul", ["MatMul"], "a"),
        ("BiasGelu", ["Add", "Gelu"], "y"),
    ]


def test_attention_keeps_its_two_products_apart(rng, tmp_path):
    model = graph(
        ("MatMul", "x wq", "q"),
        ("MatMul", "x wk", "k"),
        ("Transpose", "k", "t", {"perm": [0, 2, 1]}),
        ("MatMul", "q t", "s"),
        ("Mul", "s scale", "z"),
        ("Softmax", "z", "p", {"axis": -1}),
        ("MatMul", "p x", "y"),
        x=(2, 5, 16),
        constants={"wq": weights(rng, 16, 16), "wk": weights(rng, 16, 16), "scale": np.float32(0.25)},
    )
    rows = traced(model, tmp_path, dict.fromkeys("qksy", 5))
    fused = next(row for row in rows if row[0] == "FusedMatMul")
    assert sorted(fused[1]) == ["MatMul", "Mul", "Transpose"]
    assert fused[2] == "s"
    assert sorted(row[2] for row in rows) == ["k", "p", "q", "s", "y"]


def test_layouts_serve_their_convolutions(rng, tmp_path):
    """Channels in blocks: what brings them into blocks serves the reader, what brings them back the writer."""
    model = graph(
        ("Sigmoid", "x", "a"),
        ("Conv", "a w", "b", {"pads": [1, 1, 1, 1]}),
        ("Softmax", "b", "y", {"axis": 1}),
        x=(1, 32, 12, 12),
        constants={"w": weights(rng, 32, 32, 3, 3)},
    )
    rows = traced(model, tmp_path)
    served = {row[0]: row[2] for row in rows if row[3]}
    assert set(served.values()) <= {"b"}
    assert {row[2] for row in rows if not row[3]} == {"a", "b", "y"}


def test_integers(bench, rng, tmp_path):
    """A quantized model: each convolution holds its Q/DQ, what converts serves it, and nothing is left over."""
    constants = {name: weights(rng, 8, 8, 3, 3) for name in "uvw"}
    nodes = [("Conv", "x u", "a"), ("Relu", "a", "b"), ("Conv", "b v", "c"), ("Relu", "c", "d"), ("Conv", "d w", "y")]
    float_model = bench.prepared(*nodes, x=("N", 8, 12, 12), constants=constants)
    x = rng.standard_normal((2, 8, 12, 12)).astype(np.float32)
    quantized = bench.quantize(float_model, cpu.candidates(float_model.graph)["full"], x)
    model = onnx.ModelProto.FromString(to_bytes(quantized))
    macs = {output: 7 for node in model.graph.node for output in node.output if node.op_type == "Conv"}
    rows = traced(model, tmp_path, macs)
    products = [row for row in rows if row[0] == "QLinearConv"]
    assert len(products) == 3
    assert all("Conv" in row[1] for row in products)
    assert sum(row[1].count("Relu") for row in products) == 2
    assert all(row[4] for row in rows)
    assert all(row[3] for row in rows if row[0] in {"QuantizeLinear", "DequantizeLinear", "Transpose"})
    convolutions = {row[2] for row in products}
    assert {row[2] for row in rows} == convolutions


def test_every_node_is_covered_once(rng, tmp_path):
    model = graph(
        ("Conv", "x w", "a"),
        ("Relu", "a", "b"),
        ("MaxPool", "b", "c", {"kernel_shape": [2, 2]}),
        ("Flatten", "c", "d"),
        ("Identity", "d", "e"),
        ("Gemm", "e v", "y"),
        x=(1, 8, 12, 12),
        constants={"w": weights(rng, 16, 8, 3, 3), "v": weights(rng, 16 * 9 * 9, 3)},
    )
    covered = [op for row in traced(model, tmp_path) for op in row[1]]
    assert sorted(covered) == ["Conv", "Flatten", "Gemm", "Identity", "MaxPool", "Relu"]


def test_a_node_that_nothing_tells_of_is_its_neighbours_and_said_to_be(rng):
    original = graph(("Relu", "x", "a"), ("Neg", "a", "y"), x=(2, 3)).graph
    optimized = graph(("Relu", "x", "new_1"), ("Strange", "new_1", "new_2"), ("Neg", "new_2", "y"), x=(2, 3)).graph
    optimized.node[0].output[0] = optimized.node[1].input[0] = "a"
    found = origins(original, optimized)
    assert [(origin.node, origin.found) for origin in found] == [(0, True), (1, False), (1, True)]
    assert not found[1].overhead
