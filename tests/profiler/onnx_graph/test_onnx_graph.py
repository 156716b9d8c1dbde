"""Reading a graph: inputs and dimensions, names, parameters, memory, functions, and graphs that are damaged."""

import contextlib
import time
import tracemalloc

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from profiler.errors import ModelError, NetgaugeError, UsageError
from profiler.onnx_graph import analyze_onnx

node = helper.make_node


def dense(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def convolution(graphs, size=("batch", 3, "height", 8)):
    arrays = {"w": dense(4, 3, 3, 3), "b": dense(4)}
    return graphs.model([node("Conv", ["x", "w", "b"], ["y"], name="first")], [("x", size)], ["y"], arrays)


# Inputs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", [[(2, 3, 9, 8)], {"x": (2, 3, 9, 8)}, [dense(2, 3, 9, 8)]])
def test_inputs_by_position_by_name_and_as_arrays(graphs, inputs):
    profile = analyze_onnx(convolution(graphs), inputs)
    assert profile.inputs == ((2, 3, 9, 8),)
    assert profile.totals.macs == 2 * 4 * 3 * 9 * 7 * 6


def test_torch_tensors_are_inputs_too(graphs):
    import torch

    assert analyze_onnx(convolution(graphs), [torch.empty(2, 3, 9, 8, device="meta")]).totals.macs == 9072


def test_dimensions_by_name(graphs):
    assert analyze_onnx(convolution(graphs), dims={"batch": 2, "height": 9}).inputs == ((2, 3, 9, 8),)
    nameless = convolution(graphs, (None, 3, 9, 8))
    assert analyze_onnx(nameless, dims={"x[0]": 2}).inputs == ((2, 3, 9, 8),)


def test_a_size_given_for_one_input_settles_the_names_in_another(graphs):
    model = graphs.model([node("Add", ["x", "z"], ["y"])], [("x", ("n", 4)), ("z", ("n", 4))], ["y"])
    assert analyze_onnx(model, {"z": (5, 4)}).inputs == ((5, 4), (5, 4))


WRONG = [
    (ModelError, (), None, r"axis 0 of input 'x' has no fixed size; pass --dim batch=N"),
    (UsageError, (), {"batch": 1, "width": 3}, r"--dim width: .* there is batch, height"),
    (UsageError, [(1, 3, 9)], None, r"'x' has 4 axes in the graph, \(1, 3, 9\) was given"),
    (UsageError, [(1, 4, 9, 8)], None, r"'x' has size 3 on axis 1 in the graph, got 4"),
    (UsageError, [(1, 3, 9, 8)] * 2, None, r"2 inputs were given, the graph has 1: x"),
    (UsageError, {"image": (1, 3, 9, 8)}, None, r"no input 'image'; it has x"),
    (UsageError, [(1, 3, 9, 8)], {"batch": 2}, r"'batch' stands for 2"),
    (UsageError, ["large"], None, r"'large' is neither a size"),
    (UsageError, [(1, 3, -9, 8)], None, r"cannot have the size"),
    (ModelError, [(1, 3, 2, 8)], None, r"node 'first' \(Conv\): its window does not fit into spatial axis 0 of size 2"),
]


@pytest.mark.parametrize(("kind", "inputs", "dims", "message"), WRONG)
def test_what_is_wrong_with_the_inputs_is_said(graphs, kind, inputs, dims, message):
    with pytest.raises(kind, match=message):
        analyze_onnx(convolution(graphs), inputs, dims=dims)


def test_an_input_without_a_size(graphs):
    with pytest.raises(ModelError, match="'x' has no size in the graph; pass it, such as --input"):
        analyze_onnx(convolution(graphs, None))


# Damage ---------------------------------------------------------------------------------------------------------------


def damaged(graphs, *nodes, outputs=("y",), arrays=(), opset=20):
    return graphs.model(list(nodes), [("x", (2, 4))], list(outputs), arrays, opset)


DAMAGE = {
    "missing input": (
        [node("Relu", ["z"], ["y"], name="a")],
        "node 'a' .Relu. reads 'z', which no node makes",
    ),
    "cycle": (
        [node("Add", ["x", "z"], ["y"], name="a"), node("Relu", ["y"], ["z"], name="b")],
        "node 'a' .Add. waits for its own result: the graph has a cycle",
    ),
    "made twice": ([node("Relu", ["x"], ["y"]), node("Neg", ["x"], ["y"])], "makes 'y', which is there already"),
    "no output": ([node("Relu", ["x"], ["z"])], "gives 'y', which no node makes"),
    "sizes": (
        [node("MatMul", ["x", "x"], ["y"], name="product")],
        r"node 'product' \(MatMul\): its inputs do not fit the operator: .*matrix multiplication",
    ),
    "too many inputs": ([node("Relu", ["x", "x"], ["y"], name="a")], "node 'a' .Relu."),
    "axis": ([node("Concat", ["x", "x"], ["y"], name="a", axis=7)], "node 'a' .Concat."),
    "attribute missing": ([node("MaxPool", ["x"], ["y"], name="a")], "node 'a' .MaxPool."),
    "attribute of another type": ([node("Transpose", ["x"], ["y"], name="a", perm="no")], "node 'a' .Transpose."),
    "reshape": ([node("Reshape", ["x", "s"], ["y"], name="a")], r"size \(2, 4\) cannot become \(3, 3\)"),
    "no branch": ([node("If", ["c"], ["y"], name="a")], "node 'a' .If.: has no graph 'then_branch'"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_graphs_are_errors_that_name_the_node(graphs, name):
    nodes, message = DAMAGE[name]
    arrays = {"s": np.array([3, 3]), "c": np.array(True)}  # a truth value
    with pytest.raises(ModelError, match=message):
        analyze_onnx(damaged(graphs, *nodes, arrays=arrays))


def test_a_model_without_a_graph():
    with pytest.raises(ModelError, match="holds no graph"):
        analyze_onnx(onnx.ModelProto())


def test_a_model_that_names_no_opset(graphs):
    model = damaged(graphs, node("Relu", ["x"], ["y"]))
    del model.opset_import[:]
    with pytest.raises(ModelError, match="which opset"):
        analyze_onnx(model)


def test_contents_that_do_not_fit_the_size(graphs):
    model = damaged(graphs, node("Reshape", ["x", "s"], ["y"]), arrays={"s": np.array([4, 2])})
    model.graph.initializer[0].dims[0] = 3
    with pytest.raises(ModelError, match="'s': its contents do not fit its size"):
        analyze_onnx(model)


def test_huge_sizes_cost_nothing(graphs):
    """A graph of a few bytes that asks for a terabyte of ones, and for as many steps."""
    nodes = [
        node("ConstantOfShape", ["s"], ["z"]),
        node("Expand", ["z", "s"], ["e"]),
        node("Range", ["zero", "far", "one"], ["r"]),
        node("Tile", ["x", "t"], ["y"]),
    ]
    arrays = {
        "s": np.array([1 << 20, 1 << 20]), "t": np.array([1 << 20, 1 << 20]),
        "zero": np.array(0), "one": np.array(1), "far": np.array(1 << 40),
    }  # fmt: skip
    model = damaged(graphs, *nodes, arrays=arrays)
    tracemalloc.start()
    values = graphs.values(model)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert values["e"].shape == (1 << 20, 1 << 20)
    assert values["r"].shape == (1 << 40,)
    assert peak < 1 << 24


@settings(max_examples=150)
@given(st.binary(min_size=1, max_size=8), st.integers(0, 10**6))
def test_damaged_bytes_never_end_in_a_traceback(graphs, noise, place):
    nodes = [node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]), node("Reshape", ["c", "s"], ["y"])]
    arrays = {"w": dense(2, 2, 3, 3), "s": np.array([1, -1])}
    data = bytearray(graphs.model(nodes, [("x", (1, 2, 5, 5))], ["y"], arrays).SerializeToString())
    place %= len(data)
    data[place : place + len(noise)] = noise
    try:
        model = onnx.ModelProto.FromString(bytes(data))
    except Exception:  # noqa: BLE001  # protobuf refuses it: nothing to profile
        return
    with contextlib.suppress(NetgaugeError):
        analyze_onnx(model)


# Stored tensors -------------------------------------------------------------------------------------------------------


def test_tensors_outside_the_file_are_sizes(graphs):
    model = convolution(graphs, (1, 3, 9, 8))
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.dims[0] = 1 << 20
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="/nowhere/at/all")
    del model.graph.node[0].input[2]
    profile = analyze_onnx(model)
    assert profile.totals.params == (1 << 20) * 27
    assert profile.totals.param_bytes == (1 << 20) * 27 * 4
    assert profile.totals.macs == (1 << 20) * 27 * 42


