"""What ONNX Runtime makes of a graph, fused or in 8 bits: same MACs, same parameters, and sizes as it runs."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization

from profiler.onnx_graph import analyze_onnx

LEVELS = onnxruntime.GraphOptimizationLevel


draws = np.random.default_rng(0)


def dense(*shape):
    return draws.uniform(-0.5, 0.5, shape).astype(np.float32)


def network(graphs):
    """Convolutions, pools, a gate and an encoder as exporters write it."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w0", "b0"], ["c0"], name="c0", pads=[1, 1, 1, 1]),
        node("Relu", ["c0"], ["r0"], name="r0"),
        node("MaxPool", ["r0"], ["p0"], name="p0", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p0", "w1"], ["c1"], name="c1", group=8, pads=[1, 1, 1, 1]),
        node("Sigmoid", ["c1"], ["s1"], name="s1"),
        node("Mul", ["c1", "s1"], ["m1"], name="m1"),
        node("Add", ["m1", "p0"], ["a1"], name="a1"),
        node("GlobalAveragePool", ["a1"], ["g1"], name="g1"),
        node("Mul", ["a1", "g1"], ["a2"], name="a2"),
        node("Reshape", ["a2", "tokens"], ["t0"], name="t0"),
        node("Transpose", ["t0"], ["t"], name="t", perm=[0, 2, 1]),
        node("LayerNormalization", ["t", "lw", "lb"], ["n"], name="n"),
        node("MatMul", ["n", "wq"], ["q"], name="q"),
        node("Transpose", ["n"], ["k"], name="k", perm=[0, 2, 1]),
        node("MatMul", ["q", "k"], ["s"], name="s"),
        node("Softmax", ["s"], ["e"], name="e"),
        node("MatMul", ["e", "n"], ["o"], name="o"),
        node("MatMul", ["o", "wf"], ["f0"], name="f0"),
        node("Add", ["f0", "bf"], ["f1"], name="f1"),
        node("Gelu", ["f1"], ["f2"], name="f2"),
        node("ReduceMean", ["f2", "one"], ["v"], name="v", keepdims=0),
        node("Gemm", ["v", "wg", "bg"], ["y"], name="y", transB=1),
    ]
    arrays = {
        "w0": dense(8, 4, 3, 3), "b0": dense(8), "w1": dense(8, 1, 3, 3), "lw": dense(8), "lb": dense(8),
        "wq": dense(8, 8), "wf": dense(8, 16), "bf": dense(16), "wg": dense(5, 16), "bg": dense(5),
        "tokens": np.array([0, 8, -1]), "one": np.array([1]),
    }  # fmt: skip
    return graphs.model(nodes, [("x", ("n", 4, 12, 12))], ["y"], arrays, opset=20)


X = dense(2, 4, 12, 12)


def check_sizes(graphs, model, feeds):
    """Every value that ONNX Runtime lets us see has the size and type that the walk gives it."""
    ours = graphs.values(model, feeds)
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    names = [name for node in model.graph.node for name in node.output if name in ours]
    del tapped.graph.output[:]
    tapped.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    results = graphs.run(tapped, feeds)
    assert results is not None
    for name, array in zip(names, results, strict=True):
        assert ours[name].shape == array.shape, name
        assert helper.tensor_dtype_to_np_dtype(ours[name].dtype) == array.dtype, name


def operators(model):
    return {f"{n.domain}.{n.op_type}".removeprefix(".") for n in model.graph.node}


def optimized(model, folder, level):
    path = folder / "optimized.onnx"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 4
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(path)


