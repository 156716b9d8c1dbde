"""Compiled modules and functions are counted as they are written, under the names that they were written with."""

import pytest
import torch
from torch import nn

from profiler import analyze


def network():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


class Holds(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)


class Written(Holds):
    @torch.compile(backend="eager")
    def forward(self, x):
        return self.net(x)


def compiled(module):
    return torch.compile(module, backend="eager")


def in_place(module):
    module.compile(backend="eager")
    return module


CASES = {
    "itself": (lambda: compiled(network()), network),
    "a submodule": (lambda: Holds(compiled(network())), lambda: Holds(network())),
    "in place": (lambda: in_place(network()), network),
    "a submodule in place": (lambda: Holds(in_place(network())), lambda: Holds(network())),
    "its forward": (lambda: Written(network()), lambda: Written(network())),
    "behind a wrapper": (lambda: nn.DataParallel(compiled(network())), lambda: nn.DataParallel(network())),
}


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_a_compiled_model_has_the_profile_of_what_was_compiled(name, backward):
    model, plain = CASES[name][0](), CASES[name][1]()
    before = [dict(vars(m)["_modules"]) | vars(m) for m in model.modules()]
    profile = analyze(model, (2, 4), backward=backward)
    expected = analyze(plain, (2, 4), backward=backward)
    assert profile.to_dict() == expected.to_dict()
    assert profile.totals.macs == 2 * (4 * 8 + 8 * 2)
    assert not [row.name for row in profile.layers if "_orig_mod" in row.name]
    assert [dict(vars(m)["_modules"]) | vars(m) for m in model.modules()] == before


@pytest.mark.parametrize("peer", ["fvcore", "torch"])
@pytest.mark.parametrize("name", ["itself", "a submodule", "in place", "a submodule in place"])
def test_peers_are_run_on_what_was_compiled(name, peer):
    assert analyze(CASES[name][0](), (2, 4)).crosscheck(peer).status == "reconciled"


def test_nothing_is_compiled():
    def refuses(_graph, _inputs):
        raise AssertionError("compiled")

    function = torch.compile(torch.relu, backend=refuses)
    (row,) = analyze(Holds(function), (2, 4)).layers
    assert row.op == "relu"