def test_what_is_a_parameter(graphs):
    nodes = [
        node("BatchNormalization", ["x", "scale", "shift", "mean", "var"], ["n"], name="norm"),
        node("Mul", ["n", "two"], ["m"], name="double"),
        node("Add", ["m", "places"], ["a"], name="places"),
        node("Clip", ["a", "low", "high"], ["c"], name="clip"),
        node("PRelu", ["c", "slope"], ["p"], name="slope"),
        node("Identity", ["w"], ["v"]),
        node("Transpose", ["v"], ["t"], perm=[1, 0]),
        node("MatMul", ["p", "t"], ["f"], name="first"),
        node("MatMul", ["f", "w"], ["y"], name="second"),
    ]
    arrays = {
        **{name: dense(4) for name in ("scale", "shift", "mean")}, "var": np.ones(4, np.float32),
        "two": np.float32(2), "places": dense(3, 4), "low": np.float32(0), "high": np.float32(6),
        "slope": dense(1), "w": dense(5, 4),
    }  # fmt: skip
    profile = analyze_onnx(graphs.model(nodes, [("x", (3, 4))], ["y"], arrays))
    params = {layer.name: layer.params for layer in profile.layers}
    assert params == {"norm": 8, "double": 0, "places": 12, "clip": 0, "slope": 1, "first": 20, "second": 0}
    assert profile.totals.params == 41