@pytest.mark.parametrize("level", [LEVELS.ORT_ENABLE_BASIC, LEVELS.ORT_ENABLE_EXTENDED])
def test_fused_graphs_cost_what_their_parts_cost(graphs, tmp_path, level):
    model = network(graphs)
    plain, fused = analyze_onnx(model, [X.shape]), optimized(model, tmp_path, level)
    check_sizes(graphs, fused, {"x": X})
    profile = analyze_onnx(fused, [X.shape])
    assert profile.uncounted == {}
    assert profile.totals.macs == plain.totals.macs
    assert (
        profile.totals.params
        == plain.totals.params
        == sum(n.size for n in map(numpy_helper.to_array, model.graph.initializer) if n.dtype == np.float32)
    )
    # QuickGelu stands for x * sigmoid(x): it also scales x, by 1.
    assert profile.totals.flops == plain.totals.flops + (2 * 8 * 6 * 6 if level == LEVELS.ORT_ENABLE_EXTENDED else 0)


def test_blocked_graphs_are_counted_with_their_padding(graphs, tmp_path):
    model = network(graphs)
    plain, fused = analyze_onnx(model, [X.shape]), optimized(model, tmp_path, LEVELS.ORT_ENABLE_ALL)
    profile = analyze_onnx(fused, [X.shape])
    assert profile.uncounted == {}
    assert plain.totals.macs <= profile.totals.macs <= 4 * plain.totals.macs


