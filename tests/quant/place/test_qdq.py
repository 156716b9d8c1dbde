"""The integers written into a graph, against the formulas worked out with NumPy's integers."""

import numpy as np
import pytest

from quant.calibrate import observe
from quant.graph import to_bytes
from quant.place import cpu, qdq
from quant.place.choose import choose
from quant.place.plan import Mode


def static(graph, **options):
    return choose(graph, cpu.TARGET, name="static", modes={Mode.STATIC}, **options)


def grid(low, high):
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / 255)
    return scale, round(-low / scale)


def to_grid(x, scale, zero_point):
    return np.clip(np.rint(x / scale) + zero_point, 0, 255).astype(np.int64)


def symmetric(weight, axis):
    """Integers and scales per index of an axis, each scale shaped to broadcast."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = (np.abs(weight).max(axis=others, keepdims=True) / np.float32(127)).astype(np.float32)
    return np.rint(weight / scale).astype(np.int64), scale


def conv2d(x, w):
    """Valid convolution of integers, output by output."""
    height, width = (x.shape[i + 2] - w.shape[i + 2] + 1 for i in (0, 1))
    y = np.zeros((len(x), len(w), height, width), np.int64)
    for i in range(height):
        for j in range(width):
            window = x[:, :, i : i + w.shape[2], j : j + w.shape[3]]
            y[:, :, i, j] = np.einsum("nchw,ochw->no", window, w)
    return y


def constants_of(model):
    return {name: value.const_value.numpy() for name, value in model.graph.initializers.items()}


@pytest.fixture
def x(rng):
    return rng.uniform(-1, 3, (2, 3, 8, 8)).astype(np.float32)


def test_convolution(bench, rng, x):
    w, b = rng.standard_normal((5, 3, 3, 3)).astype(np.float32), rng.standard_normal(5).astype(np.float32)
    model = bench.prepared(("Conv", "x w b", "y"), constants={"w": w, "b": b})
    quantized = bench.quantize(model, static(model.graph), x)
    stored = constants_of(quantized)

    x_scale, x_zero = grid(x.min(), x.max())
    y = bench.run(model, x)[0]
    y_scale, y_zero = grid(y.min(), y.max())
    qw, w_scale = symmetric(w, 0)
    qb = np.rint(b / (x_scale * w_scale.ravel())).astype(np.int64)
    assert (stored["w_quantized"] == qw).all()
    assert np.array_equal(stored["w_scale"], w_scale.ravel())
    assert (stored["b_quantized"] == qb).all()
    assert np.array_equal(stored["b_scale"], x_scale * w_scale.ravel())
    assert (stored["w_zero_point"] == 0).all()

    sums = conv2d(to_grid(x, x_scale, x_zero) - x_zero, qw) + qb[:, None, None]
    exact = sums * (np.float64(x_scale) * w_scale.reshape(-1, 1, 1))
    expected = (to_grid(exact, y_scale, y_zero) - y_zero) * y_scale
    got = bench.run(quantized, x)[0]
    assert np.abs(got - expected).max() <= 1.001 * y_scale  # the kernel multiplies by a rounded scale
    assert (np.abs(got - expected) > 0.5 * y_scale).mean() < 0.01


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_writes_float(bench, rng, transposed):
    w, b = rng.standard_normal((6, 4)).astype(np.float32), rng.standard_normal(4).astype(np.float32)
    x = rng.uniform(-2, 1, (5, 6)).astype(np.float32)
    stored = w.T.copy() if transposed else w
    constants = {"w": stored, "b": b}
    model = bench.prepared(("Gemm", "x w b", "y", {"transB": transposed}), x=("N", 6), constants=constants)
    got = bench.run(bench.quantize(model, static(model.graph), x), x)[0]

    x_scale, x_zero = grid(x.min(), x.max())
    qw, w_scale = symmetric(w, 1)
    qb = np.rint(b / (x_scale * w_scale.ravel()))
    sums = (to_grid(x, x_scale, x_zero) - x_zero) @ qw + qb
    assert got == pytest.approx(sums * x_scale * w_scale, rel=1e-5, abs=1e-6)


def test_matmul_on_three_axes(bench, rng):
    w = rng.standard_normal((6, 4)).astype(np.float32)
    x = rng.uniform(-2, 1, (2, 5, 6)).astype(np.float32)
    model = bench.prepared(("MatMul", "x w", "y"), x=("N", 5, 6), constants={"w": w})
    got = bench.run(bench.quantize(model, static(model.graph), x), x)[0]
    x_scale, x_zero = grid(x.min(), x.max())
    qw, w_scale = symmetric(w, 1)
    sums = (to_grid(x, x_scale, x_zero) - x_zero) @ qw
    assert got == pytest.approx(sums * x_scale * w_scale, rel=1e-5, abs=1e-6)


def test_a_bias_too_large_for_its_scale_raises_the_scale(bench, x):
    w = np.ones((2, 3, 1, 1), np.float32)
    w[1] = 1e-12  # a channel that its batch norm has switched off
    b = np.float32([0.5, 3.0])
    model = bench.prepared(("Conv", "x w b", "y"), constants={"w": w, "b": b})
    quantized = bench.quantize(model, static(model.graph), x)
    assert np.abs(constants_of(quantized)["b_quantized"]).max() <= 2**30
    assert bench.run(quantized, x)[0][:, 1] == pytest.approx(3.0, abs=0.05)


def test_outputs_keep_their_names_also_where_they_are_read_inside(bench, rng, x):
    w, v = rng.standard_normal((3, 3, 1, 1)).astype(np.float32), rng.standard_normal((2, 3, 1, 1)).astype(np.float32)
    nodes = ("Conv", "x w", "middle"), ("Relu", "middle", "r"), ("Conv", "r v", "y")
    model = bench.prepared(*nodes, constants={"w": w, "v": v}, outputs=("middle", "y"))
    quantized = bench.quantize(model, static(model.graph), x)
    assert [value.name for value in quantized.graph.outputs] == ["middle", "y"]
    for expected, got in zip(bench.run(model, x), bench.run(quantized, x), strict=True):
        assert np.abs(got - expected).max() < 0.05 * np.abs(expected).max()


def test_shared_weights_are_stored_once(bench, rng, x):
    w = rng.standard_normal((3, 3, 1, 1)).astype(np.float32)
    model = bench.prepared(("Conv", "x w", "a"), ("Relu", "a", "b"), ("Conv", "b w", "y"), constants={"w": w})
    stored = constants_of(bench.quantize(model, static(model.graph), x))
    assert [name for name, array in stored.items() if array.dtype == np.int8 and array.ndim == 4] == ["w_quantized"]
    assert "w" not in stored


def test_a_float_convolution_amid_int8_keeps_its_weights(bench, rng, x, tmp_path):
    """ONNX Runtime would round them while loading, with one scale for all channels."""
    constants = {name: rng.standard_normal((3, 3, 3, 3)).astype(np.float32) for name in "uvw"}
    nodes = ("Conv", "x u", "a"), ("Conv", "a v", "b"), ("Conv", "b w", "y")
    model = bench.prepared(*nodes, constants=constants)
    quantized = bench.quantize(model, static(model.graph, excluded={"Conv_b": "test"}), x)
    expected = {"QLinearConv": 2, "Conv": 1, "QuantizeLinear": 2, "DequantizeLinear": 2}
    assert bench.optimized(quantized, tmp_path) == expected


def test_the_same_inputs_give_the_same_bytes(bench, rng, x):
    w, v = rng.standard_normal((4, 3, 3, 3)).astype(np.float32), rng.standard_normal((4, 10)).astype(np.float32)
    nodes = (
        ("Conv", "x w", "a"),
        ("Relu", "a", "b"),
        ("GlobalAveragePool", "b", "c"),
        ("Flatten", "c", "d"),
        ("Gemm", "d v", "y"),
    )
    files = []
    for _ in range(2):
        model = bench.prepared(*nodes, constants={"w": w, "v": v})
        plan = cpu.candidates(model.graph)["full"]
        ranges = observe(model, lambda: [{"x": x}], plan.observed)
        files.append(to_bytes(qdq.apply(plan, model, ranges)))
    assert files[0] == files[1]


def test_the_float_model_is_left_as_it_is(bench, rng, x):
    model = bench.prepared(("Conv", "x w", "y"), constants={"w": rng.standard_normal((4, 3, 3, 3)).astype(np.float32)})
    before = to_bytes(model)
    bench.quantize(model, static(model.graph), x)
    assert to_bytes(model) == before