def test_embeddings_have_a_row_although_they_are_free(graphs):
    model = graphs.model(
        [node("Gather", ["table", "x"], ["y"], name="words")], [("x", (2, 7), TensorProto.INT64)], ["y"],
        {"table": dense(100, 16)},
    )  # fmt: skip
    (row,) = analyze_onnx(model).layers
    assert (row.status, row.params, row.output_shapes) == ("free", 1600, ((2, 7, 16),))
    assert row.receptive_field.status == "exact"


# Rows, names and sums -------------------------------------------------------------------------------------------------


def test_rows_sum_up_to_the_totals_and_to_the_tree(graphs):
    nodes = [
        node("Conv", ["x", "w"], ["a"], name="/body/body.0/conv/Conv", pads=[1, 1, 1, 1]),
        node("Relu", ["a"], ["b"], name="/body/body.0/act/Relu"),
        node("Conv", ["b", "v"], ["c"], name="/body/body.1/Conv"),
        node("GlobalAveragePool", ["c"], ["y"], name="/GlobalAveragePool"),
    ]
    model = graphs.model(nodes, [("x", (1, 3, 8, 8))], ["y"], {"w": dense(4, 3, 3, 3), "v": dense(2, 4, 3, 3)})
    profile = analyze_onnx(model)
    assert [layer.name for layer in profile.layers] == ["body.0.conv", "body.0.act", "body.1", ""]
    assert [m.name for m in profile.modules.walk()] == [
        "", "body", "body.0", "body.0.conv", "body.0.act", "body.1",
    ]  # fmt: skip
    assert profile.modules.macs == profile.totals.macs == 4 * 27 * 64 + 2 * 36 * 36
    sums = {m.name: m for m in profile.modules.walk()}
    assert sums["body.0"].flops == 2 * 4 * 27 * 64 + 4 * 64
    assert sums["body"].params == profile.totals.params == 4 * 27 + 2 * 36
    for name in ("macs", "flops", "read_bytes", "write_bytes"):
        assert sum(getattr(layer, name) for layer in profile.layers) == getattr(profile.totals, name)
    assert profile.to_dict()["layers"][0]["name"] == "body.0.conv"
    assert profile.subject is None


