"""Models that fail, loop for ever or are called wrongly: an error that says where, and what to try."""

import warnings

import pytest
import torch
from torch import nn

from profiler import analyze
from profiler.backward import backward_pass
from profiler.errors import ModelError


class Calls(nn.Module):
    """A function as a module with one small layer."""

    def __init__(self, function):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.function = function

    def forward(self, x):
        return self.function(self, self.layer(x))


def endless(module, x):
    while x.shape[0]:
        x = module.layer(x)
    return x


def endless_by_value(module, x):
    while x.abs().sum() > -1:
        x = module.layer(x)
    return x


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("function", [endless, endless_by_value])
def test_a_loop_over_activations_is_stopped(function, backward, monkeypatch):
    monkeypatch.setattr("profiler.mode.MOST_CALLS", 1000)
    monkeypatch.setattr("profiler.backward.mode.MOST_CALLS", 1000)
    with pytest.raises(ModelError, match=r"1,000 operator calls.*without end"):
        (backward_pass if backward else analyze)(Calls(function), *([[(2, 4)]] if backward else [(2, 4)]))


def test_values_that_outgrow_the_machine_are_an_error(monkeypatch):
    def grows(_module, x):
        while x.abs().sum() > -1:
            x = torch.cat([x, x])
        return x

    monkeypatch.setattr("profiler.mode.physical_memory", lambda: 1 << 20)
    with pytest.raises(ModelError, match=r"aten\.\w+: .*half of this machine's memory; try smaller inputs"):
        analyze(Calls(grows), (2, 4))


ADVICE = {
    "a batch of one": (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)),
        lambda: [(1, 4)],
        "in 1 .BatchNorm1d., after",
    ),
    "and what to do": (
        lambda: nn.Sequential(nn.BatchNorm1d(4)),
        lambda: [(1, 4)],
        r"batch of 2 or more, or call model.eval\(\)",
    ),
    "too many inputs": (lambda: nn.Linear(4, 4), lambda: [(1, 4), (1, 4)], r"its forward takes \(input\)"),
    "tokens by size": (lambda: nn.Embedding(4, 2), lambda: [(1, 4)], r"torch.zeros\(1, 4, dtype=torch.int64\)"),
    "sizes": (lambda: nn.Linear(4, 4), lambda: [(1, 5)], "check the input sizes"),
    "a compressed input": (
        lambda: nn.Linear(2, 2),
        lambda: [torch.eye(2).to_sparse_coo().to_sparse_csc()],
        "sparse_csc tensor",
    ),
    "a nested input": (
        lambda: nn.Linear(2, 2),
        lambda: [torch.nested.nested_tensor([torch.ones(3, 2)])],
        "nested tensor.*padded",
    ),
    "calls itself": (lambda: Calls(lambda m, x: m(x)), lambda: [(2, 4)], "call itself without end"),
    "gradients": (
        lambda: Calls(lambda _, x: torch.autograd.grad(x.sum(), x)[0]),
        lambda: [(2, 4)],
        "gradients taken inside",
    ),
}


@pytest.mark.parametrize("name", ADVICE)
@pytest.mark.filterwarnings("ignore:.*(nested tensors|Sparse).*:UserWarning")
def test_errors_say_what_to_try(name):
    make, inputs, advice = ADVICE[name]
    with pytest.raises(ModelError, match=advice):
        analyze(make(), *inputs())


def test_quantized_layers_are_not_taken_for_free():
    quantization = torch.ao.quantization
    model = nn.Sequential(quantization.QuantStub(), nn.Conv2d(3, 4, 3)).eval()
    model.qconfig = quantization.get_default_qconfig("x86")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch has moved it to another package
        prepared = quantization.prepare(model)
        prepared(torch.ones(1, 3, 8, 8))
        model = quantization.convert(prepared)
    assert analyze(model, (1, 3, 8, 8)).uncounted["quantized.conv2d"] == 1
