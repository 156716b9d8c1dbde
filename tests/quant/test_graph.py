"""The clean-up of ONNX graphs from anywhere."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from profiler.errors import ModelError
from quant.graph import prepare, to_bytes, weight_bytes


def ops(model):
    return [node.op_type for node in model.graph]


def test_batch_norms_and_paddings_fold_into_convolutions(bench, build, rng):
    constants = {
        "w": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "pads": np.int64([0, 0, 1, 1, 0, 0, 1, 1]),
        **{name: rng.uniform(0.5, 2, 4).astype(np.float32) for name in ("gain", "shift", "mean", "variance")},
    }
    nodes = ("Pad", "x pads", "a"), ("Conv", "a w", "b"), ("BatchNormalization", "b gain shift mean variance", "y")
    model = build(*nodes, constants=constants)
    prepared = prepare(model)
    assert ops(prepared) == ["Conv"]
    x = rng.standard_normal((2, 3, 8, 8)).astype(np.float32)
    assert bench.run(prepared, x)[0] == pytest.approx(bench.run(model, x)[0], rel=1e-4, abs=1e-5)
    assert len(model.graph) == 3


def test_constants_are_folded_and_identities_removed(build):
    nodes = ("Constant", "", "c", {"value_float": 2.0}), ("Sqrt", "c", "s"), ("Identity", "x", "i"), ("Mul", "i s", "y")
    assert ops(prepare(build(*nodes))) == ["Mul"]


def test_a_small_file_cannot_ask_for_a_huge_constant(build):
    shape = np.int64([2**34])
    model = build(
        ("ConstantOfShape", "shape", "c"), ("ReduceMax", "c", "m"), ("Add", "x m", "y"), constants={"shape": shape}
    )
    assert "ConstantOfShape" in ops(prepare(model))


def test_old_opsets_are_converted(bench, build, rng):
    constants = {"w": rng.standard_normal((4, 3, 1, 1)).astype(np.float32)}
    nodes = ("Conv", "x w", "a"), ("Squeeze", "a", "y", {"axes": [3]})
    model = build(*nodes, constants=constants, x=("N", 3, 8, 1), opset=9)
    prepared = prepare(model)
    assert prepared.opset_imports[""] >= 13
    x = rng.standard_normal((2, 3, 8, 1)).astype(np.float32)
    assert bench.run(prepared, x)[0] == pytest.approx(bench.run(model, x)[0], rel=1e-5)


def test_an_opset_that_onnx_cannot_convert(build, monkeypatch):
    def convert_version(model, version):
        raise RuntimeError("no adapter for Upsample\nat converter.h")

    monkeypatch.setattr("onnx.version_converter.convert_version", convert_version)
    with pytest.raises(ModelError, match=r"opset 9, int8 needs 13.* no adapter for Upsample\nExport it again"):
        prepare(build(("Relu", "x", "y"), opset=9))


@pytest.mark.parametrize(
    "nodes",
    [
        [("QuantizeLinear", "x scale", "q"), ("DequantizeLinear", "q scale", "y")],
        [("DynamicQuantizeLinear", "x", "q s z"), ("DequantizeLinear", "q s z", "y")],
    ],
)
def test_quantized_models_are_refused(build, nodes):
    with pytest.raises(ModelError, match="already quantized"):
        prepare(build(*nodes, constants={"scale": np.float32(0.1)}))


@pytest.mark.parametrize(("kind", "name"), [(TensorProto.FLOAT16, "float16"), (TensorProto.DOUBLE, "double")])
def test_models_in_other_types_are_refused(build, kind, name):
    with pytest.raises(ModelError, match=name):
        prepare(build(("Relu", "x", "y"), kind=kind))


def test_names_become_unique(build):
    model = build(("Relu", "x", "a"), ("Neg", "a", "y"))
    for node in model.graph:
        node.name = "same"
    assert len({node.name for node in prepare(model).graph}) == 2


def test_weights_listed_as_inputs_are_constants():
    """As files of the first ONNX versions have it."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "b"], ["y"])],
        "old",
        [value("x", TensorProto.FLOAT, ("N", 2)), value("b", TensorProto.FLOAT, (2,))],
        [value("y", TensorProto.FLOAT, None)],
        [helper.make_tensor("b", TensorProto.FLOAT, (2,), [1.0, 2.0])],
    )
    old = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=3)
    assert [value.name for value in prepare(ir.serde.deserialize_model(old)).graph.inputs] == ["x"]


def test_bytes_of_weights(build):
    constants = {"w": np.zeros((4, 3, 1, 1), np.float32), "b": np.zeros(4, np.float32)}
    assert weight_bytes(build(("Conv", "x w b", "y"), constants=constants)) == 64


def test_a_model_too_large_for_one_file(build, monkeypatch):
    model = build(("Relu", "x", "y"))
    monkeypatch.setattr("quant.graph.weight_bytes", lambda _: 2**31)
    with pytest.raises(ModelError, match="2 GiB"):
        to_bytes(model)


def branch(name):
    """The layer of `test_layers_inside_an_if_are_named`, as a graph."""
    constant = helper.make_node("Constant", [], ["w"], value_floats=[1.0] * 64)
    shape = helper.make_node("Constant", [], ["s"], value_ints=[8, 8])
    nodes = [
        constant,
        shape,
        helper.make_node("Reshape", ["w", "s"], ["m"]),
        helper.make_node("MatMul", ["x", "m"], ["z"]),
    ]
    return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)])


@pytest.mark.parametrize("known", [False, True])
def test_layers_inside_an_if_are_named(build, known):
    """A branch that is known to be taken is part of the graph; nothing can be done about the others."""
    condition = ("ReduceMax", "x", "m", {"keepdims": 0}), ("Cast", "m", "c", {"to": TensorProto.BOOL})
    given = {"constants": {"c": np.array(True)}} if known else {}
    nodes = (*(() if known else condition), ("If", "c", "y", {"then_branch": branch("a"), "else_branch": branch("b")}))
    model = build(*nodes, **given)
    if known:
        assert "MatMul" in ops(prepare(model))
        return
    with pytest.raises(ModelError, match=r"inside node 'If_y' \(If\)"):
        prepare(model)


def test_inputs_that_cannot_be_stacked_are_named(build):
    with pytest.raises(ModelError, match="input 'x' is a single number"):
        prepare(build(("Relu", "x", "y"), x=()))


def test_damaged_attributes_are_an_error_and_no_traceback(build, caplog):
    model = build(("Gemm", "x w", "y", {"transB": 1}), constants={"w": np.ones((4, 4), np.float32)}, x=("N", 4))
    node = model.graph.node(0)
    node.attributes["transB"] = ir.Attr("transB", ir.AttributeType.UNDEFINED, None)
    with pytest.raises(ModelError, match="the graph"):
        to_bytes(prepare(model))
    assert not caplog.records