def test_names_of_other_exporters_are_kept(graphs):
    nodes = [node("Relu", ["x"], ["a"], name="tower/block/relu"), node("Neg", ["a"], ["b"]), node("Neg", ["b"], ["y"])]
    profile = analyze_onnx(damaged(graphs, *nodes))
    assert [(layer.name, layer.type) for layer in profile.layers] == [
        ("tower/block/relu", "Relu"), ("Neg_0", "Neg"), ("Neg_1", "Neg"),
    ]  # fmt: skip
    assert [m.name for m in profile.modules.walk()][1:4] == ["tower", "tower/block", "tower/block/relu"]


def test_metadata_of_torchs_exporter_names_module_class_and_call(graphs):
    relu = node("Relu", ["x"], ["y"], name="node_relu")
    relu.metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['', 'block', 'block.act@1', 'relu']")
    relu.metadata_props.add(
        key="pkg.torch.onnx.class_hierarchy", value="['nets.Net', 'nets.Block', 'torch.nn.ReLU', 'aten.relu']"
    )
    profile = analyze_onnx(damaged(graphs, relu))
    row = profile.layers[0]
    assert (row.name, row.type, row.call) == ("block.act", "ReLU", 1)
    assert [(m.name, m.type) for m in profile.modules.walk()] == [
        ("", "Net"),
        ("block", "Block"),
        ("block.act", "ReLU"),
    ]
    relu.metadata_props[0].value = "__import__('os')"
    assert analyze_onnx(damaged(graphs, relu)).layers[0].name == "node_relu"


def test_integer_work_and_data_movement_are_free(graphs):
    nodes = [node("Cast", ["x"], ["i"], to=TensorProto.INT64), node("Add", ["i", "i"], ["y"])]
    profile = analyze_onnx(damaged(graphs, *nodes))
    assert profile.layers == ()
    assert profile.free == {"Cast": 1, "Add": 1}


# Memory ---------------------------------------------------------------------------------------------------------------


def test_a_value_lives_until_its_last_reader(graphs):
    nodes = [
        node("Relu", ["x"], ["a"]),
        node("Neg", ["a"], ["b"]),
        node("Concat", ["b", "b", "b"], ["c"], axis=0),
        node("Reshape", ["c", "s"], ["d"]),
        node("Add", ["d", "d"], ["e"]),
        node("ReduceSum", ["e"], ["y"]),
    ]
    profile = analyze_onnx(graphs.model(nodes, [("x", (10, 10))], ["y"], {"s": np.array([300])}))
    x, wide = 400, 1200
    # Most is alive while the sum of two is made: the input, the reshaped tensor that shares its bytes, and the sum.
    assert profile.totals.peak_bytes == x + wide + wide
    assert profile.totals.activation_bytes == x + x + x + wide + wide + 4


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_peak_against_a_replay(graphs, picks):
    """Nodes that add two earlier values, the result of each kept until it is not read any more."""
    names, nodes = ["x"], []
    for n, (a, b) in enumerate(picks):
        nodes.append(node("Add", [names[a % len(names)], names[b % len(names)]], [f"v{n}"]))
        names.append(f"v{n}")
    profile = analyze_onnx(graphs.model(nodes, [("x", (25,))], [names[-1]]))
    live = peak = 1
    for n, made in enumerate(nodes):
        live += 1
        peak = max(peak, live)
        later = {name for other in nodes[n + 1 :] for name in other.input} | {names[-1], "x"}
        live -= len({name for name in (*made.input, *made.output) if name not in later})
    assert profile.totals.peak_bytes == 100 * peak
    assert profile.totals.activation_bytes == 100 * (len(picks) + 1)


# Functions ------------------------------------------------------------------------------------------------------------


