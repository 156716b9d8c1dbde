"""What the report says about each node, against the graph that ONNX Runtime made."""

import numpy as np
import pytest
import torch
from torch import nn

from quant.agreement import relative_difference, simulation_gap
from quant.explain import explain, layer_of
from quant.export import export_onnx
from quant.graph import prepare, to_bytes
from quant.place import cpu
from quant.place.lower import lower
from quant.place.plan import Decision, Mode, Operands, Plan


def explained(bench, model, plan, x):
    quantized = bench.quantize(model, plan, x)
    return explain(model, plan, quantized), quantized


@pytest.fixture
def constants(rng):
    return {name: rng.standard_normal((4, 4, 3, 3)).astype(np.float32) for name in "uvw"}


@pytest.fixture
def x(rng):
    return rng.standard_normal((2, 4, 12, 12)).astype(np.float32)


def test_every_node_has_its_row(bench, constants, x):
    nodes = (
        ("Conv", "x u", "a"),
        ("Relu", "a", "b"),
        ("MaxPool", "b", "c", {"kernel_shape": [2, 2]}),
        ("Conv", "c v", "d"),
        ("Sin", "d", "e"),
        ("Conv", "e w", "y"),
    )
    model = bench.prepared(*nodes, x=("N", 4, 12, 12), constants=constants)
    result, _ = explained(bench, model, cpu.candidates(model.graph)["full"], x)
    assert [(row.op, row.kernel) for row in result.rows] == [
        ("Conv", "int8"),
        ("Relu", "int8"),
        ("MaxPool", "int8"),
        ("Conv", "int8"),
        ("Sin", "float"),
        ("Conv", "int8"),
    ]
    assert [row.reason for row in result.rows][3] == "QLinearConv"
    assert result.rows[4].reason == "there is no int8 kernel for Sin"
    assert result.operators["QLinearConv"] == 3
    assert result.conversions == 4
    assert result.unfused == ()


def test_a_pattern_that_does_not_fuse_is_told(bench, constants, x):
    """A plan that quantizes what ONNX Runtime has no kernel for."""
    model = bench.prepared(
        ("Conv", "x u", "a"), ("Sin", "a", "b"), ("Conv", "b v", "y"), x=("N", 4, 12, 12), constants=constants
    )
    full = cpu.candidates(model.graph)["full"]
    wrong = Plan("wrong", {**full.nodes, "Sin_b": Decision(Mode.STATIC, operands=Operands())}, full.tensors)
    result, _ = explained(bench, model, wrong, x)
    assert [row.name for row in result.unfused] == ["Sin_b"]
    assert result.unfused[0].kernel == "float"
    assert "runs Sin in float" in result.unfused[0].reason


def test_int8_that_was_not_planned_is_told(bench, constants, x):
    """ONNX Runtime takes whatever stands between DQ and Q."""
    model = bench.prepared(
        ("Conv", "x u", "a"), ("Sigmoid", "a", "b"), ("Conv", "b v", "y"), x=("N", 4, 12, 12), constants=constants
    )
    plan = cpu.candidates(model.graph)["float-elementwise"]
    result, _ = explained(bench, model, plan, x)
    assert plan.nodes["Sigmoid_b"].kernel == "float"
    assert result.rows[1].kernel == "int8"
    assert "QLinearSigmoid" in result.rows[1].reason


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Hardswish())
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.body(self.stem(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def exported():
    torch.manual_seed(0)
    return lower(prepare(export_onnx(Small(), (torch.randn(2, 3, 8, 8),)).model))


def test_layers_are_paths_of_modules(exported):
    layers = {node.op_type: layer_of(node) for node in exported.graph}
    convolutions = [layer_of(node) for node in exported.graph if node.op_type == "Conv"]
    assert convolutions == ["stem.0", "body.0"]
    assert layers["Relu"] == "stem.2"
    assert layers["Clip"] == "body.2"
    assert layers["Gemm"] == "head"


def test_files_from_elsewhere_have_no_layers(bench):
    (node,) = bench.prepared(("Relu", "x", "y")).graph
    assert layer_of(node) == ""
    node.metadata_props["pkg.torch.onnx.name_scopes"] = "not a [list"
    assert layer_of(node) == ""


def test_the_kernels_do_what_the_file_says(bench, exported, rng):
    x = rng.standard_normal((4, 3, 8, 8)).astype(np.float32)
    quantized = bench.quantize(exported, cpu.candidates(exported.graph)["full"], x)
    name = exported.graph.inputs[0].name
    assert simulation_gap(to_bytes(quantized), [{name: x}]) < 0.02


@pytest.mark.parametrize(
    ("expected", "got", "difference"),
    [
        ([1.0, -4.0], [1.0, -4.0], 0.0),
        ([1.0, -4.0], [2.0, -4.0], 0.25),
        ([np.nan, 2.0, np.inf], [np.nan, 2.0, np.inf], 0.0),
        ([np.nan, 2.0], [0.0, 2.0], np.inf),
        ([0.0, 0.0], [0.0, 1e-9], np.inf),
        ([], [], 0.0),
    ],
)
def test_relative_difference(expected, got, difference):
    assert relative_difference(np.float32(expected), np.float32(got)) == difference
