"""Receptive fields against running the network: impulses, and for one network plain gradients."""

from fractions import Fraction

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from profiler import analyze
from profiler.analyzer import Subject
from profiler.crosscheck.receptive import verify_receptive_fields
from profiler.receptive.view import NOTHING
from profiler.walk import walk


def check(model, shape):
    checks = verify_receptive_fields(Subject(model.eval(), (shape,), {}))
    assert checks
    assert [c for c in checks if not c.contained] == []
    assert [c for c in checks if c.status == "exact" and not c.equal] == []
    return checks


class Branches(nn.Module):
    """Strides, dilation, ceil mode, upsampling of three kinds, a skip, padding, a gate."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(1, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.c = nn.ConvTranspose2d(6, 4, 3, 2, 1, 1)
        self.d = nn.Conv2d(8, 4, 3, padding=2, dilation=2)
        self.e = nn.ConvTranspose2d(4, 4, 2, 3)

    def forward(self, x):
        a = F.relu(self.a(x))
        b = F.max_pool2d(self.b(a), 3, 2, 1, ceil_mode=True)
        b = F.interpolate(F.interpolate(b, scale_factor=2, mode="bilinear"), size=15, mode="nearest")
        c = self.c(F.pad(b, (1, 0, 0, 1)))
        x = self.d(torch.cat([c, a], 1)) + torch.roll(a, 3, 2)[:, :4]
        x = self.e(F.adaptive_avg_pool2d(x, 5))
        return x * x.mean((2, 3), keepdim=True)


def test_branches_agree_position_by_position():
    checks = check(Branches(), (1, 1, 32, 32))
    assert sum(c.status == "exact" for c in checks) >= 12


LAYERS = {
    "conv": lambda k, s, p, d: nn.Conv1d(1, 1, k, s, p, d),
    "pool": lambda k, s, p, _: nn.MaxPool1d(k, s, min(p, k // 2)),
    "ceil": lambda k, s, p, _: nn.AvgPool1d(k, s, min(p, k // 2), ceil_mode=True),
    "transposed": lambda k, s, p, d: nn.ConvTranspose1d(1, 1, k, s, min(p, d * (k - 1) // 2), dilation=d),
    "nearest": lambda k, s, p, d: nn.Upsample(scale_factor=s, mode="nearest"),
    "linear": lambda k, s, p, d: nn.Upsample(scale_factor=s + 0.5, mode="linear"),
    "corners": lambda k, s, p, d: nn.Upsample(size=k * 5, mode="linear", align_corners=True),
    "adaptive": lambda k, s, p, d: nn.AdaptiveAvgPool1d(k + 4),
    "reflect": lambda k, s, p, d: nn.ReflectionPad1d(1),
    "replicate": lambda k, s, p, d: nn.ReplicationPad1d((p, 1)),
}
layer = st.tuples(
    st.sampled_from(sorted(LAYERS)), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2)
)


@settings(max_examples=120, deadline=None)
@given(st.lists(layer, min_size=1, max_size=5), st.integers(9, 40))
def test_random_chains_agree_position_by_position(chain, size):
    model = nn.Sequential(*(LAYERS[kind](*numbers) for kind, *numbers in chain), nn.ReLU())
    try:
        length = model(torch.zeros(1, 1, size)).shape[-1]
    except (RuntimeError, ValueError):
        return
    if 0 < length < 2000:
        check(model, (1, 1, size))


def test_a_plain_gradient_says_the_same():
    """Independent of the impulses: autograd through positive weights, one output position after the other."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.AvgPool2d(2), nn.Conv2d(2, 2, 3, 2, 1), nn.Conv2d(2, 1, 3))
    model.double()
    for p in model.parameters():
        nn.init.uniform_(p, 0.1, 1.0)
    steps = []
    walk(model, [torch.empty(1, 1, 20, 20, dtype=torch.float64)], {}, steps.append)
    field = steps[-1].fields[0]
    x = torch.zeros(1, 1, 20, 20, dtype=torch.float64, requires_grad=True)
    out = model(x)
    for v in range(out.shape[2]):
        (gradient,) = torch.autograd.grad(out[0, 0, v, v], x, retain_graph=True)
        for axis in (0, 1):
            lit = np.flatnonzero(gradient[0, 0].numpy().any(axis=1 - axis))
            assert (lit[0], lit[-1]) == (field.true[axis].span.first[v], field.true[axis].span.last[v])


