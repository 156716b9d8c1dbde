"""A peer's figure is predicted from its documented rules before it is read; what does not follow from them shows."""

import random
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import flop_registry

from profiler import analyze
from profiler.analyzer import Subject
from profiler.crosscheck import PEERS, peers
from profiler.errors import UsageError


class Everything(nn.Module):
    """Operators that the peers count as we do, otherwise, or not at all; and what a run leaves behind in a model."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.same = nn.Conv2d(8, 8, 3, padding="same", groups=2)
        self.norm = nn.BatchNorm2d(8)
        self.plain = nn.BatchNorm2d(8, affine=False)
        self.group = nn.GroupNorm(2, 8)
        self.instance = nn.InstanceNorm2d(8)
        self.up = nn.ConvTranspose2d(8, 8, 2, 2, groups=4)
        self.lstm = nn.LSTM(8, 16, batch_first=True, bidirectional=True)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("last", torch.zeros(1), persistent=False)
        self.seen = [0]
        self.cached = None

    def forward(self, x):
        self.calls += 1
        self.seen.append(1)
        random.random()
        np.random.rand()  # noqa: NPY002  # what a model may do
        x = self.plain(self.norm(self.same(self.conv(x))))
        x = F.interpolate(self.up(self.group(self.instance(x))), scale_factor=2, mode="bilinear")
        x = F.interpolate(F.adaptive_avg_pool2d(x, 2), scale_factor=2, mode="nearest")
        x = self.lstm(x.flatten(2).transpose(1, 2))[0]
        x = self.encoder(x + self.attention(x, x, x)[0])
        x = torch.einsum("btd,de->bte", x, x.new_ones(32, 5)) @ torch.ones(5, 3)
        x = F.dropout(x, 0.5, training=True)
        self.cached = x
        self.last = x.sum()[None]
        return (
            torch.bmm(x, x.transpose(1, 2)),
            torch.mm(x[0], torch.ones(3, 2)),
            torch.addmm(x[0], x[0], torch.ones(3, 3)),
        )


IMAGE = (2, 3, 8, 8)


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("training", [False, True])
def test_every_difference_is_explained(training, peer):
    check = analyze(Everything().train(training), IMAGE).crosscheck(peer)
    assert check.status == "reconciled", check.reason
    assert check.unexplained == 0
    assert check.ours + sum(term.amount for term in check.terms) == check.theirs
    assert all(term.reason and term.amount and term.calls for term in check.terms)


def test_torchs_counter_is_run_without_storage_and_in_its_own_unit():
    check = analyze(Everything(), IMAGE).crosscheck("torch")
    assert check.run == "tensors without storage"
    assert check.theirs == 2 * check.ours
    assert [(term.amount, "two operations" in term.reason) for term in check.terms] == [(check.ours, True)]


def test_all_means_every_peer():
    assert set(peers("all")) == {"fvcore", "torch"}
    assert peers("torch") == ("torch",)
    assert peers("none") == ()
    with pytest.raises(UsageError, match="fvcore"):
        peers("abacus")


def test_modules_that_share_go_where_the_peer_books_them():
    shared = nn.Linear(4, 4)
    model = nn.Sequential(nn.Sequential(shared), nn.ReLU(), nn.Sequential(shared, nn.Linear(4, 2)))
    profile = analyze(model, (2, 4))
    assert {(r.name, r.theirs) for r in profile.crosscheck("fvcore").rows} == {("0.0", 64), ("2.1", 16)}
    # torch's tracker names a module by the last place it hangs in, and books under the callers
    assert {(r.name, r.theirs) for r in profile.crosscheck("torch").rows} == {
        ("0", 64),
        ("2", -64),
        ("2.0", 128),
        ("2.1", 32),
    }


# A handler that changed, vanished or came -------------------------------------------------------------------------

# fvcore.nn.flop_count is also the name of a function, which hides the module.
FVCORE = sys.modules["fvcore.nn.flop_count"]._DEFAULT_SUPPORTED_OPS
ATEN = torch.ops.aten
HANDLERS = [
    ("fvcore", FVCORE, "aten::_convolution"),
    ("fvcore", FVCORE, "aten::linear"),
    ("fvcore", FVCORE, "aten::matmul"),
    ("fvcore", FVCORE, "aten::einsum"),
    ("fvcore", FVCORE, "aten::batch_norm"),
    ("fvcore", FVCORE, "aten::layer_norm"),
    ("fvcore", FVCORE, "aten::group_norm"),
    ("fvcore", FVCORE, "aten::upsample_bilinear2d"),
    ("fvcore", FVCORE, "aten::adaptive_avg_pool2d"),
    ("fvcore", FVCORE, "aten::bmm"),
    ("fvcore", FVCORE, "aten::mm"),
    ("torch", flop_registry, ATEN.convolution),
    ("torch", flop_registry, ATEN.mm),
    ("torch", flop_registry, ATEN.addmm),
    ("torch", flop_registry, ATEN.bmm),
]
NAMES = [f"{peer}-{handler}" for peer, _, handler in HANDLERS]


@pytest.fixture(scope="module")
def profile():
    return analyze(Everything().eval(), IMAGE)


def fresh(profile, peer):
    profile._checks.clear()
    return profile.crosscheck(peer)


@pytest.mark.parametrize(("peer", "table", "handler"), HANDLERS, ids=NAMES)
def test_a_changed_handler_is_noticed(peer, table, handler, monkeypatch, profile):
    original = table[handler]

    def doubled(*args, **kwargs):
        count = original(*args, **kwargs)
        return Counter({k: 2 * v for k, v in count.items()}) if isinstance(count, Counter) else 2 * count

    monkeypatch.setitem(table, handler, doubled)
    check = fresh(profile, peer)
    assert (check.status, check.unexplained > 0) == ("unexplained", True)


@pytest.mark.parametrize(("peer", "table", "handler"), HANDLERS, ids=NAMES)
def test_a_handler_that_is_gone_is_noticed(peer, table, handler, monkeypatch, profile):
    monkeypatch.delitem(table, handler)
    check = fresh(profile, peer)
    assert (check.status, check.unexplained > 0) == ("unexplained", True)


GAINS = [
    *[("fvcore", FVCORE, f"aten::{name}") for name in ("add", "softmax", "lstm", "dropout")],
    *[("torch", flop_registry, op) for op in (ATEN.native_layer_norm, ATEN._softmax, ATEN.add, ATEN.cat)],
]


@pytest.mark.parametrize(("peer", "table", "handler"), GAINS, ids=[f"{peer}-{handler}" for peer, _, handler in GAINS])
def test_a_handler_that_a_peer_gains_is_noticed(peer, table, handler, monkeypatch, profile):
    monkeypatch.setitem(table, handler, lambda *_args, **_kwargs: 7)
    check = fresh(profile, peer)
    assert (check.status, check.unexplained > 0) == ("unexplained", True)


def test_the_row_says_where(monkeypatch):
    monkeypatch.setitem(FVCORE, "aten::relu", lambda inputs, outputs: 7)
    check = analyze(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), (1, 4)).crosscheck("fvcore")
    assert [(row.name, row.op, row.theirs) for row in check.rows if row.unexplained] == [("1", "relu", 7)]


# Peers that cannot run --------------------------------------------------------------------------------------------


def test_models_without_storage_are_for_torchs_counter_alone():
    profile = analyze(nn.Conv2d(1, 1, 1, device="meta"), (1, 1, 4, 4))
    check = profile.crosscheck("fvcore")
    assert check.status == "skipped"
    assert "no storage" in check.reason
    assert profile.crosscheck("torch").status == "reconciled"


def test_a_run_that_does_not_fit_is_skipped(monkeypatch):
    monkeypatch.setattr("profiler.crosscheck.real_inputs.available_memory", lambda: 1000)
    check = analyze(nn.Conv2d(1, 1, 1), (1, 1, 64, 64)).crosscheck()
    assert (check.status, "GiB" in check.reason) == ("skipped", True)


def test_an_exception_that_the_model_catches_does_not_end_the_process():
    class Tries(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(4, 4))

        def forward(self, x):
            try:
                return self.inner(x[:, :2])
            except RuntimeError:
                return self.inner(x)

    profile = analyze(Tries(), (2, 4))
    assert profile.crosscheck("fvcore").status == "skipped"
    assert profile.crosscheck("torch").status == "reconciled"


@pytest.mark.parametrize(("peer", "table", "handler"), [HANDLERS[1], HANDLERS[-1]], ids=["fvcore", "torch"])
def test_a_peer_that_fails_says_why(peer, table, handler, monkeypatch, profile):
    def broken(*_args, **_kwargs):
        raise ZeroDivisionError("no such thing\nsecond line")

    monkeypatch.setitem(table, handler, broken)
    check = fresh(profile, peer)
    assert check.status == "failed"
    assert check.theirs is None
    assert "ZeroDivisionError: no such thing" in check.reason
    assert "second line" not in check.reason


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(("peer", "table", "handler"), [HANDLERS[1], HANDLERS[-1]], ids=["fvcore", "torch"])
def test_nothing_of_the_model_or_of_chance_is_changed(peer, table, handler, fails, monkeypatch):
    model = Everything()
    model.norm.eval()
    model.conv.register_forward_hook(lambda *_: None)
    model.conv.weight.requires_grad_(requires_grad=False)
    profile = analyze(model, IMAGE)
    if fails:
        monkeypatch.setitem(table, handler, lambda *_args, **_kwargs: 1 / 0)
    before, chance = described(model), drawn_next()
    assert profile.crosscheck(peer).status == ("failed" if fails else "reconciled")
    assert described(model) == before
    assert drawn_next() == chance


def described(model):
    """Every attribute of every module by identity, and every value."""
    attributes = [{name: id(value) for name, value in vars(m).items()} for m in model.modules()]
    containers = [
        [(name, list(map(id, value))) for name, value in vars(m).items() if isinstance(value, list | dict)]
        for m in model.modules()
    ]
    hooks = [(list(m._forward_hooks), list(m._forward_pre_hooks), m.training) for m in model.modules()]
    tensors = [(n, id(t), t.requires_grad, t.device.type, t.tolist()) for n, t in tensors_by_name(model)]
    return attributes, containers, hooks, tensors


def tensors_by_name(model):
    return [*model.named_parameters(), *model.named_buffers()]


def drawn_next():
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002  # as above
    drawn = random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002  # as above
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002  # as above
    torch.set_rng_state(states[2])
    return drawn


def test_the_users_inputs_are_not_written_to():
    class Writes(nn.Module):
        def forward(self, x, table):
            table["ids"] += 1
            return x.mul_(2) @ x.t()

    x, ids = torch.ones(2, 2), torch.zeros(3, dtype=torch.int64)
    profile = analyze(Writes(), x, {"ids": ids})
    for peer in PEERS:
        assert profile.crosscheck(peer).status == "reconciled"
    assert (x.tolist(), ids.tolist()) == ([[1, 1], [1, 1]], [0, 0, 0])


@pytest.mark.parametrize("peer", PEERS)
def test_compiled_modules_are_run_as_they_are_written(peer):
    model = nn.Sequential(nn.Linear(4, 4))
    compiled = Subject(torch.compile(model, backend="eager"), ((2, 4),), {})
    check = replace(analyze(model, (2, 4)), subject=compiled).crosscheck(peer)
    assert (check.status, check.ours) == ("reconciled", 32)


def test_unknown_peers_are_named():
    with pytest.raises(UsageError, match="fvcore"):
        analyze(nn.ReLU(), (1,)).crosscheck("abacus")
