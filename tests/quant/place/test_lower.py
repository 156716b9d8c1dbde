"""Rewritten operators compute what they did."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from quant.place.lower import lower


def ops(model):
    return {node.op_type for node in model.graph}


def same(bench, model, x):
    lowered = lower(model)
    expected, got = bench.run(model, x)[0], bench.run(lowered, x)[0]
    assert got.shape == expected.shape
    assert got == pytest.approx(expected, rel=1e-4, abs=1e-5 * float(np.abs(expected).max()))
    assert [value.name for value in lowered.graph.outputs] == [value.name for value in model.graph.outputs]
    return lowered


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_transposed_convolution(bench, data):
    numbers = st.integers
    kernel = [data.draw(numbers(1, 5)), data.draw(numbers(1, 5))]
    strides = [data.draw(numbers(1, 3)), data.draw(numbers(1, 3))]
    pads = [data.draw(numbers(0, size - 1)) for size in kernel * 2]
    extra = [data.draw(numbers(0, stride - 1)) for stride in strides]
    assume(all(kernel[i] + extra[i] + 3 * strides[i] > pads[i] + pads[i + 2] for i in (0, 1)))
    rng = np.random.default_rng(data.draw(numbers(0, 99)))
    constants = {"w": rng.standard_normal((3, 2, *kernel)).astype(np.float32), "b": np.float32([1, -1])}
    attributes = {"strides": strides, "pads": pads, "output_padding": extra}
    model = bench.prepared(("ConvTranspose", "x w b", "y", attributes), x=("N", 3, 4, 4), constants=constants)
    lowered = same(bench, model, rng.standard_normal((2, 3, 4, 4)).astype(np.float32))
    # All become convolutions but those that pad the far side beyond what any window reaches.
    assert "ConvTranspose" not in ops(lowered) or any(e > p for e, p in zip(extra, pads[2:], strict=True))


@pytest.mark.parametrize(
    "attributes", [{"group": 3}, {"dilations": [2, 2]}, {"auto_pad": "SAME_UPPER"}, {"output_shape": [9, 9]}]
)
def test_other_transposed_convolutions_stay(bench, rng, attributes):
    w = rng.standard_normal((3, 1 if "group" in attributes else 2, 3, 3)).astype(np.float32)
    nodes = ("ConvTranspose", "x w", "y", {"strides": [2, 2], **attributes})
    model = bench.prepared(nodes, x=("N", 3, 4, 4), constants={"w": w})
    assert "ConvTranspose" in ops(same(bench, model, rng.standard_normal((1, 3, 4, 4)).astype(np.float32)))


@pytest.mark.parametrize("op", ["HardSwish", "HardSigmoid"])
def test_hard_activations(bench, op):
    x = np.linspace(-6, 6, 3 * 64, dtype=np.float32).reshape(1, 3, 8, 8)
    attributes = {"alpha": 0.3, "beta": 0.4} if op == "HardSigmoid" else {}
    lowered = same(bench, bench.prepared((op, "x", "y", attributes)), x)
    assert ops(lowered) <= {"Mul", "Add", "Clip"}


def test_batch_norm(bench, rng):
    constants = {
        "gain": np.float32([1, -2, 0]),
        "shift": np.float32([0.5, 0, 1]),
        "mean": np.float32([1, 2, 3]),
        "variance": np.float32([0.1, 4, 1]),
    }
    nodes = ("Relu", "x", "a"), ("BatchNormalization", "a gain shift mean variance", "y", {"epsilon": 1e-3})
    model = bench.prepared(*nodes, constants=constants)
    assert "Conv" in ops(same(bench, model, rng.standard_normal((2, 3, 8, 8)).astype(np.float32)))


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[2, 3], [-1, -2]])
def test_means_over_space(bench, rng, keepdims, axes):
    model = bench.prepared(("ReduceMean", "x", "y", {"axes": axes, "keepdims": keepdims}))
    assert "GlobalAveragePool" in ops(same(bench, model, rng.standard_normal((2, 3, 8, 8)).astype(np.float32)))


def test_means_from_opset_18_have_axes_as_an_input(bench, rng):
    model = bench.prepared(("ReduceMean", "x axes", "y"), constants={"axes": np.int64([2, 3])}, opset=18)
    assert "GlobalAveragePool" in ops(same(bench, model, rng.standard_normal((2, 3, 8, 8)).astype(np.float32)))


@pytest.mark.parametrize("axes", [[1], [1, 2], [0, 2, 3]])
def test_other_means_stay(bench, rng, axes):
    model = bench.prepared(("ReduceMean", "x", "y", {"axes": axes}))
    assert ops(lower(model)) == {"ReduceMean"}


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        {"kernel_shape": [3, 2], "strides": [1, 2]},
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
        {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER"},
    ],
)
def test_average_pools(bench, rng, attributes):
    lowered = same(bench, bench.prepared(("AveragePool", "x", "y", attributes)), rng.random((2, 3, 8, 8), np.float32))
    uneven = "ceil_mode" in attributes or "auto_pad" in attributes
    uneven = uneven or ("pads" in attributes and "count_include_pad" not in attributes)
    assert ops(lowered) == ({"AveragePool"} if uneven else {"Conv"})


def test_a_relu_moves_before_what_only_moves_values(bench, rng):
    nodes = (
        ("Tanh", "x", "a"),
        ("MaxPool", "a", "b", {"kernel_shape": [2, 2]}),
        ("Transpose", "b", "c", {"perm": [0, 2, 3, 1]}),
        ("Relu", "c", "y"),
    )
    lowered = same(bench, bench.prepared(*nodes), rng.standard_normal((1, 3, 8, 8)).astype(np.float32))
    assert [node.op_type for node in lowered.graph] == ["Tanh", "Relu", "MaxPool", "Transpose"]


def test_a_relu_stays_where_others_read_its_input(bench, rng):
    nodes = ("MaxPool", "x", "a", {"kernel_shape": [2, 2]}), ("Relu", "a", "b"), ("Add", "a b", "y")
    lowered = same(bench, bench.prepared(*nodes), rng.standard_normal((1, 3, 8, 8)).astype(np.float32))
    assert [node.op_type for node in lowered.graph] == ["MaxPool", "Relu", "Add"]