def last(model, shape):
    return analyze(model.eval(), shape).layers[-1].receptive_field


def test_the_textbook_recurrence():
    # r = 1 + sum (k - 1) * prod of earlier strides: 1 + 2 + 2*2 + 2*4 = 15, stride 8, start -1 - 2 - 4.
    field = last(nn.Sequential(*(nn.Conv2d(1, 1, 3, 2, 1) for _ in range(3))), (1, 1, 64, 64))
    assert (field.size, field.stride, field.start) == ((15, 15), (8, 8), (-7, -7))
    assert field.status == "exact"


def test_upsampling_has_a_fractional_stride():
    field = last(nn.Sequential(nn.Conv1d(1, 1, 3, padding=1), nn.Upsample(scale_factor=2)), (1, 1, 16))
    assert field.stride == (Fraction(1, 2),)
    assert field.to_dict()["stride"] == ["1/2"]


def test_gaps_of_a_transposed_convolution_see_nothing():
    steps = []
    walk(nn.ConvTranspose1d(1, 1, 1, stride=3), [(1, 1, 4)], {}, steps.append)
    span = steps[-1].fields[0].true[0].span
    assert list(span.first[:4]) == [0, NOTHING, NOTHING, 1]


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.squeeze = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        x = self.conv(x)
        return x * torch.sigmoid(self.squeeze(F.adaptive_avg_pool2d(x, 1)))


def test_a_gate_sees_everything_and_locally_its_window():
    field = last(Gate(), (1, 4, 16, 16))
    assert field.status == "whole-input"
    assert field.size == (16, 16)
    assert field.local.size == (3, 3)
    assert field.local.status == "exact"


class Windows(nn.Module):
    """Window attention: cut into windows, mix inside each, put back."""

    def forward(self, x):
        b, c, h, w = x.shape
        x = x.view(b, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
        x = F.scaled_dot_product_attention(x, x, x)
        x = x.view(b, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4)
        return x.reshape(b, c, h, w) + 1


def test_windows_survive_cutting_and_putting_back():
    steps = []
    walk(Windows(), [(1, 8, 16, 16)], {}, steps.append)
    view = steps[-1].fields[0].true[0]
    # Spread over the atoms (window, row in window): every row sees the four rows of its window.
    assert set((view.span.last - view.span.first).tolist()) == {3}
    assert view.exact


def test_flattening_and_unflattening_lose_nothing():
    class Tokens(nn.Module):
        def forward(self, x):
            tokens = F.avg_pool2d(x, 2).flatten(2).transpose(1, 2)
            return F.relu(tokens.transpose(1, 2).reshape(x.shape[0], -1, 8, 8))

    field = last(Tokens(), (1, 3, 16, 16))
    assert (field.size, field.stride, field.status) == ((2, 2), (2, 2), "exact")


def test_slices_of_concatenated_branches_know_which_branch_they_hold():
    class Split(nn.Module):
        def __init__(self, first, end):
            super().__init__()
            self.part = slice(first, end)

        def forward(self, x):
            both = torch.cat([x, F.avg_pool2d(x, 3, 1, 1)], 1)
            return F.relu(both[:, self.part])

    for part, size in {(0, 2): 1, (2, 4): 3, (1, 3): 3}.items():
        field = last(Split(*part), (1, 2, 8, 8))
        assert (field.size, field.status) == ((size, size), "exact")


def test_a_recurrence_sees_what_came_before():
    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(8, 4, batch_first=True)

        def forward(self, x):
            return self.lstm(x.squeeze(1))[0]

    steps = []
    walk(Rows(), [(1, 1, 6, 8)], {}, steps.append)
    rows = next(s for s in steps if s.call.packet == "aten.lstm").fields[0].true[0]
    assert rows.span.first.tolist() == [0] * 6
    assert rows.span.last.tolist() == list(range(6))


def test_an_embedding_keeps_the_positions():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.conv = nn.Embedding(10, 4), nn.Conv1d(4, 4, 3, padding=1)

        def forward(self, ids):
            return self.conv(self.table(ids).transpose(1, 2))

    field = analyze(Words(), torch.zeros(1, 12, dtype=torch.int64)).layers[-1].receptive_field
    assert (field.size, field.start, field.status) == ((3,), (-1,), "exact")


def test_unknown_operators_make_the_field_unknown():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x)

    assert last(Odd(), (1, 1, 8, 8)).status == "unknown"
