"""Sizes against ONNX Runtime, which runs each node on real data, over attributes drawn at random."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from profiler.errors import FormulaError, ModelError
from profiler.onnx_graph import analyze_onnx
from profiler.onnx_ops import convolution

small = st.integers(1, 3)


def ones(*shape, kind=np.float32):
    return np.ones(shape, kind)


def integers(*numbers):
    return np.array(numbers, dtype=np.int64)


def agree(graphs, op, x, *arrays, opset=22, outputs=("y",), **attributes):
    """Whether ONNX Runtime takes the node; if it does, our sizes are its sizes."""
    model = graphs.one(op, x, *arrays, opset=opset, outputs=outputs, **attributes)
    theirs = graphs.run(model, {"x": x})
    if theirs is None:
        return False
    ours = graphs.values(model, [x])
    assert [ours[name].shape for name in outputs] == [y.shape for y in theirs]
    return True


@st.composite
def window(draw, axes, kernel):
    """`auto_pad` or `pads`, strides and dilations."""
    mode = draw(st.sampled_from(("NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")))
    found = {"auto_pad": mode, "strides": [draw(small) for _ in range(axes)]}
    if mode == "NOTSET":
        found["pads"] = [draw(st.integers(0, k - 1)) for k in (*kernel, *kernel)]
    if not mode.startswith("SAME"):  # with it ONNX Runtime ignores the dilation
        found["dilations"] = [draw(small) for _ in range(axes)]
    return found


@st.composite
def convolutions(draw):
    axes, groups = draw(small), draw(st.integers(1, 2))
    kernel = [draw(st.integers(1, 4)) for _ in range(axes)]
    x = ones(draw(small), 2 * groups, *(draw(st.integers(2, 11)) for _ in range(axes)))
    return groups, kernel, x, draw(window(axes, kernel))


@settings(max_examples=120)
@given(convolutions())
def test_convolutions(graphs, drawn):
    groups, kernel, x, attributes = drawn
    agree(graphs, "Conv", x, ones(3 * groups, 2, *kernel), group=groups, **attributes)


@settings(max_examples=120)
@given(convolutions(), st.data())
def test_transposed_convolutions(graphs, drawn, data):
    groups, kernel, x, attributes = drawn
    strides = attributes["strides"]
    if data.draw(st.booleans()):
        if data.draw(st.booleans()):
            attributes["auto_pad"] = data.draw(st.sampled_from(("NOTSET", "SAME_UPPER", "SAME_LOWER")))
        attributes.pop("pads", None)
        attributes["output_shape"] = [
            i * s + data.draw(st.integers(0, s - 1)) for i, s in zip(x.shape[2:], strides, strict=True)
        ]
    elif attributes["auto_pad"] == "NOTSET":
        attributes["output_padding"] = [data.draw(st.integers(0, s - 1)) for s in strides]
    agree(graphs, "ConvTranspose", x, ones(2 * groups, 3, *kernel), group=groups, **attributes)


@settings(max_examples=150)
@given(st.sampled_from(("MaxPool", "AveragePool", "LpPool")), convolutions(), st.integers(0, 1))
def test_pools(graphs, op, drawn, ceil_mode):
    _, kernel, x, attributes = drawn
    pads = attributes.get("pads", [0] * 2 * len(kernel))
    room = [i + a + b for i, a, b in zip(x.shape[2:], pads[: len(kernel)], pads[len(kernel) :], strict=True)]
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, attributes.get("dilations", kernel), strict=True)]
    if "dilations" in attributes and any(span > n for span, n in zip(spans, room, strict=True)):
        with pytest.raises(ModelError, match="does not fit"):  # ONNX Runtime invents an output
            analyze_onnx(graphs.one(op, x, kernel_shape=kernel, **attributes))
    else:
        agree(graphs, op, x, kernel_shape=kernel, ceil_mode=ceil_mode, **attributes)


COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")


@settings(max_examples=150)
@given(st.data(), st.integers(1, 3), st.sampled_from(("nearest", "linear", "cubic")), st.sampled_from(COORDINATES))
def test_resize(graphs, data, axes, mode, coordinates):
    if mode == "cubic" and axes != 2:
        return
    x = ones(1, 2, *(data.draw(st.integers(1, 9)) for _ in range(axes)))
    options = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if data.draw(st.booleans()):
        factor = st.one_of(st.sampled_from((0.5, 1.0, 1.5, 2.0, 2.7)), st.floats(0.25, 3.0, width=32))
        scales = np.array([1, 1, *(data.draw(factor) for _ in range(axes))], np.float32)
        agree(graphs, "Resize", x, None, scales, opset=19, **options)
        return
    sizes = [data.draw(st.integers(1, 12)) for _ in range(axes)]
    policy = data.draw(st.sampled_from(("stretch", "not_larger", "not_smaller")))
    if policy == "stretch":
        agree(graphs, "Resize", x, None, None, integers(1, 2, *sizes), opset=19, **options)
    else:
        options.update(axes=list(range(2, axes + 2)), keep_aspect_ratio_policy=policy)
        agree(graphs, "Resize", x, None, None, integers(*sizes), opset=19, **options)


def test_resize_of_a_region(graphs):
    roi = np.array([0, 0, 0.2, 0.1, 1, 1, 0.7, 0.9], np.float32)
    assert agree(
        graphs, "Resize", ones(1, 1, 10, 10), roi, np.array([1, 1, 1.5, 2], np.float32), opset=19, mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize",
    )  # fmt: skip


ends = st.integers(-9, 9)
FAR = 1 << 62


@settings(max_examples=150)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=3), st.data())
def test_slices(graphs, shape, data):
    axes = data.draw(st.permutations(range(len(shape))))[: data.draw(st.integers(1, len(shape)))]
    steps = [data.draw(st.sampled_from((1, 2, 3, -1, -2))) for _ in axes]
    starts = [data.draw(ends) for _ in axes]
    stops = [data.draw(st.one_of(ends, st.just(FAR if s > 0 else -FAR))) for s in steps]
    assert agree(graphs, "Slice", ones(*shape), *(integers(*n) for n in (starts, stops, axes, steps)))


@settings(max_examples=80)
@given(st.lists(st.integers(2, 7), min_size=1, max_size=3), st.data())
def test_pads(graphs, shape, data):
    pads = [data.draw(st.integers(-1, 1)) for _ in (*shape, *shape)]
    agree(graphs, "Pad", ones(*shape), integers(*pads), mode=data.draw(st.sampled_from(("constant", "edge", "wrap"))))


shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4)


@settings(max_examples=80)
@given(shapes, st.data())
def test_axes(graphs, shape, data):
    """Operators that take one axis, positive or negative."""
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = ones(*shape)
    assert agree(graphs, "Gather", x, np.zeros((2,) * data.draw(st.integers(0, 2)), np.int64), axis=axis)
    assert agree(graphs, "Concat", x, x, axis=axis)
    assert agree(graphs, "ArgMax", x, axis=axis, keepdims=data.draw(st.integers(0, 1)))
    assert agree(graphs, "TopK", x, integers(1), axis=axis, outputs=("y", "z"))
    assert agree(graphs, "Unsqueeze", x, integers(axis))
    assert agree(graphs, "Flatten", x, axis=axis)
    agree(graphs, "Split", x, axis=axis, num_outputs=2, outputs=("y", "z"))
    reduced = sorted({axis, data.draw(st.integers(0, len(shape) - 1)) - len(shape)} - {axis - len(shape)})
    for op in ("ReduceSum", "ReduceMean", "ReduceL2"):
        agree(graphs, op, x, integers(*reduced), keepdims=data.draw(st.integers(0, 1)))
    assert agree(graphs, "ReduceMax", x, integers(), noop_with_empty_axes=data.draw(st.integers(0, 1)))


@settings(max_examples=60)
@given(shapes, st.data())
def test_arrangements(graphs, shape, data):
    x = ones(*shape)
    assert agree(graphs, "Transpose", x, perm=data.draw(st.permutations(range(len(shape)))))
    assert agree(graphs, "Tile", x, integers(*(data.draw(small) for _ in shape)))
    assert agree(graphs, "Expand", x, integers(*(data.draw(st.sampled_from((1, n))) for n in shape)))
    assert agree(
        graphs, "Reshape", x, integers(*data.draw(st.sampled_from(([-1], [0, -1], [1, -1])))[: len(shape) + 1])
    )
    assert agree(graphs, "Squeeze", x)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_and_space(graphs, mode):
    assert agree(graphs, "DepthToSpace", ones(1, 8, 4, 6), blocksize=2, mode=mode)
    assert agree(graphs, "SpaceToDepth", ones(1, 2, 4, 6), blocksize=2)


PRODUCTS = [((4,), (4,)), ((4,), (3, 4, 5)), ((2, 3, 4), (4,)), ((2, 3, 4), (4, 5)), ((2, 1, 3, 4), (6, 4, 5))]


@pytest.mark.parametrize(("a", "b"), PRODUCTS)
def test_products(graphs, a, b):
    assert agree(graphs, "MatMul", ones(*a), ones(*b))


@pytest.mark.parametrize("equation", ["bij,bjk->bik", "...ij,...jk", "bij,bjk->ikb", "bij,bjk"])
def test_einsum(graphs, equation):
    assert agree(graphs, "Einsum", ones(2, 3, 4), ones(2, 4, 5), equation=equation)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrences(graphs, op, gates, direction):
    d = 2 if direction == "bidirectional" else 1
    outputs = ("y", "h", "c")[: 3 if op == "LSTM" else 2]
    x, w, r = ones(6, 2, 5), ones(d, gates * 3, 5), ones(d, gates * 3, 3)
    assert agree(graphs, op, x, w, r, hidden_size=3, direction=direction, outputs=outputs)
    # ONNX Runtime has no other layout; the standard has.
    turned = graphs.values(graphs.one(op, x, w, r, hidden_size=3, direction=direction, layout=1, outputs=outputs))
    assert [turned[name].shape for name in outputs[:2]] == [(6, 2, d, 3), (6, d, 3)]


def standard_cases():
    from onnx.backend.test.case.node import collect_testcases

    return [case for case in collect_testcases(None) if case.model and case.data_sets]


# Their results depend on the data: netgauge assumes the most possible.
OPEN = ("Compress", "NonMaxSuppression", "Unique", "NonZero")
# Not about tensors of numbers.
OTHER = ("String", "TfIdf", "Regex", "ImageDecoder", "Optional", "Scan")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_standards_own_cases():
    """The 1,884 cases that the ONNX project tests runtimes with, each with the results that are right."""
    compared, wrong = 0, []
    for case in standard_cases():
        operators = {node.op_type for node in case.model.graph.node}
        inputs, outputs = case.data_sets[0]
        if any(name.startswith(OTHER) for name in operators):
            continue
        if not all(isinstance(a, np.ndarray) for a in (*inputs, *outputs)):
            continue
        profile, sizes = output_sizes(case.model, inputs)
        for ours, theirs in zip(sizes, outputs, strict=True):
            compared += 1
            fits = ours == theirs.shape
            if operators & set(OPEN) and ours is not None:
                fits = all(a >= b for a, b in zip(ours, theirs.shape, strict=True))
            if not fits:
                wrong.append((case.name, ours, theirs.shape, profile.notes))
    assert compared > 1800
    assert [w for w in wrong if "bfloat16" not in w[0]] == []


def output_sizes(model, inputs):
    """The profile, and the size of each output of the graph."""
    from profiler.onnx_graph.walk import Walk

    seen = []
    body = Walk.body

    def spy(walk, nodes, outputs, scope):
        values = body(walk, nodes, outputs, scope)
        seen.append([v.shape for v in values])
        return values

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Walk, "body", spy)
        profile = analyze_onnx(model, inputs)
    return profile, seen[-1]


def test_a_formula_that_is_wrong_is_noticed(graphs, monkeypatch):
    monkeypatch.setattr(convolution, "conv_output_size", lambda *_: 7)
    with pytest.raises(FormulaError, match="documented formula"):
        analyze_onnx(graphs.one("Conv", ones(1, 1, 5), ones(1, 1, 3)))


def test_sizes_of_data_are_the_largest_possible_and_said(graphs):
    model = graphs.one("NonZero", ones(2, 3))
    profile = analyze_onnx(model)
    assert graphs.values(model)["y"].shape == (2, 6)
    assert any("the most possible are assumed" in note for note in profile.notes)


def test_shape_arithmetic_is_followed_to_the_end(graphs):
    """Half the height, computed from the input's size in integers, floats and back, as older exporters do."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Slice", ["s", "two", "four", "zero"], ["hw"]),
        helper.make_node("Cast", ["hw"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "half"], ["g"]),
        helper.make_node("Floor", ["g"], ["h"]),
        helper.make_node("Cast", ["h"], ["i"], to=TensorProto.INT64),
        helper.make_node("Slice", ["s", "zero", "two", "zero"], ["bc"]),
        helper.make_node("Concat", ["bc", "i"], ["sizes"], axis=0),
        helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="linear"),
    ]
    arrays = {"zero": integers(0), "two": integers(2), "four": integers(4), "half": np.array([0.5], np.float32)}
    model = graphs.model(nodes, [("x", ("n", 3, "h", "w"))], ["y"], arrays)
    x = ones(2, 3, 9, 7)
    assert graphs.values(model, [x.shape])["y"].shape == graphs.run(model, {"x": x})[0].shape == (2, 3, 4, 3)
    profile = analyze_onnx(model, [x.shape])
    assert [layer.op for layer in profile.layers] == ["interpolation"]


