"""fvcore's figure is predicted from its documented rules before it is read; what does not follow from them shows."""

import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from profiler import analyze
from profiler.errors import UsageError


class Everything(nn.Module):
    """Operators that fvcore counts as we do, otherwise, or not at all."""

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

    def forward(self, x):
        x = self.plain(self.norm(self.same(self.conv(x))))
        x = F.interpolate(self.up(self.group(self.instance(x))), scale_factor=2, mode="bilinear")
        x = F.interpolate(F.adaptive_avg_pool2d(x, 4), scale_factor=2, mode="nearest")
        x = self.lstm(x.flatten(2).transpose(1, 2))[0]
        x = self.encoder(x + self.attention(x, x, x)[0])
        x = torch.einsum("btd,de->bte", x, x.new_ones(32, 5)) @ torch.ones(5, 3)
        return (
            torch.bmm(x, x.transpose(1, 2)),
            torch.mm(x[0], torch.ones(3, 2)),
            torch.addmm(x[0], x[0], torch.ones(3, 3)),
        )


@pytest.mark.parametrize("training", [False, True])
def test_every_difference_is_explained(training):
    model = Everything().train(training)
    check = analyze(model, (2, 3, 16, 16)).crosscheck("fvcore")
    assert check.status == "reconciled", check.reason
    assert check.unexplained == 0
    assert check.ours + sum(term.amount for term in check.terms) == check.theirs
    assert len(check.terms) >= 8


# fvcore.nn.flop_count is also the name of a function, which hides the module.
TABLE = sys.modules["fvcore.nn.flop_count"]._DEFAULT_SUPPORTED_OPS
HANDLERS = [
    "aten::_convolution",
    "aten::linear",
    "aten::batch_norm",
    "aten::upsample_bilinear2d",
    "aten::bmm",
    "aten::mm",
]


@pytest.mark.parametrize("handler", HANDLERS)
def test_a_changed_handler_is_noticed(handler, monkeypatch):
    original = TABLE[handler]

    def changed(inputs, outputs):
        count = original(inputs, outputs)
        return {k: 2 * v for k, v in count.items()} if hasattr(count, "items") else 2 * count

    monkeypatch.setitem(TABLE, handler, changed)
    check = analyze(Everything().eval(), (2, 3, 16, 16)).crosscheck("fvcore")
    assert check.status == "unexplained"
    assert check.unexplained > 0


def test_a_handler_that_fvcore_gains_is_noticed(monkeypatch):
    monkeypatch.setitem(TABLE, "aten::relu", lambda inputs, outputs: 7)
    check = analyze(nn.Sequential(nn.ReLU()), (1, 4)).crosscheck("fvcore")
    assert [(row.op, row.theirs) for row in check.rows if row.unexplained] == [("relu", 7)]


def test_models_without_storage_are_skipped_with_the_reason():
    check = analyze(nn.Conv2d(1, 1, 1, device="meta"), (1, 1, 4, 4)).crosscheck()
    assert check.status == "skipped"
    assert "no storage" in check.reason


def test_a_run_that_does_not_fit_is_skipped(monkeypatch):
    monkeypatch.setattr("profiler.crosscheck.fvcore.available_memory", lambda: 1000)
    check = analyze(nn.Conv2d(1, 1, 1), (1, 1, 64, 64)).crosscheck()
    assert (check.status, "GiB" in check.reason) == ("skipped", True)


def test_a_peer_that_fails_says_why_and_leaves_no_hooks():
    class Vector(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.ReLU()

        def forward(self, x):
            return torch.matmul(self.inner(x), x[0])

    model = Vector()
    check = analyze(model, (3, 4)).crosscheck("fvcore")
    assert (check.status, check.reason.partition(":")[0]) == ("failed", "IndexError")
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


def test_unknown_peers_are_named():
    with pytest.raises(UsageError, match="fvcore"):
        analyze(nn.ReLU(), (1,)).crosscheck("abacus")
