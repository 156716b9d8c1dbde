"""Products and recurrences whose input is quantized anew in every run."""

import numpy as np
import pytest
import torch

from quant.export import export_onnx
from quant.graph import prepare
from quant.place import cpu, qdq
from quant.place.plan import Mode


def product(x, w):
    """y = x_scale w_scale (q_x - z_x) q_w with the grid of this very x."""
    low, high = min(x.min(), 0), max(x.max(), 0)
    scale = np.float32((high - low) / 255)
    zero = round(-low / scale)
    qx = np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.int64)
    w_scale = (np.abs(w).max(axis=0) / np.float32(127)).astype(np.float32)
    return ((qx - zero) @ np.rint(w / w_scale).astype(np.int64)) * (scale * w_scale)


@pytest.mark.parametrize("size", [1.0, 1000.0])
def test_the_grid_follows_the_input(bench, rng, tmp_path, size):
    w, b = rng.standard_normal((6, 4)).astype(np.float32), rng.standard_normal(4).astype(np.float32)
    nodes = ("MatMul", "x w", "a"), ("Add", "a b", "y")
    model = bench.prepared(*nodes, x=("N", 5, 6), constants={"w": w, "b": b})
    plan = cpu.candidates(model.graph)["full"]
    quantized = qdq.apply(plan, model, {})
    x = (size * rng.uniform(-2, 1, (2, 5, 6))).astype(np.float32)
    assert bench.run(quantized, x)[0] == pytest.approx(product(x, w) + b, rel=1e-5, abs=1e-5 * size)
    assert bench.optimized(quantized, tmp_path) == {"DynamicQuantizeMatMul": 1}


def test_a_gemm_with_its_weights_transposed(bench, rng):
    w, b = rng.standard_normal((4, 6)).astype(np.float32), rng.standard_normal(4).astype(np.float32)
    nodes = ("Tanh", "x", "a"), ("Gemm", "a w b", "y", {"transB": 1})
    model = bench.prepared(*nodes, x=("N", 6), constants={"w": w, "b": b})
    plan = cpu.candidates(model.graph)["full"]
    assert plan.nodes["Gemm_y"].mode is Mode.DYNAMIC
    x = rng.standard_normal((5, 6)).astype(np.float32)
    got = bench.run(qdq.apply(plan, model, {}), x)[0]
    assert got == pytest.approx(product(np.tanh(x), w.T) + b, rel=1e-3, abs=1e-3)


def test_one_quantization_for_all_that_read_a_tensor(bench, rng):
    constants = {name: rng.standard_normal((6, 6)).astype(np.float32) for name in "qkv"}
    nodes = [("Tanh", "x", "t"), *[("MatMul", f"t {name}", f"{name}t") for name in "qkv"], ("Sum", "qt kt vt", "y")]
    model = bench.prepared(*nodes, x=("N", 5, 6), constants=constants)
    quantized = qdq.apply(cpu.candidates(model.graph)["full"], model, {})
    assert [node.op_type for node in quantized.graph].count("DynamicQuantizeLinear") == 1


def test_lstm(bench, rng, tmp_path):
    torch.manual_seed(0)
    module = torch.nn.LSTM(8, 16, batch_first=True, bidirectional=True)
    x = rng.standard_normal((3, 10, 8)).astype(np.float32)
    model = prepare(export_onnx(module, (torch.from_numpy(x),)).model)
    quantized = qdq.apply(cpu.candidates(model.graph)["full"], model, {})
    assert bench.optimized(quantized, tmp_path)["DynamicQuantizeLSTM"] == 1
    with torch.no_grad():
        expected, (hidden, cell) = module(torch.from_numpy(x))
    for reference, got in zip((expected, hidden, cell), bench.run(quantized, x), strict=True):
        assert np.square(got - reference.numpy()).mean() < 1e-3 * np.square(reference.numpy()).mean()
    assert max(value.const_value.nbytes for value in quantized.graph.initializers.values()) <= 2 * 16 * 4 * 16 * 4