class Reader(quantization.CalibrationDataReader):
    def __init__(self):
        self.batches = iter([{"x": X}, {"x": -X}])

    def get_next(self):
        return next(self.batches, None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", [quantization.QuantFormat.QDQ, quantization.QuantFormat.QOperator])
def test_graphs_in_8_bits(graphs, tmp_path, form):
    model = network(graphs)
    onnx.save(model, tmp_path / "float.onnx")
    quantization.quantize_static(
        tmp_path / "float.onnx", tmp_path / "int8.onnx", Reader(), quant_format=form, per_channel=True
    )
    rounded = onnx.load(tmp_path / "int8.onnx")
    check_sizes(graphs, rounded, {"x": X})
    plain, profile = analyze_onnx(model, [X.shape]), analyze_onnx(rounded, [X.shape])
    assert profile.uncounted == {}
    assert profile.totals.macs == plain.totals.macs
    assert profile.totals.params == plain.totals.params
    assert profile.totals.param_bytes < plain.totals.param_bytes / 2
    by_name = {layer.name: layer for layer in profile.layers if layer.macs}
    assert by_name["c1" if "c1" in by_name else "c1_quant"].params == 8 * 9
    # The same again as ONNX Runtime runs it: products in 8 bits.
    fused = optimized(rounded, tmp_path, LEVELS.ORT_ENABLE_EXTENDED)
    check_sizes(graphs, fused, {"x": X})
    again = analyze_onnx(fused, [X.shape])
    assert again.uncounted == {}
    assert again.totals.macs == plain.totals.macs


@pytest.mark.filterwarnings("ignore")
def test_graphs_that_round_as_they_run(graphs, tmp_path):
    model = network(graphs)
    onnx.save(model, tmp_path / "float.onnx")
    quantization.quantize_dynamic(tmp_path / "float.onnx", tmp_path / "int8.onnx")
    for rounded in (
        onnx.load(tmp_path / "int8.onnx"),
        optimized(onnx.load(tmp_path / "int8.onnx"), tmp_path, LEVELS.ORT_ENABLE_EXTENDED),
    ):
        check_sizes(graphs, rounded, {"x": X})
        profile = analyze_onnx(rounded, [X.shape])
        assert profile.uncounted == {}
        assert profile.totals.macs == analyze_onnx(model, [X.shape]).totals.macs
        assert profile.totals.params == analyze_onnx(model, [X.shape]).totals.params


MICROSOFT = "com.microsoft"
B, S, H, N = 2, 5, 12, 3  # batch, length, width, heads


CONTRIB = {
    "Attention": (
        [dense(B, S, H), dense(H, 3 * H), dense(3 * H)], {"num_heads": N}, B * S * H * 3 * H + 2 * B * S * S * H
    ),
    "MultiHeadAttention": ([dense(B, S, H), dense(B, 7, H), dense(B, 7, H)], {"num_heads": N}, 2 * B * S * 7 * H),
    "SkipLayerNormalization": ([dense(B, S, H), dense(B, S, H), dense(H), dense(H)], {}, 0),
    "SkipSimplifiedLayerNormalization": ([dense(B, S, H), dense(B, S, H), dense(H)], {}, 0),
    "BiasGelu": ([dense(B, S, H), dense(H)], {}, 0),
    "FastGelu": ([dense(B, S, H)], {}, 0),
    "QuickGelu": ([dense(B, S, H)], {"alpha": 1.702}, 0),
    "Gelu": ([dense(B, S, H)], {}, 0),
    "FusedMatMul": ([dense(B, S, H), dense(B, 4, H)], {"transB": 1, "alpha": 0.5}, B * S * H * 4),
    "FusedConv": (
        [dense(1, 4, 6, 6), dense(8, 4, 3, 3), dense(8)], {"activation": "Relu"}, 8 * 4 * 9 * 4 * 4
    ),
    "FusedGemm": ([dense(4, 6), dense(6, 5), dense(5)], {"activation": "Relu"}, 4 * 6 * 5),
    "MatMulNBits": (
        [dense(B, 32), np.zeros((6, 1, 16), np.uint8), dense(6)],
        {"K": 32, "N": 6, "bits": 4, "block_size": 32},
        B * 32 * 6,
    ),
    "NhwcMaxPool": ([np.zeros((1, 7, 9, 4), np.int8)], {"kernel_shape": [3, 2], "strides": [2, 2]}, 0),
    "DynamicQuantizeMatMul": ([dense(4, 6), np.zeros((6, 5), np.int8), dense(1)], {}, 4 * 6 * 5),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTRIB)
def test_operators_of_onnx_runtime(graphs, name):
    (x, *arrays), attributes, macs = CONTRIB[name]
    model = graphs.one(name, x, *arrays, domain=MICROSOFT, **attributes)
    check_sizes(graphs, model, {"x": x})
    profile = analyze_onnx(model)
    assert profile.uncounted == {}
    assert profile.totals.macs == macs
    assert profile.totals.flops >= 2 * macs
    assert profile.totals.flops > 0


def test_packed_weights_count_as_what_they_stand_for(graphs):
    (x, *arrays), attributes, _ = CONTRIB["MatMulNBits"]
    profile = analyze_onnx(graphs.one("MatMulNBits", x, *arrays, domain=MICROSOFT, **attributes))
    assert profile.totals.params == 32 * 6
    assert profile.totals.param_bytes == 6 * 16


def test_grouped_query_attention(graphs):
    """Two key heads serve four query heads; the cache brings six older positions."""
    node = helper.make_node(
        "GroupQueryAttention", ["q", "k", "v", "pk", "pv", "n", "t"], ["y", "nk", "nv"], domain=MICROSOFT,
        num_heads=4, kv_num_heads=2,
    )  # fmt: skip
    inputs = [("q", (1, 3, 32)), ("k", (1, 3, 16)), ("v", (1, 3, 16)), ("pk", (1, 2, 6, 8)), ("pv", (1, 2, 6, 8))]
    arrays = {"n": np.array([8], np.int32), "t": np.array(9, np.int32)}
    model = graphs.model([node], inputs, ["y", "nk", "nv"], arrays, domains=[MICROSOFT])
    profile = analyze_onnx(model)
    assert profile.layers[0].output_shapes == ((1, 3, 32), (1, 2, 9, 8), (1, 2, 9, 8))
    assert profile.totals.macs == 2 * 4 * 3 * 9 * 8


def test_types_follow_the_operator(graphs):
    model = graphs.one("QuantizeLinear", X, np.float32(0.1), np.int8(0))
    assert graphs.values(model)["y"].dtype == TensorProto.INT8
