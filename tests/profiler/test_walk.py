"""The walk: what it sees, and that it leaves the model as it was."""

import gc

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from profiler import analyze
from profiler.aten import OPERATORS, find
from profiler.errors import FormulaError, ModelError, UsageError
from profiler.walk import walk


class Tangle(nn.Module):
    """A bit of everything: shared modules, functional code, tied weights, a branch on a mask's values."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.shared = nn.Conv2d(8, 8, 1, bias=False)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.embed = nn.Embedding(10, 8)
        self.register_buffer("order", torch.arange(16))

    def forward(self, x, *, ids=None):
        x = self.shared(F.gelu(self.shared(self.stem(x))))
        x = F.adaptive_avg_pool2d(x, 4).flatten(2).transpose(1, 2)
        if int(self.order.sum()) == 120:
            x = x + x[:, self.order]
        x, _ = self.attention(x, x, x, need_weights=False)
        if ids is not None:
            x = x + self.embed(ids).mean(1, keepdim=True)
        return {"logits": F.linear(x.mean(1), self.embed.weight)}


@pytest.fixture
def tangle():
    torch.manual_seed(0)
    return Tangle()


def snapshot(model):
    state = {k: v.clone() for k, v in model.state_dict().items()}
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), m.training) for m in model.modules()]
    return state, hooks, [id(p) for p in model.parameters()], torch.get_rng_state()


def assert_unchanged(model, before):
    state, hooks, identities, rng = before
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert hooks == [(len(m._forward_hooks), len(m._forward_pre_hooks), m.training) for m in model.modules()]
    assert identities == [id(p) for p in model.parameters()]
    assert torch.equal(rng, torch.get_rng_state())
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.is_grad_enabled()
    assert (torch.ones(1, requires_grad=True) * 2).requires_grad


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_alone(tangle, training):
    tangle.train(training)
    before = snapshot(tangle)
    profile = analyze(tangle, (2, 3, 8, 8), ids=torch.zeros(2, 5, dtype=torch.int64))
    profile.crosscheck("fvcore")
    assert_unchanged(tangle, before)


def test_the_model_is_left_alone_after_an_exception(tangle):
    before = snapshot(tangle)
    with pytest.raises(ModelError, match=r"stem\.0 \(Conv2d\)"):
        analyze(tangle, (2, 4, 8, 8))
    assert_unchanged(tangle, before)


def test_nothing_has_storage():
    model = nn.Sequential(*(nn.Linear(4096, 4096, device="meta") for _ in range(64)))
    assert analyze(model, (512, 4096)).totals.macs == 64 * 512 * 4096**2


def test_calls_are_attributed(tangle):
    profile = analyze(tangle.eval(), (2, 3, 8, 8), ids=torch.zeros(2, 5, dtype=torch.int64))
    convolutions = [(row.name, row.type, row.call) for row in profile.layers if row.op == "convolution"]
    assert convolutions == [("stem.0", "Conv2d", 0), ("shared", "Conv2d", 0), ("shared", "Conv2d", 1)]
    attention = [row.op for row in profile.layers if row.name == "attention"]
    assert attention == ["fully connected", "attention", "fully connected"]


def test_parameters_are_counted_once(tangle):
    profile = analyze(tangle, (2, 3, 8, 8), ids=torch.zeros(2, 5, dtype=torch.int64))
    assert profile.totals.params == sum(p.numel() for p in tangle.parameters())
    assert sum(row.params for row in profile.layers) == profile.totals.params
    assert [row.status for row in profile.layers if row.name == "embed"] == ["free"]
    assert profile.modules.params == profile.totals.params


def test_module_sums_add_up(tangle):
    profile = analyze(tangle, (2, 3, 8, 8))
    assert profile.modules.macs == profile.totals.macs == sum(row.macs for row in profile.layers)
    assert profile.modules.flops == profile.totals.flops == sum(row.flops for row in profile.layers)


def test_an_unknown_operator_is_listed_not_zeroed():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x)

    profile = analyze(Odd(), (2, 3))
    assert dict(profile.uncounted) == {"aten.special_bessel_j0": 1}
    assert [row.status for row in profile.layers] == ["uncounted"]


def test_a_wrong_size_formula_is_an_error_of_ours(monkeypatch):
    relu = find("aten.relu")
    broken = type(relu)(relu.op, relu.formula, relu.cost, lambda call: (1, 2, 3), relu.make)
    monkeypatch.setitem(OPERATORS, "aten.relu", broken)
    monkeypatch.setattr("profiler.mode.KNOWN", {})
    with pytest.raises(FormulaError, match=r"aten\.relu"):
        walk(nn.ReLU(), [(2, 2)], {}, lambda _: None, checked=True)


def test_peak_memory_of_a_chain():
    model = nn.Sequential(*(nn.Linear(100, 100) for _ in range(5)))
    totals = analyze(model, (10, 100)).totals
    assert totals.activation_bytes == 6 * 4000
    # The input is held by the caller; a layer's input and output are alive together.
    assert totals.peak_bytes == 3 * 4000


def test_no_tensor_outlives_the_walk(tangle):
    memory = walk(tangle, [(2, 3, 8, 8)], {}, lambda _: None)
    gc.collect()
    assert memory.live == 0


@pytest.mark.parametrize("call", [lambda: analyze(nn.ReLU()), lambda: analyze("model.pt", (1,))])
def test_wrong_use_is_explained(call):
    with pytest.raises(UsageError):
        call()


def test_masks_and_positions_made_on_the_way_keep_their_values():
    class Masked(nn.Module):
        def forward(self, x):
            mask = torch.zeros(x.shape[0], x.shape[1]).to(x.device).bool()
            order = (~mask).cumsum(1, dtype=torch.float32).to("cpu")
            rows = torch.arange(x.shape[1], device=x.device)
            return (x + order)[:, rows[rows > 1]] if bool((rows < 9).all()) else x

    assert analyze(Masked(), (2, 5)).layers[-1].op == "add"


def test_indices_beyond_a_table_are_refused():
    with pytest.raises(ModelError, match="4 rows"):
        analyze(nn.Embedding(4, 2), torch.tensor([[1, 7]]))


def test_integers_are_no_floating_point_operations():
    class Positions(nn.Module):
        def forward(self, x):
            return x + (torch.arange(x.shape[1]) + 1) * 2

    assert [row.op for row in analyze(Positions(), (2, 5)).layers] == ["add"]


def test_a_failing_receptive_field_rule_costs_the_field_not_the_counts(monkeypatch):
    def broken(_call, _fields):
        raise IndexError("pop from empty list")

    monkeypatch.setattr("profiler.known.rule_for", lambda _packet: broken)
    monkeypatch.setattr("profiler.mode.KNOWN", {})
    (row,) = analyze(nn.Conv2d(3, 8, 3), (1, 3, 8, 8)).layers
    assert row.macs == 8 * 3 * 9 * 36
    assert row.receptive_field.status == "unknown"
    assert "aten.conv2d (IndexError" in row.receptive_field.reason
    with pytest.raises(ModelError, match="IndexError"):
        walk(nn.Conv2d(3, 8, 3), [(1, 3, 8, 8)], {}, lambda _: None, checked=True)
