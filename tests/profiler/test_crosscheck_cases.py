"""Both peers on small modules, one for every documented rule and blind spot; the figures are worked out by hand.

Each case gives our multiply-accumulates, what fvcore counts ("" and the error's name where it fails) and what torch's
counter counts, in multiply-accumulates.
"""

import dataclasses
import warnings
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint

from profiler import analyze


class Does(nn.Module):
    """A module whose forward is a function of it and its inputs."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args, **kwargs):
        return self.function(self, *args, **kwargs)


class Case(NamedTuple):
    model: object
    inputs: object
    macs: int
    fvcore: object
    torch: int


def op(function):
    return lambda: Does(lambda _, *args: function(*args))


def with_linear(function, size=4):
    return lambda: Does(function, l=nn.Linear(size, size), m=nn.Linear(size, size))


def einsum(equation):
    return op(lambda *operands: torch.einsum(equation, *operands))


@dataclasses.dataclass
class Out:
    tensor: torch.Tensor
    number: int = 3


class Held:
    def __init__(self, tensor):
        self.tensor = tensor


class Product(torch.autograd.Function):
    @staticmethod
    def forward(_ctx, x, w):
        return x @ w

    @staticmethod
    def backward(_ctx, grad):
        return grad, None


def unused_in_place(self, x):
    self.m(x).add_(1)
    table = torch.zeros(2, 4)
    table[0] = self.l(x)[0]
    return table.view(-1)


def written_in_parts(self, x):
    table = torch.zeros(3, 4)
    table[0:2] = self.l(x)
    table[2:3] = self.m(x[:1])
    return table.view(-1)


def overwritten(self, x):
    table = torch.zeros(2, 4)
    table.copy_(self.l(x))
    kept = table.clone()
    table.copy_(self.m(x))
    return kept


def written_state(self, x):
    self.kept[0:2] = self.l(x)
    self.scratch[0:2] = self.m(x)
    return self.m(x)


def stateful():
    model = Does(written_state, l=nn.Linear(4, 4), m=nn.Linear(4, 4))
    model.register_buffer("kept", torch.zeros(3, 4))
    model.register_buffer("scratch", torch.zeros(3, 4), persistent=False)
    return model


def two_owners():
    shared = nn.Linear(4, 4)
    return Does(
        lambda self, x: self.p(x) + self.q(x), p=nn.Sequential(shared), q=nn.Sequential(shared, nn.Linear(4, 4))
    )


def hooked():
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].register_forward_pre_hook(lambda _module, inputs: (inputs[0] @ torch.ones(4, 4),))
    model[0].register_forward_hook(lambda _module, _inputs, output: output @ torch.ones(4, 4))
    return model


def again(self, x, times=2):
    return self.l(x) if times == 0 else self.l(self(x, times - 1))


def mixed_precision(self, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return self.l(x)


def old_weight_norm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 4)))


def packed(rnn):
    return lambda: Does(lambda self, x: self.rnn(pack_padded_sequence(x, [5, 3], batch_first=True))[0].data, rnn=rnn())


def frozen(make):
    return lambda: make().eval()


IMAGE, TOKENS = (2, 4, 8, 8), (2, 5, 16)
CONV = 2 * 6 * 64 * 4 * 9
UP = 2 * 64 * 4 * 6 * 16
ATTENTION = 2 * 4 * 5 * 5 * (4 + 4)  # batch, heads, queries, keys, two products
HEADS = 2 * 5 * 16 * 16 * 4 + ATTENTION
ENCODER = HEADS + 2 * 5 * 2 * 16 * 32
NORMS = 2 * 5 * 16 * 5
LSTM = 2 * 5 * (4 * 16 * 8 + 4 * 16 * 16)
WIDE = 113 * 107 * 101 * 103

CASES = {
    # fvcore 2.1, 2.2.3; torch: convolution
    "convolution": Case(lambda: nn.Conv2d(4, 6, 3, padding=1), [IMAGE], CONV, CONV, CONV),
    "grouped and dilated": Case(lambda: nn.Conv1d(4, 8, 3, groups=2, dilation=2), [(2, 4, 20)], 1536, 1536, 1536),
    "three axes": Case(lambda: nn.Conv3d(2, 4, 3, stride=2), [(1, 2, 9, 9, 9)], 13824, 13824, 13824),
    "no batch": Case(lambda: nn.Conv2d(4, 6, 3), [(4, 8, 8)], 7776, 7776, 7776),
    "padding same": Case(lambda: nn.Conv2d(4, 6, 3, padding="same"), [IMAGE], CONV, 0, CONV),
    "padding valid": Case(lambda: nn.Conv2d(4, 6, 3, padding="valid"), [IMAGE], 15552, 0, 15552),
    "circular": Case(lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), [IMAGE], CONV, CONV, CONV),
    "transposed": Case(lambda: nn.ConvTranspose2d(4, 6, 4, 2, 1), [IMAGE], UP, UP, UP),
    "transposed grouped": Case(lambda: nn.ConvTranspose2d(4, 6, 4, 2, 1, groups=2), [IMAGE], UP // 2, UP // 2, UP // 2),
    "bfloat16": Case(lambda: nn.Conv2d(4, 6, 3).bfloat16(), [torch.ones(IMAGE).bfloat16()], 15552, 15552, 15552),
    # Products: fvcore 2.2.5, 2.2.6, 2.2.8; torch: vectors are 0
    "linear": Case(lambda: nn.Linear(8, 5), [(3, 8)], 120, 120, 120),
    "linear on three axes": Case(lambda: nn.Linear(8, 5), [(2, 3, 8)], 240, 240, 240),
    "linear without bias": Case(lambda: nn.Linear(8, 5, bias=False), [(2, 3, 4, 8)], 960, 960, 960),
    "linear on a vector": Case(lambda: nn.Linear(8, 5, bias=False), [(8,)], 40, 40, 40),
    "mm": Case(op(torch.mm), [(4, 8), (8, 5)], 160, 160, 160),
    "bmm": Case(op(torch.bmm), [(3, 4, 8), (3, 8, 5)], 480, 480, 480),
    "addmm": Case(op(lambda a, b: torch.addmm(torch.ones(5), a, b)), [(4, 8), (8, 5)], 160, 160, 160),
    "baddbmm": Case(op(lambda a, b: torch.baddbmm(torch.ones(5), a, b)), [(3, 4, 8), (3, 8, 5)], 480, 0, 480),
    "addbmm": Case(op(lambda a, b: torch.addbmm(torch.ones(5), a, b)), [(3, 4, 8), (3, 8, 5)], 480, 0, 0),
    "matmul": Case(op(torch.matmul), [(4, 8), (8, 5)], 160, 160, 160),
    "matmul of stacks": Case(op(torch.matmul), [(3, 4, 8), (3, 8, 5)], 480, 480, 480),
    "matmul of a smaller left": Case(op(torch.matmul), [(4, 8), (3, 8, 5)], 480, 160, 480),
    "matmul of a broadcast left": Case(op(torch.matmul), [(1, 4, 8), (3, 8, 5)], 480, 160, 480),
    "vector by matrix": Case(op(torch.matmul), [(8,), (8, 5)], 40, 40, 40),
    "vector by stack": Case(op(torch.matmul), [(8,), (3, 8, 5)], 120, 40, 120),
    "matrix by vector": Case(op(torch.matmul), [(4, 8), (8,)], 32, "IndexError", 0),
    "stack by vector": Case(op(torch.matmul), [(3, 4, 8), (8,)], 96, "IndexError", 0),
    "turned stack by vector": Case(op(lambda a, b: a.transpose(0, 1) @ b), [(3, 4, 8), (8,)], 96, "IndexError", 96),
    "product of integers": Case(op(lambda x: (x @ x).float()), [torch.ones(4, 4, dtype=torch.int64)], 0, 64, 64),
    "mv": Case(op(torch.mv), [(4, 8), (8,)], 32, 0, 0),
    "dot": Case(op(torch.dot), [(8,), (8,)], 8, 0, 0),
    "addmv": Case(op(lambda a, b: torch.addmv(torch.ones(4), a, b)), [(4, 8), (8,)], 32, 0, 0),
    "outer": Case(op(torch.outer), [(8,), (5,)], 0, 0, 0),
    "bilinear": Case(lambda: nn.Bilinear(4, 5, 6), [(3, 4), (3, 5)], 3 * 6 * 5 * 5, 0, 0),
    "cdist": Case(op(torch.cdist), [(3, 30, 4), (3, 30, 4)], 0, 0, 0),
    "tensordot": Case(
        op(lambda a, b: torch.tensordot(a, b, dims=([2, 0], [0, 1]))), [(3, 4, 8), (8, 3, 5)], 480, 0, 480
    ),
    "half": Case(lambda: nn.Linear(4, 4).half(), [torch.ones(2, 4).half()], 32, 32, 32),
    "mixed precision": Case(with_linear(mixed_precision), [(2, 4)], 32, 32, 32),
    # einsum: fvcore 2.1, 2.2.7
    "einsum pattern 1": Case(einsum("abc,abd->acd"), [(2, 3, 4), (2, 3, 5)], 120, 120, 120),
    "einsum pattern 2": Case(einsum("abc,adc->adb"), [(2, 3, 4), (2, 5, 4)], 120, 120, 120),
    "einsum": Case(einsum("bhqd, bhkd -> bhqk"), [(2, 3, 4, 5), (2, 3, 6, 5)], 720, 720, 720),
    "einsum of four digits": Case(einsum("mij,mjk->ik"), [(113, 107, 101), (113, 101, 103)], WIDE, 125_800_000, WIDE),
    "einsum by a vector": Case(einsum("ij,j->i"), [(4, 5), (5,)], 20, 20, 20),
    "einsum without a sum": Case(einsum("ij,ij->ij"), [(4, 8), (4, 8)], 0, 16, 0),
    "einsum that transposes": Case(einsum("ij->ji"), [(4, 5)], 0, 10, 0),
    "einsum over an index 1 long": Case(einsum("bxd,byd->bxy"), [(2, 3, 1), (2, 4, 1)], 24, 24, 0),
    "einsum that sums first": Case(einsum("bnd,bmd->"), [(2, 3, 4), (2, 5, 4)], 120, 120, 8),
    "einsum of three": Case(einsum("ij,jk,kl->il"), [(4, 5), (5, 6), (6, 7)], 288, 288, 288),
    "einsum with dots": Case(einsum("...d,de->...e"), [(2, 3, 4), (4, 5)], 120, 120, 120),
    # Norms, resampling, pools: fvcore 2.1, 2.2.9 to 2.2.11
    "batch norm": Case(frozen(lambda: nn.BatchNorm2d(8)), [(2, 8, 4, 4)], 0, 512, 0),
    "batch norm in training": Case(lambda: nn.BatchNorm2d(8), [(2, 8, 4, 4)], 0, 1280, 0),
    "batch norm without weights": Case(frozen(lambda: nn.BatchNorm2d(8, affine=False)), [(2, 8, 4, 4)], 0, 256, 0),
    "batch norm without statistics": Case(
        frozen(lambda: nn.BatchNorm2d(8, track_running_stats=False)), [(2, 8, 4, 4)], 0, 1280, 0
    ),
    "layer norm": Case(lambda: nn.LayerNorm(8), [(2, 4, 8)], 0, 320, 0),
    "layer norm without weights": Case(lambda: nn.LayerNorm(8, elementwise_affine=False), [(2, 4, 8)], 0, 256, 0),
    "layer norm of one axis": Case(lambda: nn.LayerNorm(8), [(8,)], 0, "AssertionError", 0),
    "layer norm of six axes": Case(lambda: nn.LayerNorm(8), [(1, 1, 1, 1, 2, 8)], 0, "AssertionError", 0),
    "group norm": Case(lambda: nn.GroupNorm(2, 8), [(2, 8, 4, 4)], 0, 1280, 0),
    "instance norm": Case(lambda: nn.InstanceNorm2d(8), [(2, 8, 4, 4)], 0, 1024, 0),
    "rms norm": Case(lambda: nn.RMSNorm(8), [(2, 8)], 0, 0, 0),
    "nearest": Case(op(lambda x: F.interpolate(x, scale_factor=2.0)), [(1, 2, 5, 5)], 0, 200, 0),
    "bilinear upsampling": Case(
        op(lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear")), [(1, 2, 5, 5)], 0, 800, 0
    ),
    "bicubic": Case(op(lambda x: F.interpolate(x, scale_factor=2.0, mode="bicubic")), [(1, 2, 5, 5)], 0, 0, 0),
    "area": Case(op(lambda x: F.interpolate(x, size=3, mode="area")), [(1, 2, 5, 5)], 0, 50, 0),
    "adaptive average": Case(lambda: nn.AdaptiveAvgPool2d(2), [(1, 2, 8, 8)], 0, 128, 0),
    "adaptive average of one axis": Case(lambda: nn.AdaptiveAvgPool1d(2), [(1, 2, 8)], 0, 0, 0),
    "grid sample": Case(
        op(lambda x, g: F.grid_sample(x, g, mode="nearest", align_corners=False)),
        [(1, 2, 5, 5), (1, 10, 10, 2)],
        0,
        800,
        0,
    ),
    # Attention: fvcore 2.2.1, 2.2.2; torch: right on tensors without storage
    "attention": Case(
        op(F.scaled_dot_product_attention), [(2, 3, 4, 8), (2, 3, 6, 8), (2, 3, 6, 7)], 2 * 3 * 4 * 6 * 15, 0, 2160
    ),
    "causal": Case(
        op(lambda q: F.scaled_dot_product_attention(q, q, q, is_causal=True)), [(2, 3, 4, 8)], 1536, 0, 1536
    ),
    "grouped queries": Case(
        op(lambda q, k: F.scaled_dot_product_attention(q, k, k, enable_gqa=True)),
        [(2, 6, 4, 8), (2, 2, 4, 8)],
        3072,
        0,
        3072,
    ),
    "heads": Case(
        frozen(lambda: Does(lambda s, x: s.a(x, x, x)[0], a=nn.MultiheadAttention(16, 4, batch_first=True))),
        [TOKENS],
        HEADS,
        HEADS,
        HEADS,
    ),
    "heads without weights": Case(
        frozen(
            lambda: Does(
                lambda s, x: s.a(x, x, x, need_weights=False)[0], a=nn.MultiheadAttention(16, 4, batch_first=True)
            )
        ),
        [TOKENS],
        HEADS,
        HEADS - ATTENTION,
        HEADS,
    ),
    "encoder layer": Case(
        frozen(lambda: nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)),
        [TOKENS],
        ENCODER,
        ENCODER - ATTENTION + 2 * NORMS,
        ENCODER,
    ),
    # Recurrences: fvcore 2.2.4
    "lstm": Case(lambda: nn.LSTM(8, 16, batch_first=True), [(2, 5, 8)], LSTM, 0, LSTM),
    "lstm both ways": Case(lambda: nn.LSTM(8, 16, bidirectional=True), [(5, 2, 8)], 2 * LSTM, 0, 2 * LSTM),
    "lstm with projection": Case(lambda: nn.LSTM(8, 16, proj_size=4), [(5, 2, 8)], 8320, 0, 8320),
    "packed lstm": Case(packed(lambda: nn.LSTM(8, 16, batch_first=True)), [(2, 5, 8)], 12288, 0, 12288),
    "gru": Case(lambda: nn.GRU(8, 16), [(5, 2, 8)], LSTM * 3 // 4, 0, LSTM * 3 // 4),
    "rnn": Case(lambda: nn.RNN(8, 16), [(5, 8)], LSTM // 8, 0, LSTM // 8),
    # Tables and tied weights
    "embedding": Case(lambda: nn.Embedding(10, 4), [torch.zeros(2, 3, dtype=torch.int64)], 0, 0, 0),
    "tied": Case(
        lambda: Does(lambda s, i: F.linear(s.e(i), s.e.weight), e=nn.Embedding(10, 8)),
        [torch.zeros(1, 3, dtype=torch.int64)],
        240,
        240,
        240,
    ),
    # What the outputs do not depend on: fvcore 2.2.12
    "unused": Case(with_linear(lambda s, x: (s.l(x), s.m(x))[1]), [(2, 4)], 64, 32, 64),
    "unused, in place": Case(with_linear(unused_in_place), [(2, 4)], 64, 32, 64),
    "written in parts": Case(with_linear(written_in_parts), [(2, 4)], 48, 48, 48),
    "overwritten after use": Case(with_linear(overwritten), [(2, 4)], 64, 32, 64),
    "used for its size only": Case(with_linear(lambda s, x: x + torch.zeros_like(s.l(x))), [(2, 4)], 32, 32, 32),
    "written to buffers": Case(stateful, [(2, 4)], 96, 64, 96),
    # Modules: fvcore 2.2.15, 2.2.16
    "shared": Case(two_owners, [(2, 4)], 96, 96, 96),
    "forward()": Case(with_linear(lambda s, x: s.l.forward(s.m(x))), [(2, 4)], 64, 64, 64),
    "module list": Case(
        lambda: Does(lambda s, x: s.ls[0](x), ls=nn.ModuleList([nn.Linear(4, 4)])), [(2, 4)], 32, 32, 32
    ),
    "uncalled": Case(with_linear(lambda s, x: F.linear(x, s.l.weight)), [(2, 4)], 32, 32, 32),
    "made on the way": Case(op(lambda x: nn.Linear(4, x.shape[1])(x)), [(2, 4)], 32, 32, 32),
    "calls itself": Case(with_linear(again), [(2, 4)], 96, 96, 96),
    "hooks": Case(hooked, [(2, 4)], 96, 96, 96),
    "weight norm": Case(lambda: parametrizations.weight_norm(nn.Linear(4, 4)), [(2, 4)], 32, 32, 32),
    "weight norm of old": Case(old_weight_norm, [(2, 4)], 32, 32, 32),
    "data parallel": Case(lambda: nn.DataParallel(nn.Linear(4, 4)), [(2, 4)], 32, 32, 32),
    "checkpoint": Case(with_linear(lambda s, x: checkpoint(s.l, x, use_reentrant=False)), [(2, 4)], 32, 32, 32),
    # What goes in and comes out: fvcore 2.2.13, 2.2.17
    "by keyword only": Case(with_linear(lambda s, *, x, y=None: s.l(x)), {"x": torch.ones(2, 4)}, 32, 32, 32),
    "nests": Case(
        with_linear(lambda s, d: {"a": s.l(d["x"]), "b": [None, {"c": s.l(d["y"][0])}]}),
        [{"x": torch.ones(2, 4), "y": [torch.ones(3, 4)]}],
        80,
        80,
        80,
    ),
    "dataclass": Case(with_linear(lambda s, x: Out(s.l(x))), [(2, 4)], 32, 32, 32),
    "object": Case(with_linear(lambda s, x: Held(s.l(x))), [(2, 4)], 32, 32, 32),
    "no tensor inside": Case(
        lambda: Does(lambda s, x: s.inner(x)[0], inner=with_linear(lambda s, x: (s.l(x), "name", 3))()),
        [(2, 4)],
        32,
        32,
        32,
    ),
    "constant": Case(with_linear(lambda s, x: (s.l.weight, x, s.l(x))), [(2, 4)], 32, 32, 32),
    "autograd function": Case(
        lambda: Does(lambda s, x: Product.apply(s.l(x), torch.ones(4, 4)), l=nn.Linear(4, 4)), [(2, 4)], 64, 32, 64
    ),
    "branch on an integer": Case(
        with_linear(lambda s, x, mask: s.l(x[:, : int(mask.sum())])),
        [(2, 6), torch.ones(4, dtype=torch.int64)],
        32,
        32,
        32,
    ),
    "branch on an activation": Case(
        with_linear(lambda s, x: s.l(x) if s.m(x).abs().sum() >= 0 else x), [(2, 4)], 64, 32, 64
    ),
}


@pytest.mark.parametrize("peer", ["fvcore", "torch"])
@pytest.mark.parametrize("name", CASES)
def test_the_figure_is_the_one_worked_out_and_explained(name, peer):
    case = CASES[name]
    model = case.model()
    given = case.inputs
    profile = analyze(model, **given) if isinstance(given, dict) else analyze(model, *given)
    assert profile.totals.macs == case.macs
    check = profile.crosscheck(peer)
    expected = case.fvcore if peer == "fvcore" else 2 * case.torch
    if isinstance(expected, str):
        assert (check.status, check.reason.partition(":")[0]) == ("failed", expected)
        return
    assert (check.status, check.theirs) == ("reconciled", expected), (check.reason, check.rows)
    assert check.unexplained == 0
    assert check.ours + sum(term.amount for term in check.terms) == check.theirs
    assert sum(row.theirs for row in check.rows) == check.theirs
    assert sum(row.ours for row in check.rows) == check.ours
