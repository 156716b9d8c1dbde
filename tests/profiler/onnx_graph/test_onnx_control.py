"""If, Loop and Scan: which nodes inside count, and how often; sizes as ONNX Runtime finds them."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from profiler.errors import ModelError
from profiler.onnx_graph import analyze_onnx

node = helper.make_node
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def dense(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def info(name, kind=FLOAT, shape=None):
    return helper.make_tensor_value_info(name, kind, shape)


def inner(nodes, outputs, inputs=()):
    return helper.make_graph(nodes, "inner", list(inputs), [info(o) if isinstance(o, str) else o for o in outputs])


def choice(graphs, condition):
    """One product or two, by a condition."""
    small = inner([node("MatMul", ["x", "w"], ["a"], name="once")], ["a"])
    large = inner(
        [node("MatMul", ["x", "w"], ["b"], name="first"), node("MatMul", ["b", "v"], ["c"], name="second")], ["c"]
    )
    nodes = [
        node("Equal", ["which", "one"], ["c0"]),
        node("If", ["c0"], ["y"], name="choice", then_branch=small, else_branch=large),
    ]
    arrays = {"w": dense(4, 4), "v": dense(4, 4), "one": np.array(1)}
    inputs = [("x", (2, 4))]
    if condition is None:
        inputs.append(("which", (), INT64))
    else:
        arrays["which"] = np.array(condition)
    return graphs.model(nodes, inputs, ["y"], arrays)


def test_a_known_condition_chooses_its_branch(graphs):
    profile = analyze_onnx(choice(graphs, 1))
    assert [layer.name for layer in profile.layers] == ["choice/then/once"]
    assert profile.totals.macs == 32
    assert analyze_onnx(choice(graphs, 0)).totals.macs == 64
    assert profile.notes == ()


def test_a_condition_that_is_data_counts_the_larger_branch_and_says_so(graphs):
    model = choice(graphs, None)
    profile = analyze_onnx(model)
    assert profile.totals.macs == 64
    assert profile.totals.params == 32
    assert profile.notes == ("choice: its condition is data; the branch for False is counted, the larger one",)
    chosen = analyze_onnx(model, {"which": np.array(1)})
    assert chosen.totals.macs == 32
    assert "by the values given" in chosen.notes[0]


def test_a_branch_that_does_not_take_the_sizes_is_not_taken(graphs):
    good = inner([node("Relu", ["x"], ["a"])], ["a"])
    bad = inner([node("MatMul", ["x", "x"], ["b"])], ["b"])
    model = graphs.model(
        [node("If", ["c"], ["y"], name="if", then_branch=bad, else_branch=good)],
        [("x", (2, 4)), ("c", (), BOOL)], ["y"],
    )  # fmt: skip
    profile = analyze_onnx(model)
    assert profile.totals.flops == 8
    assert "the other one does not take these sizes" in profile.notes[0]


def loop(graphs, trips, *, goes_on="cond", growing=False):
    """x <- x @ w, trips times; each result is kept as well."""
    step = [
        node("MatMul", ["h", "w"], ["p"], name="product"),
        node("Identity", ["cond"], ["again"]) if goes_on == "cond" else node("Less", ["i", "limit"], ["again"]),
        node("Concat", ["p", "p"], ["n"], axis=0) if growing else node("Identity", ["p"], ["n"]),
        node("ReduceSum", ["p"], ["s"], keepdims=0),
    ]
    body = helper.make_graph(
        step, "body", [info("i", INT64, ()), info("cond", BOOL, ()), info("h")],
        [info("again", BOOL, ()), info("n"), info("s")],
    )  # fmt: skip
    nodes = [node("Loop", ["m", "", "x"], ["y", "sums"], name="loop", body=body)]
    arrays = {"w": dense(4, 4), "limit": np.array(3)}
    inputs = [("x", (2, 4))]
    if trips is None:
        inputs.append(("m", (), INT64))
    else:
        arrays["m"] = np.array(trips)
    return graphs.model(nodes, inputs, ["y", "sums"], arrays)


def test_a_loop_counts_as_often_as_it_runs(graphs):
    profile = analyze_onnx(loop(graphs, 5))
    assert profile.totals.macs == 5 * 2 * 4 * 4
    assert profile.totals.params == 16
    assert profile.layers[0].name == "loop/body/product"
    assert "runs 5 times" in profile.notes[0]
    values = graphs.values(loop(graphs, 5))
    real = graphs.run(loop(graphs, 5), {"x": dense(2, 4)})
    assert real[0].shape == (2, 4)
    assert real[1].shape == (5,)
    assert values["p"].shape == (2, 4)


def test_a_loop_whose_sizes_change_is_gone_through_run_by_run(graphs):
    model = loop(graphs, 3, growing=True)
    profile = analyze_onnx(model)
    assert [layer.macs for layer in profile.layers if layer.macs] == [32, 64, 128]
    assert graphs.run(model, {"x": dense(2, 4)})[0].shape == (16, 4)


def test_a_loop_that_does_not_run(graphs):
    profile = analyze_onnx(loop(graphs, 0))
    assert profile.totals.macs == 0
    assert profile.uncounted == {}


@pytest.mark.parametrize(("trips", "goes_on"), [(None, "cond"), (5, "data"), (1 << 60, "data")])
def test_a_loop_that_nobody_knows_the_length_of_is_uncounted(graphs, trips, goes_on):
    profile = analyze_onnx(loop(graphs, trips, goes_on=goes_on))
    assert profile.uncounted == {"Loop": 1}
    assert profile.totals.params == 16
    assert any("one run is 32 MACs" in note for note in profile.notes)


def test_an_input_says_how_often_a_loop_runs(graphs):
    assert analyze_onnx(loop(graphs, None), {"m": np.array(7)}).totals.macs == 7 * 32


def scan(graphs, axis=0):
    step = [
        node("Add", ["h", "s"], ["t"]),
        node("MatMul", ["t", "w"], ["n"], name="product"),
        node("Relu", ["n"], ["o"]),
    ]
    body = helper.make_graph(step, "body", [info("h"), info("s")], [info("n"), info("o")])
    nodes = [
        node("Scan", ["start", "x"], ["last", "all"], name="scan", body=body, num_scan_inputs=1, scan_input_axes=[axis])
    ]
    arrays = {"w": dense(4, 4), "start": dense(2, 4)}
    size = (6, 2, 4) if axis == 0 else (2, 6, 4)
    return graphs.model(nodes, [("x", size)], ["last", "all"], arrays), size


@pytest.mark.parametrize("axis", [0, 1])
def test_a_scan_counts_once_a_step(graphs, axis):
    model, size = scan(graphs, axis)
    profile = analyze_onnx(model)
    assert profile.totals.macs == 6 * 2 * 4 * 4
    assert profile.totals.flops == 6 * (2 * 32 + 8 + 8)
    assert graphs.run(model, {"x": dense(*size)})[1].shape == (6, 2, 4)
    assert profile.layers[0].receptive_field.status == "unknown"


def test_loops_in_loops_multiply(graphs):
    deep = helper.make_graph(
        [node("MatMul", ["g", "w"], ["q"], name="product"), node("Identity", ["c2"], ["a2"])], "deep",
        [info("j", INT64, ()), info("c2", BOOL, ()), info("g")], [info("a2", BOOL, ()), info("q")],
    )  # fmt: skip
    body = helper.make_graph(
        [node("Loop", ["three", "", "h"], ["n"], name="inner", body=deep), node("Identity", ["c"], ["a"])], "body",
        [info("i", INT64, ()), info("c", BOOL, ()), info("h")], [info("a", BOOL, ()), info("n")],
    )  # fmt: skip
    model = graphs.model(
        [node("Loop", ["four", "", "x"], ["y"], name="outer", body=body)], [("x", (2, 4))], ["y"],
        {"w": dense(4, 4), "three": np.array(3), "four": np.array(4)},
    )  # fmt: skip
    assert analyze_onnx(model).totals.macs == 12 * 32


def test_what_a_branch_reads_from_outside_lives_until_then(graphs):
    branch = inner([node("Relu", ["a"], ["b"])], ["b"])
    other = inner([node("Neg", ["a"], ["c"])], ["c"])
    nodes = [
        node("Neg", ["x"], ["a"]),
        node("Concat", ["x", "x", "x", "x"], ["wide"], axis=0),
        node("ReduceSum", ["wide"], ["s"]),
        node("If", ["flag"], ["y"], then_branch=branch, else_branch=other),
    ]
    model = graphs.model(nodes, [("x", (100,)), ("flag", (), BOOL)], ["y", "s"])
    assert analyze_onnx(model).totals.peak_bytes == 400 + 1 + 400 + 1600 + 4


def test_a_scan_over_inputs_of_different_lengths(graphs):
    body = helper.make_graph([node("Add", ["s", "t"], ["o"])], "body", [info("s"), info("t")], [info("o")])
    model = graphs.model(
        [node("Scan", ["x", "z"], ["y"], name="scan", body=body, num_scan_inputs=2)],
        [("x", (3, 4)), ("z", (5, 4))], ["y"],
    )  # fmt: skip
    with pytest.raises(ModelError, match=r"node 'scan' .Scan.: goes through inputs of different lengths"):
        analyze_onnx(model)


def test_nothing_is_said_of_a_branch_that_is_not_counted(graphs):
    odd = inner([node("Odd", ["x"], ["a"], domain="com.acme"), node("Relu", ["x"], ["b"])], ["b"])
    large = inner([node("MatMul", ["x", "w"], ["c"])], ["c"])
    model = graphs.model(
        [node("If", ["c0"], ["y"], name="if", then_branch=odd, else_branch=large)],
        [("x", (2, 4)), ("c0", (), BOOL)], ["y"], {"w": dense(4, 4)}, domains=["com.acme"],
    )  # fmt: skip
    profile = analyze_onnx(model)
    assert profile.uncounted == {}
    assert len(profile.notes) == 1
    assert profile.totals.params == 16


def test_growing_loops_give_back_what_they_carry(graphs):
    profile = analyze_onnx(loop(graphs, 3, growing=True))
    x, runs = 32, [(32, 64), (64, 128), (128, 256)]
    # In the last run: the input, what the run before left, the product, its double, its sum, and three sums kept.
    assert profile.totals.peak_bytes <= x + runs[1][1] + sum(runs[2]) + 4 * 4 + 16