def test_sizes_given_as_data_need_the_data(graphs):
    node = helper.make_node("Reshape", ["x", "s"], ["y"], name="view")
    model = graphs.model([node], [("x", (2, 6)), ("s", (2,), TensorProto.INT64)], ["y"])
    assert graphs.values(model)["y"].shape is None
    assert "depends on the values of 's'" in analyze_onnx(model).notes[0]
    assert graphs.values(model, {"s": integers(3, -1)})["y"].shape == (3, 4)


def test_a_graph_of_an_unknown_operator_goes_on_with_declared_sizes(graphs):
    nodes = [
        helper.make_node("Odd", ["x"], ["o"], domain="com.acme"),
        helper.make_node("Relu", ["o"], ["y"]),
    ]
    model = graphs.model(nodes, [("x", (2, 3))], ["y"], domains=["com.acme"])
    profile = analyze_onnx(model)
    assert profile.uncounted == {"com.acme.Odd": 1, "Relu": 1}
    model.graph.value_info.append(helper.make_tensor_value_info("o", TensorProto.FLOAT, [4, 5]))
    profile = analyze_onnx(model)
    assert profile.uncounted == {"com.acme.Odd": 1}
    assert profile.layers[-1].output_shapes == ((4, 5),)
    assert profile.layers[-1].flops == 20
