"""Layers timed for a moment: everything but the times is checked."""

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

import quant
from profiler import analyze_onnx
from profiler.errors import DataError, UsageError
from profiler.onnx_graph.costs import node_costs, node_layers
from quant.export import export_onnx
from quant.graph import prepare, to_bytes, without_traces
from quant.latency import ceilings as roof
from quant.latency import compare_layers, nodes, per_layer, recorder
from quant.latency.layers import UNKNOWN, NodeShare
from quant.latency.shares import time_shares
from quant.layer_report import layer_lines
from quant.place import cpu
from quant.place.lower import lower

SECONDS = 0.1


@pytest.fixture(scope="module", autouse=True)
def _shorter():
    """Fewer sessions, fewer runs and smaller buffers: nothing here is about the times themselves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(per_layer, "SESSIONS", 2)
        for module in (nodes, recorder):
            patch.setattr(module, "EVENTS", 1_500)
        patch.setattr(roof, "_SECONDS", 0.002)
        patch.setattr(roof, "_PASSES", 1)
        patch.setattr(roof, "_BUFFERS", roof._BUFFERS[:2])
        roof.ceilings.cache_clear()
        yield
    roof.ceilings.cache_clear()


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Linear(16 * 8 * 8, 4)
        nn.init.constant_(self.stem[1].bias, 0.1)

    def forward(self, x):
        return self.head(self.body(self.stem(x)).flatten(1))


@pytest.fixture(scope="module")
def prepared():
    torch.manual_seed(0)
    return lower(prepare(export_onnx(Small(), (torch.randn(2, 3, 16, 16),)).model))


@pytest.fixture(scope="module")
def model(prepared):
    return to_bytes(without_traces(prepared))


@pytest.fixture(scope="module")
def quantized(bench, prepared):
    x = np.random.default_rng(0).standard_normal((8, 3, 16, 16)).astype(np.float32)
    return to_bytes(without_traces(bench.quantize(prepared, cpu.candidates(prepared.graph)["full"], x)))


@pytest.fixture(scope="module")
def both(model, quantized):
    return compare_layers(model, quantized, seconds=SECONDS)


def test_the_layers_are_the_modules(both):
    layers = {row.layer: row for row in both.a.layers}
    assert {"stem.0", "body.0", "head"} <= set(layers)
    assert UNKNOWN not in layers
    assert layers["stem.0"].fused == ("stem.2",)
    assert layers["body.0"].macs == 16 * 16 * 9 * 16 * 16
    assert layers["head"].macs == 16 * 64 * 4
    assert both.a.mapped == pytest.approx(1.0)
    assert sum(row.share for row in both.a.layers) == pytest.approx(1.0)


def test_files_keep_module_paths_and_no_stack_traces(prepared, model):
    written = to_bytes(prepared)
    assert b"stack_trace" in written
    assert __file__.encode() in written
    assert b"stack_trace" not in model
    assert __file__.encode() not in model
    assert b"pkg.torch.onnx.name_scopes" in model


def test_macs_are_those_of_the_profile(both, model, quantized):
    for times, file in ((both.a, model), (both.b, quantized)):
        profile = analyze_onnx(onnx.ModelProto.FromString(file), [(1, 3, 16, 16)])
        assert sum(row.macs for row in times.layers) == profile.totals.macs


def test_bytes_are_of_what_enters_and_leaves_a_fused_node(both):
    layers = {row.layer: row for row in both.a.layers}
    # input, weights, the bias that the batch norm became, and the output after the Relu
    values = 3 * 256 + 3 * 16 * 9 + 16 + 16 * 256
    assert layers["stem.0"].moved - 4 * values in {0, 2 * 4 * 16 * 256}  # with the conversion of its output, if any


def test_int8_layers_stand_beside_the_float_ones(both):
    rows = {layer: (a, b) for layer, a, b in both.rows}
    a, b = rows["body.0"]
    assert (a.int8, b.int8) == (False, True)
    assert all(rows["stem.0"])  # a batch norm is folded into it in either file
    assert "stem.1" not in rows
    assert "QLinearConv" in b.ops
    assert b.moved < a.moved


def test_coverage_is_what_it_says(both):
    coverage = both.a.coverage
    assert coverage.run_ms > coverage.nodes_ms > 0
    assert coverage.rest_ms == pytest.approx(coverage.run_ms - coverage.nodes_ms - coverage.recorder_ms)
    assert coverage.part_of_recording < coverage.part <= 1.0
    assert coverage.net_ms == pytest.approx(sum(row.ms for row in both.a.layers), rel=0.5)


def test_the_report(both):
    report = json.loads(json.dumps(both.to_dict()))
    assert set(report) == {"layers", "ceilings", "coverage"}
    row = next(r for r in report["layers"] if r["layer"] == "body.0")
    assert {"layer", "macs", "float_ms", "int8_ms", "float", "int8"} == set(row)
    assert {"ops", "share", "gmac_s", "gb_s", "bound", "of_ceiling", "overhead_ms"} <= set(row["int8"])
    assert row["float"]["gmac_s"] == pytest.approx(1e-6 * row["macs"] / row["float_ms"])
    assert set(report["coverage"]) == {"float", "int8"}
    assert report["ceilings"]["float32_gmac_s"] > 0
    assert [band["bytes"] for band in report["ceilings"]["bandwidth"]] == sorted(
        band["bytes"] for band in report["ceilings"]["bandwidth"]
    )
    text = "\n".join(layer_lines(both, ("a", "b")))
    assert "body.0" in text
    assert "a, most limited: " in text
    assert "measured here" in text


def test_shares_go_to_the_float_nodes(both, prepared):
    shares = time_shares(prepared.graph, both.b.nodes)
    found = {node.op_type: share for node, share in shares.items()}
    assert {"Conv", "Gemm"} <= set(found)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert not any(node.op_type == "Relu" for node in shares)


def test_an_integer_product_stands_for_the_product_not_for_its_bias(bench):
    constants = {"w": np.ones((4, 4), np.float32), "c": np.ones(4, np.float32)}
    nodes = [("MatMul", "x w", "p"), ("Add", "p c", "y")]
    graph = bench.prepared(*nodes, x=("N", 3, 4), constants=constants).graph
    entry = NodeShare(frozenset({"p_integer_MatMulInteger", "p_integer"}), frozenset({"p_cast", "p", "y"}), 0.75)
    ((node, share),) = time_shares(graph, [entry]).items()
    assert (node.op_type, share) == ("MatMul", 0.75)


def two_inputs_without_names():
    nodes = [helper.make_node("MatMul", ["x", "z"], ["t"]), helper.make_node("Exp", ["t"], ["y"])]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", ("N", 8)), ("z", (8, 8)))]
    graph = helper.make_graph(nodes, "g", values, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_graph_without_names():
    times = quant.layer_times(two_inputs_without_names().SerializeToString(), seconds=SECONDS, ceilings=False)
    assert [row.ops for row in times.layers] == [("MatMul",), ("Exp",)]
    assert times.mapped == pytest.approx(1.0)
    assert times.ceilings is None
    assert times.most_limited == ()
    assert times.layers[0].macs == 64
    assert times.to_dict()["ceilings"] is None


def test_names_of_layers_come_from_the_graph_where_it_has_no_modules():
    model = two_inputs_without_names()
    assert node_layers(model.graph.node) == ["MatMul_0", "Exp_0"]
    model.graph.node[0].name = "/encoder/proj/MatMul"
    assert node_layers(model.graph.node)[0] == "encoder.proj"


def test_costs_of_what_a_node_holds_are_its_own():
    body = helper.make_graph(
        [helper.make_node("MatMul", ["x", "x"], ["m"])], "b", [],
        [helper.make_tensor_value_info("m", TensorProto.FLOAT, (4, 4))],
    )  # fmt: skip
    nodes = [helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)]
    values = [("c", TensorProto.BOOL, ()), ("x", TensorProto.FLOAT, (4, 4))]
    inputs = [helper.make_tensor_value_info(*value) for value in values]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, (4, 4))])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert node_costs(model).macs == {"y": 64}
    times = quant.layer_times(model.SerializeToString(), seconds=SECONDS, ceilings=False)
    assert [row.ops for row in times.layers] == [("If",)]


class TestRefusals:
    def test_batch(self, model):
        fixed = two_inputs_without_names().SerializeToString()
        with pytest.raises(UsageError, match="'z' has a fixed size"):
            quant.layer_times(fixed, batch=4)
        with pytest.raises(UsageError, match="at least one"):
            quant.layer_times(model, batch=0)

    def test_time(self, model):
        with pytest.raises(UsageError, match="positive seconds"):
            quant.layer_times(model, seconds=0.0)

    def test_no_inputs(self, model):
        with pytest.raises(DataError, match="no inputs"):
            quant.layer_times(model, [])


def test_a_batch_of_several_inputs(model):
    times = quant.layer_times(model, batch=3, seconds=SECONDS, ceilings=False)
    assert {row.layer: row.macs for row in times.layers}["head"] == 3 * 16 * 64 * 4