def test_functions_are_gone_through_with_their_attributes(graphs):
    body = [
        node("MatMul", ["a", "w"], ["p"], name="product"),
        helper.make_node("LeakyRelu", ["p"], ["r"], name="act"),
    ]
    body[1].attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT))
    function = helper.make_function(
        "own", "Layer", ["a", "w", "unused"], ["r"], body, [helper.make_opsetid("", 20)], ["slope"]
    )
    nodes = [
        node("Layer", ["x", "w"], ["h"], name="one", domain="own", slope=0.5),
        node("Layer", ["h", "v"], ["y"], name="two", domain="own", slope=0.5),
    ]
    model = graphs.model(
        nodes, [("x", (2, 4))], ["y"], {"w": dense(4, 8), "v": dense(8, 3)}, functions=[function], domains=["own"]
    )
    assert graphs.run(model, {"x": dense(2, 4)})[0].shape == (2, 3)
    profile = analyze_onnx(model)
    assert [(r.name, r.macs, r.params) for r in profile.layers] == [
        ("one/product", 64, 32), ("one/act", 0, 0), ("two/product", 48, 24), ("two/act", 0, 0),
    ]  # fmt: skip
    assert profile.modules.children[0].macs == 64


def test_a_function_that_calls_itself(graphs):
    function = helper.make_function(
        "own", "F", ["a"], ["b"], [node("F", ["a"], ["b"], domain="own")], [helper.make_opsetid("own", 1)]
    )
    model = graphs.model(
        [node("F", ["x"], ["y"], domain="own")], [("x", (2,))], ["y"], functions=[function], domains=["own"]
    )
    with pytest.raises(ModelError, match="nested too deeply"):
        analyze_onnx(model)


def test_functions_that_multiply_without_end(graphs, monkeypatch):
    """Each of 40 functions calls the next one twice."""
    monkeypatch.setattr("profiler.onnx_graph.walk.MOST_NODES", 5000)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    functions = [
        helper.make_function(
            "own", f"F{n}", ["a"], ["c"],
            [node(f"F{n + 1}", ["a"], ["b"], domain="own"), node(f"F{n + 1}", ["b"], ["c"], domain="own")], opsets,
        )
        for n in range(40)
    ]  # fmt: skip
    functions.append(helper.make_function("own", "F40", ["a"], ["c"], [node("Relu", ["a"], ["c"])], opsets))
    model = graphs.model(
        [node("F0", ["x"], ["y"], domain="own")], [("x", (2,))], ["y"], functions=functions, domains=["own"]
    )
    with pytest.raises(ModelError, match="more than 5,000 nodes"):
        analyze_onnx(model)


@pytest.mark.parametrize(("op", "inputs", "opset"), [("SwiGLU", 2, 28), ("HannWindow", 0, 20)])
def test_operators_without_a_formula_are_counted_by_their_definition(graphs, op, inputs, opset):
    names = [f"x{n}" for n in range(inputs)] or ["size"]
    model = graphs.model(
        [node(op, names, ["y"], name="n")], [(name, (2, 6)) for name in names if inputs], ["y"],
        {} if inputs else {"size": np.array(8)}, opset,
    )  # fmt: skip
    profile = analyze_onnx(model)
    assert profile.uncounted == {}
    if inputs:
        assert profile.totals.flops >= 6 * 12


def test_order_in_the_file_does_not_matter(graphs):
    nodes = [node("Relu", [f"v{n - 1}" if n else "x"], [f"v{n}"]) for n in range(2000)]
    model = graphs.model(nodes[::-1], [("x", (2,))], ["v1999"])
    start = time.perf_counter()
    assert len(analyze_onnx(model).layers) == 2000
    assert time.perf_counter() - start < 60  # a quadratic pass over 2,000 nodes takes minutes


def test_old_softmax_joins_all_axes_from_its_own(graphs):
    x = dense(2, 3, 4)
    assert analyze_onnx(graphs.one("Softmax", x, opset=11, axis=1)).totals.flops == 2 * (5 * 12 - 2)
    assert analyze_onnx(graphs.one("Softmax", x, opset=13, axis=1)).totals.flops == 8 * (5 * 3 - 2)


def test_bytes_are_those_of_the_real_types(graphs):
    half = numpy_helper.from_array(dense(4, 4).astype(np.float16), "w")
    model = graphs.model([node("MatMul", ["x", "w"], ["y"])], [("x", (2, 4), TensorProto.FLOAT16)], ["y"])
    model.graph.initializer.append(half)
    (row,) = analyze_onnx(model).layers
    assert (row.param_bytes, row.read_bytes, row.write_bytes) == (32, 16 + 32, 16)
