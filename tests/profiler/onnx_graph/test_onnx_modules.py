"""A module and its export: the same MACs and parameters, module by module where the names say which is which."""

import importlib.util
import sys
import warnings
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from profiler import analyze, open_model
from profiler.onnx_graph import analyze_onnx

# Imported by path: test folders are no packages.
spec = importlib.util.spec_from_file_location("networks", Path(__file__).parents[2] / "e2e" / "networks.py")
networks = importlib.util.module_from_spec(spec)
sys.modules["networks"] = networks
spec.loader.exec_module(networks)


def exported(module, *inputs, optimize=True):
    """The graph that torch's exporter makes; every parameter is random, or equal ones would be stored once."""
    torch.manual_seed(0)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for parameter in module.parameters():
            parameter.copy_(torch.rand_like(parameter) * 0.1)
        program = torch.onnx.export(
            module.eval(), inputs, dynamo=True, opset_version=20, verbose=False, optimize=optimize
        )
    return program.model_proto


def per_module(profile, what):
    """Sums of the rows of each module, without those that have none."""
    sums = Counter()
    for layer in profile.layers:
        sums[layer.name] += getattr(layer, what)
    return +sums


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.PReLU(8))
        self.group = nn.Conv2d(8, 8, (3, 1), padding="same", dilation=(2, 1), groups=4)
        self.down = nn.Conv2d(8, 16, 3, 2, bias=False)
        self.up = nn.ConvTranspose2d(16, 8, 4, 2, 1, groups=2)
        self.head = nn.Conv2d(16, 4, 1)

    def forward(self, x):
        x = F.hardswish(self.stem(x))
        y = F.max_pool2d(F.silu(self.group(x)), 2, ceil_mode=True)
        y = F.interpolate(self.up(self.down(y)), x.shape[2:], mode="bilinear")
        return F.adaptive_avg_pool2d(self.head(torch.cat([x, y], 1)), 1).flatten(1)


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(50, 16)
        self.places = nn.Parameter(torch.zeros(1, 12, 16))
        self.encoder = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu")
        self.norm = nn.LayerNorm(16)

    def forward(self, ids):
        x = self.norm(self.encoder(self.words(ids) + self.places))
        return x @ self.words.weight.T


class Sequences(nn.Module):
    def __init__(self, kind, **options):
        super().__init__()
        self.rnn = kind(6, 8, batch_first=True, **options)
        self.head = nn.Linear(16 if options.get("bidirectional") else 8, 3)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


class Norms(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv1d(4, 8, 3)
        self.batch = nn.BatchNorm1d(8)
        self.group = nn.GroupNorm(2, 8)
        self.instance = nn.InstanceNorm1d(8, affine=True)

    def forward(self, x):
        return F.softmax(self.instance(F.gelu(self.group(self.batch(self.first(x))))), 1)


class Products(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(8, 12, bias=False), nn.Linear(8, 12)

    def forward(self, x):
        y = torch.einsum("bid,bjd->bij", self.left(x), self.right(x))
        return torch.bmm(y, x).mean(1)


CASES = {
    "convolutions": (Convolutions, (torch.rand(2, 3, 33, 29),)),
    "words": (Words, (torch.randint(0, 50, (2, 12)),)),
    "lstm": (lambda: Sequences(nn.LSTM), (torch.rand(3, 7, 6),)),
    "lstm both ways": (lambda: Sequences(nn.LSTM, bidirectional=True), (torch.rand(3, 7, 6),)),
    "gru": (lambda: Sequences(nn.GRU), (torch.rand(3, 7, 6),)),
    "norms": (Norms, (torch.rand(2, 4, 20),)),
    "products": (Products, (torch.rand(2, 5, 8),)),
}

QUICK = ("convolutions", "words", "lstm both ways", "norms")  # an export takes seconds
SOME = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CASES]
KEPT = ("convolutions", "gru", "products")  # what the exporter does not take apart into other operators


@pytest.mark.parametrize("name", SOME)
def test_a_module_and_its_export_agree(name):
    make, inputs = CASES[name]
    module = make()
    graph = analyze_onnx(exported(module, *inputs, optimize=name != "norms"), [tuple(i.shape) for i in inputs])
    ours = analyze(module, *inputs)
    assert graph.uncounted == {}
    assert graph.totals.macs == ours.totals.macs > 0
    assert per_module(graph, "macs") == per_module(ours, "macs")
    if name in KEPT:
        assert graph.totals.flops == ours.totals.flops
    assert graph.totals.params == ours.totals.params
    names = {layer.name for layer in graph.layers}
    assert names <= {n for n, _ in module.named_modules()}


@pytest.mark.slow
def test_work_on_constants_is_named():
    """The exporter unrolls an Elman network; its first step multiplies the zeros that it starts from."""
    module, x = Sequences(nn.RNN), torch.rand(3, 7, 6)
    graph = analyze_onnx(exported(module, x, optimize=False), [tuple(x.shape)])
    assert graph.totals.macs + 3 * 8 * 8 == analyze(module, x).totals.macs
    assert graph.notes == ("192 MACs on constants alone are not counted: a runtime does them once, as it loads",)


FIRST = "digits_unet"
ALL = [n if n == FIRST else pytest.param(n, marks=pytest.mark.slow) for n in networks.NAMES]


@pytest.mark.parametrize("name", ALL)
def test_the_reference_networks_agree(name):
    target, weights = networks.target(name)
    module = open_model(target, weights=weights).module
    x = torch.rand(networks.SIZE)
    ours = analyze(module, x)
    graph = analyze_onnx(exported(module, x), [networks.SIZE])
    assert graph.uncounted == {}
    assert graph.totals.macs == ours.totals.macs
    assert per_module(graph, "macs") == per_module(ours, "macs")
    # The exporter folds each batch norm into the layer before it: two numbers a channel become one, or none.
    norms = sum(m.num_features for m in module.modules() if isinstance(m, nn.BatchNorm2d))
    assert ours.totals.params - 2 * norms <= graph.totals.params <= ours.totals.params
    last = [layer for layer in ours.layers if layer.macs][-1].receptive_field
    assert [layer for layer in graph.layers if layer.macs][-1].receptive_field == last


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits_cnn", "digits_resnet"])
def test_unoptimized_exports_have_the_same_parameters(name):
    target, weights = networks.target(name)
    module = open_model(target, weights=weights).module
    graph = analyze_onnx(exported(module, torch.rand(networks.SIZE), optimize=False), [networks.SIZE])
    assert graph.totals.params == sum(p.numel() for p in module.parameters())
    assert per_module(graph, "params") == per_module(analyze(module, torch.rand(networks.SIZE)), "params")
