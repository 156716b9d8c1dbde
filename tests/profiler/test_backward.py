"""The backward pass: its counts against torch's counter, rules and hand formulas; that the model is left as it was."""

import re
from dataclasses import dataclass
from math import prod
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from profiler import analyze
from profiler.aten import OPERATORS
from profiler.aten.gradients import TABLE
from profiler.backward import backward_pass
from profiler.backward.counting import Pass
from profiler.backward.stand_ins import Keep
from profiler.errors import ModelError


def forward_macs(model, *shapes):
    return analyze(model, *shapes).totals.macs


def ops(backward, name=None):
    return [row.op for row in backward.layers if name is None or row.name == name]


def by_torchs_counter(model, *shapes):
    """Half the operations that torch's counter sees in the backward pass on tensors without storage."""
    model = model.to("meta")
    with FlopCounterMode(display=False) as forward:
        out = model(*(torch.empty(s, device="meta") for s in shapes))
    with FlopCounterMode(display=False) as backward:
        torch.autograd.backward(out, torch.ones_like(out))
    assert forward.get_total_flops() > 0
    return backward.get_total_flops() // 2


# Counts --------------------------------------------------------------------------------------------------------------


@st.composite
def convolutions(draw):
    axes = draw(st.integers(1, 3))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    transposed = draw(st.booleans())
    per = st.integers(1, 3)
    kind = getattr(nn, f"Conv{'Transpose' if transposed else ''}{axes}d")
    layer = kind(
        groups * draw(per),
        groups * draw(per),
        tuple(draw(per) for _ in range(axes)),
        stride=draw(st.integers(1, 2)),
        padding=draw(st.integers(0, 1)),
        dilation=draw(st.integers(1, 2)),
        groups=groups,
        bias=draw(st.booleans()),
    )
    return layer, (draw(st.integers(1, 3)), layer.in_channels, *(draw(st.integers(3, 6)) for _ in range(axes)))


@settings(max_examples=60)
@given(convolutions())
def test_each_gradient_of_a_convolution_takes_the_macs_of_the_convolution(case):
    layer, shape = case
    try:
        out = layer(torch.ones(shape)).shape
    except RuntimeError:
        assume(False)  # the window does not fit
    macs = forward_macs(layer, shape)
    weight_only = backward_pass(layer, [shape])
    assert weight_only.macs == macs
    assert weight_only.flops == 2 * macs + (prod(out) - out[1] if layer.bias is not None else 0)
    assert backward_pass(layer, [shape], inputs=True).macs == 2 * macs
    if layer.groups == 1:
        assert weight_only.macs == by_torchs_counter(layer, shape)


def test_backward_is_twice_forward_less_what_the_first_layer_saves():
    model = nn.Sequential(nn.Linear(7, 11), nn.ReLU(), nn.Linear(11, 13), nn.Tanh(), nn.Linear(13, 3))
    macs = forward_macs(model, (5, 7))
    assert backward_pass(model, [(5, 7)]).macs == 2 * macs - 5 * 7 * 11
    assert backward_pass(model, [(5, 7)], inputs=True).macs == 2 * macs


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)
        self.up = nn.ConvTranspose2d(4, 4, 2)
        self.mix = nn.Parameter(torch.zeros(4, 6, 6))

    def forward(self, x):
        x = F.gelu(self.up(F.relu(self.conv(x))))
        return torch.einsum("bchw,cwv->bchv", x, self.mix) @ x.transpose(-1, -2).mean(-1, keepdim=True)


def test_products_and_convolutions_agree_with_torchs_counter():
    assert backward_pass(Mixed(), [(2, 3, 11, 11)]).macs == by_torchs_counter(Mixed(), (2, 3, 11, 11))


class Attention(nn.Module):
    def __init__(self, width=8, value_width=8, dropout=0.0):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(4, width), nn.Linear(4, width), nn.Linear(4, value_width)
        self.dropout = dropout

    def forward(self, x, mask=None):
        q, k, v = (layer(x).unflatten(-1, (2, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=self.dropout)


def test_fused_attention_computes_its_scores_again():
    heads, length, width = 3 * 2, 5, 4
    backward = backward_pass(Attention(), [(3, 5, 4)])
    row = next(row for row in backward.layers if row.op == "attention backward")
    # Q K^T again, and the gradients of the values, the probabilities, the queries and the keys.
    assert row.macs == 5 * heads * length * length * width
    scores, per_query = heads * length**2, heads * length
    # scale, exp(s - log-sum), then (dP - D) P, scaled; D = sum of g times y
    assert row.flops == 2 * row.macs + 6 * scores + per_query * (2 * width - 1)
    assert backward.macs - row.macs == 3 * 15 * 4 * 8  # the weights' gradients; x needs none


def test_attention_with_dropout_is_composed_as_on_a_cpu():
    backward = backward_pass(Attention(dropout=0.5), [(3, 5, 4)])
    assert "attention backward" not in ops(backward)
    assert backward.macs == 2 * 2 * (6 * 5 * 5 * 4) + 3 * 15 * 4 * 8


def test_lstm():
    steps, batch, width, hidden = 6, 2, 3, 5
    backward = backward_pass(nn.LSTM(width, hidden), [(steps, batch, width)])
    weights = steps * batch * 4 * hidden * (width + hidden)
    states = (steps - 1) * batch * 4 * hidden * hidden  # the first state is given and needs no gradient
    assert backward.macs == weights + states
    assert not backward.uncounted


# Costs: each written out in torch, found equal to autograd's gradient, and counted by the forward walk --------------


class Written(nn.Module):
    def __init__(self, formula):
        super().__init__()
        self.formula = formula

    def forward(self, *args):
        return self.formula(*args)


ACTIVATIONS = {
    "relu": (F.relu, lambda g, x: torch.where(x > 0, g, 0.0)),
    "relu6": (F.relu6, lambda g, x: torch.where((x > 0).logical_and(x < 6), g, 0.0)),
    "leaky relu": (lambda x: F.leaky_relu(x, 0.1), lambda g, x: torch.where(x > 0, g, g * 0.1)),
    "elu": (F.elu, lambda g, x: torch.where(x > 0, g, x.exp() * 1.0 * g)),
    "silu": (F.silu, lambda g, x: g * (s := x.sigmoid()) * (x * (1 - s) + 1)),
    "mish": (
        F.mish,
        lambda g, x: g * ((t := F.softplus(x).tanh()) + x * x.sigmoid() * (1 - t * t)),
    ),
    "softplus": (F.softplus, lambda g, x: g * (z := x.exp()) / (z + 1)),
    "log sigmoid": (F.logsigmoid, lambda g, x: g * (z := (-x).exp()) / (z + 1)),
    "gelu": (
        F.gelu,
        lambda g, x: g * (((x * 0.5**0.5).erf() + 1) * 0.5 + x * (((x * x) * -0.5).exp() * (2 * torch.pi) ** -0.5)),
    ),
    "hardsigmoid": (
        F.hardsigmoid,
        lambda g, x: torch.where((x > -3).logical_and(x < 3), g * (1 / 6), 0.0),
    ),
    "hardswish": (
        F.hardswish,
        lambda g, x: torch.where(x < -3, 0.0, torch.where(x <= 3, g * (x * (1 / 3) + 0.5), g)),
    ),
    "hardshrink": (F.hardshrink, lambda g, x: torch.where((x < 0.5).logical_and(x > -0.5), 0.0, g)),
    "softshrink": (F.softshrink, lambda g, x: torch.where((x < 0.5).logical_and(x > -0.5), 0.0, g)),
}
OF_THE_RESULT = {
    "sigmoid": (torch.sigmoid, lambda g, y: g * y * (1 - y)),
    "tanh": (torch.tanh, lambda g, y: g * (1 - y * y)),
    "softmax": (lambda x: x.softmax(-1), lambda g, y: y * (g - (g * y).sum(-1, keepdim=True))),
    "log-softmax": (lambda x: x.log_softmax(-1), lambda g, y: g - y.exp() * g.sum(-1, keepdim=True)),
}


def assert_costs(function, written, *inputs):
    """`written` computes what autograd computes for `function`, and costs what its backward pass is counted at."""
    inputs = [x.double().requires_grad_() for x in inputs]
    out = function(*inputs)
    g = torch.rand_like(out)
    results = written(g, out.detach(), *[x.detach() for x in inputs])
    results = results if isinstance(results, tuple) else (results,)
    for result, expected in zip(results, torch.autograd.grad(out, inputs, g), strict=True):
        torch.testing.assert_close(result, expected)
    counted = backward_pass(Written(function), [x.detach() for x in inputs], inputs=True)
    assert not counted.uncounted
    shapes = [tuple(t.shape) for t in (g, out, *inputs)]
    assert counted.flops == analyze(Written(written), *shapes).totals.flops


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_cost_of_an_activation(name):
    function, written = ACTIVATIONS[name]
    assert_costs(function, lambda g, _y, x: written(g, x), torch.linspace(-4, 7, 12).reshape(3, 4) + 0.01)


@pytest.mark.parametrize("name", OF_THE_RESULT)
def test_cost_of_an_activation_that_keeps_its_result(name):
    function, written = OF_THE_RESULT[name]
    assert_costs(function, lambda g, y, _x: written(g, y), torch.linspace(-4, 7, 12).reshape(3, 4))


def test_cost_of_glu():
    def written(g, _y, x):
        a, b = x.chunk(2, -1)
        s = b.sigmoid()
        first = g * s
        return torch.cat([first, first * a * (1 - s)], -1)

    assert_costs(F.glu, written, torch.linspace(-4, 7, 24).reshape(3, 8))


def normalised(x, axes):
    """The normalised input and one over its deviation, neither of which the backward pass computes again."""
    deviation = (x.var(axes, unbiased=False, keepdim=True) + 1e-5).sqrt()
    return x.mean(axes, keepdim=True), 1 / deviation


def norm_gradients(g, x, mean, scale, axes, h):
    z = (x - mean) * scale
    return (h - h.mean(axes, keepdim=True) - z * (h * z).mean(axes, keepdim=True)) * scale, z


def test_cost_of_layer_norm():
    x, w, b = torch.rand(5, 6), torch.rand(6), torch.rand(6)
    mean, scale = normalised(x.double(), 1)

    def written(g, _y, x, w, _b):
        dx, z = norm_gradients(g, x, mean, scale, 1, g * w)
        return dx, (g * z).sum(0), g.sum(0)

    assert_costs(lambda x, w, b: F.layer_norm(x, (6,), w, b), written, x, w, b)


def test_cost_of_group_norm():
    x, w, b = torch.rand(2, 6, 4), torch.rand(6), torch.rand(6)
    mean, scale = normalised(x.double().view(2, 3, 8), 2)

    def written(g, _y, x, w, _b):
        grouped = (2, 3, 8)
        h = g * w[:, None]
        dx, z = norm_gradients(g, x.view(grouped), mean, scale, 2, h.view(grouped))
        return dx.view(2, 6, 4), (g * z.view(2, 6, 4)).sum((0, 2)), g.sum((0, 2))

    assert_costs(lambda x, w, b: F.group_norm(x, 3, w, b), written, x, w, b)


def test_cost_of_batch_norm_in_training():
    x, w, b = torch.rand(4, 3, 5), torch.rand(3), torch.rand(3)
    mean, scale = normalised(x.double(), (0, 2))

    def written(g, _y, x, w, _b):
        z = (x - mean) * scale
        db, dw = g.sum((0, 2)), (g * z).sum((0, 2))
        means = db / 20, dw / 20
        dx = (g - means[0][:, None] - z * means[1][:, None]) * (w[:, None] * scale)
        return dx, dw, db

    assert_costs(lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), written, x, w, b)


def test_cost_of_batch_norm_in_evaluation():
    x, w, b = torch.rand(4, 3, 5), torch.rand(3), torch.rand(3)
    running = torch.rand(3).double(), torch.rand(3).double() + 1
    scale = (1 / (running[1] + 1e-5).sqrt())[:, None]
    folded = w.double()[:, None] * scale

    def written(g, _y, x, _w, _b):
        z = (x - running[0][:, None]) * scale
        return g * folded, (g * z).sum((0, 2)), g.sum((0, 2))

    assert_costs(lambda x, w, b: F.batch_norm(x, *running, w, b), written, x, w, b)


@pytest.mark.parametrize(
    ("function", "cost"),
    [
        (lambda x: F.avg_pool2d(x, (2, 3)), 12 * 7),  # 4 x 3 outputs: a division and 6 additions each
        (lambda x: F.adaptive_avg_pool2d(x, (2, 4)), 8 * 1 + 2 * 4 * 3 * 4),  # windows of 4 x 3, rows 4+4, columns 3*4
        (lambda x: F.max_pool2d(x, 2), 4 * 4),
        (lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear"), 16 * 18 * 12),
        (lambda x: F.interpolate(x, scale_factor=2.0), 16 * 18),
        (lambda x: x[:, :, torch.tensor([0, 0, 3])], 3 * 9),
        (lambda x: x[:, :, 1:3], 0),
    ],
)
def test_cost_of_pools_interpolation_and_indexing(function, cost):
    backward = backward_pass(Written(function), [(1, 1, 8, 9)], inputs=True)
    assert backward.flops == cost
    assert not backward.uncounted


# The operators of a CPU ----------------------------------------------------------------------------------------------


def residual():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(
                nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
            )
            self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=4), nn.GroupNorm(2, 8), nn.Hardswish())
            self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(8, 5))

        def forward(self, x):
            x = self.stem(x)
            x = F.max_pool2d(x + self.deep(x), 2)
            return self.head(F.interpolate(x, scale_factor=2.0, mode="bilinear"))

    return Residual(), [(2, 3, 8, 8)]


def transformer():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu", dropout=0.0)
    return nn.Sequential(nn.Embedding(9, 8), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)), [
        torch.arange(10).view(2, 5) % 9
    ]


def channels_last():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, groups=4), nn.GELU())
    return model.to(memory_format=torch.channels_last), [torch.zeros(2, 3, 8, 8).to(memory_format=torch.channels_last)]


@pytest.mark.parametrize("make", [residual, transformer, channels_last, lambda: (Mixed(), [(2, 3, 11, 11)])])
@pytest.mark.parametrize("training", [True, False])
def test_the_operators_and_the_memory_are_those_of_a_run_on_a_cpu(make, training):
    model, args = make()
    model.train(training)
    hollow, real = (
        Pass(model, Keep.INTEGERS).run(args, {}, inputs=False),
        Pass(model, Keep.ALL).run(args, {}, inputs=False),
    )
    assert hollow == real


def test_peak_memory_by_hand():
    model = nn.Sequential(*(nn.Linear(100, 100, bias=False) for _ in range(3)))
    activation, weight = 10 * 100 * 4, 100 * 100 * 4
    # At the last moment: the input, the output and its gradient, the gradient that reached the first layer, and those
    # of all three weights.
    assert backward_pass(model, [(10, 100)]).peak_bytes == 4 * activation + 3 * weight


# Attribution ---------------------------------------------------------------------------------------------------------


class Shared(nn.Module):
    def __init__(self, reentrant=None):
        super().__init__()
        self.embed = nn.Embedding(12, 8)
        self.block = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
        self.reentrant = reentrant

    def forward(self, tokens):
        x = self.embed(tokens)
        for _ in range(3):
            again = self.reentrant is not None
            x = checkpoint(self.block, x, use_reentrant=self.reentrant) if again else self.block(x)
        return F.linear(x, self.embed.weight)


TOKENS = torch.arange(10).view(2, 5)


def test_rows_are_under_the_call_that_made_them():
    rows = [(row.name, row.type, row.call) for row in backward_pass(Shared(), [TOKENS]).layers if row.macs]
    linears = [("block.2", "Linear"), ("block.0", "Linear")]
    expected = [(*linear, call) for call in (2, 1, 0) for linear in linears]
    assert rows == [("", "Shared", 0)] * 2 + [row for row in expected for _ in range(2)]


def test_gradients_of_a_tied_weight_are_added():
    layers = backward_pass(Shared(), [TOKENS]).layers
    assert [row.output_shapes for row in layers[-2:]] == [((12, 8),)] * 2
    assert [row.op for row in layers[-2:]] == ["embedding dense backward", "add"]


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints_compute_again(reentrant):
    plain, backward = backward_pass(Shared(), [TOKENS]), backward_pass(Shared(reentrant), [TOKENS])
    # Torch stops a second run as soon as it has what was asked for: the block's last product, but with `use_reentrant`.
    layers = 2 if reentrant else 1
    assert backward.macs - plain.macs == 3 * layers * 10 * 8 * 8
    again = [(row.name, row.call) for row in backward.layers if "(recomputed)" in row.op and row.macs]
    names = ["block.0", "block.2"][:layers]
    assert again == [(name, call) for call in (2, 1, 0) for name in names]
    first = [(r.name, r.call, r.op) for r in backward.layers if "(recomputed)" not in r.op]
    assert first == [(r.name, r.call, r.op) for r in plain.layers]


def test_checkpoints_lower_the_peak():
    class Deep(nn.Module):
        def __init__(self, *, saving):
            super().__init__()
            self.saving = saving
            self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 64), nn.GELU(), nn.Linear(64, 4)) for _ in range(6))

        def forward(self, x):
            for block in self.blocks:
                x = checkpoint(block, x, use_reentrant=False) if self.saving else block(x)
            return x

    saved, plain = (backward_pass(Deep(saving=s), [(100, 4)]).peak_bytes for s in (True, False))
    assert saved < 0.5 * plain


def test_frozen_parameters_save_work():
    model = nn.Sequential(*(nn.Linear(6, 6, bias=False) for _ in range(4)))
    product = 10 * 6 * 6
    model[1].requires_grad_(False)
    assert backward_pass(model, [(10, 6)]).macs == (2 * 4 - 1 - 1) * product
    model[0].requires_grad_(False)
    assert backward_pass(model, [(10, 6)]).macs == (2 * 2 - 1) * product


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        return g @ weight.T, x.T @ g + x.T @ g


def test_functions_with_their_own_backward():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Module()
            self.weight = nn.Parameter(torch.zeros(4, 5))

        def forward(self, x):
            return Double.apply(x, self.weight)

    backward = backward_pass(nn.Sequential(Own()), [(3, 4)])
    assert backward.macs == 3 * 3 * 4 * 5
    assert {row.name for row in backward.layers} == {"0"}


def test_training_and_evaluation_differ():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4, 2))
    training, evaluation = (backward_pass(model.train(t), [(2, 3, 1, 1)]) for t in (True, False))
    assert training.macs == evaluation.macs
    assert training.flops > evaluation.flops
    assert "mul" in ops(training, "2")
    assert not ops(evaluation, "2")


def test_entries_are_documented_operators_of_torchs_and_stand_in_one_table_only():
    sections = set(
        re.findall(r"^## (.+)$", (Path(__file__).parents[2] / "docs" / "formulas.md").read_text(), re.MULTILINE)
    )
    assert {entry.formula for entry in TABLE.values()} <= sections
    assert not [name for name in TABLE if not hasattr(torch.ops.aten, name.removeprefix("aten."))]
    assert not TABLE.keys() & OPERATORS.keys()


# What is left alone, and what is refused -----------------------------------------------------------------------------


def everything_of(model):
    return (
        {k: (id(v), v.clone(), v.dtype, v.device) for k, v in model.state_dict(keep_vars=True).items()},
        [
            (id(p), p.requires_grad, None if p.grad is None else (id(p.grad), p.grad.clone()))
            for p in model.parameters()
        ],
        [(m.training, len(m._forward_hooks), len(m._backward_hooks), sorted(m.__dict__)) for m in model.modules()],
        torch.get_rng_state(),
    )


def assert_same(a, b):
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        assert_same(list(a.values()), list(b.values()))
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for left, right in zip(a, b, strict=True):
            assert_same(left, right)
    else:
        assert a == b


class Fragile(nn.Module):
    """Keeps statistics, caches a tensor, and fails where it is told to."""

    def __init__(self, fails=""):
        super().__init__()
        self.norm, self.rnn, self.tied = nn.BatchNorm1d(4), nn.GRU(4, 4), nn.Linear(4, 4)
        self.also = self.tied
        self.norm.weight.grad = torch.ones(4)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.fails = fails
        self.cache = torch.zeros(4)

    def forward(self, x):
        self.steps += 1
        self.cache += 1
        y = self.rnn(self.tied(self.norm(x)))[0] * torch.rand(4) + self.cache
        if self.fails == "forward":
            y = y @ torch.ones(3)
        if self.fails == "backward":
            y.register_hook(lambda g: g.view(-1, 3))
        if self.fails == "values" and float(y.sum()) > 1e9:
            return y
        self.last = y
        return self.also(y)


@pytest.mark.parametrize("fails", ["", "forward", "backward", "values"])
@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_alone(fails, training):
    model = Fragile(fails).train(training)
    before = everything_of(model)
    cache = model.cache
    if fails in ("forward", "backward"):
        with pytest.raises(ModelError, match=rf"{fails} pass failed in"):
            backward_pass(model, [(5, 4)])
    else:
        assert backward_pass(model, [(5, 4)]).macs
    assert_same(before, everything_of(model))
    assert cache is model.cache
    assert not cache.any()
    assert torch.is_grad_enabled()
    q = torch.zeros(1, 1, 2, 2, device="meta", requires_grad=True)
    assert F.scaled_dot_product_attention(q, q, q).grad_fn.name().startswith("Unsafe")  # composed, as torch does


def test_a_model_whose_tensors_are_elsewhere():
    weight = torch.ones(3, 3, requires_grad=True)
    weight.grad = torch.full((3, 3), 7.0)
    held = weight.grad

    class Elsewhere(nn.Module):
        def forward(self, x):
            return x @ weight

    assert backward_pass(Elsewhere(), [(2, 3)], inputs=True).macs == 2 * 2 * 9
    assert weight.grad is held
    assert (held == 7).all()


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.ReLU(), "nothing to train"),
        (nn.Linear(3, 3).requires_grad_(requires_grad=False), "nothing to train"),
        (nn.Sequential(nn.Linear(3, 3), Written(torch.Tensor.detach)), "depends on a parameter"),
        (nn.Sequential(nn.Linear(3, 3), Written(torch.Tensor.argmax)), "depends on a parameter"),
    ],
)
def test_nothing_to_train_is_an_error(model, reason):
    with pytest.raises(ModelError, match=reason):
        backward_pass(model, [(2, 3)])


def test_values_of_a_model_without_storage_are_an_error():
    model = nn.Sequential(nn.Linear(3, 3), Written(lambda x: x if x.sum() > 0 else -x)).to("meta")
    with pytest.raises(ModelError, match="no storage"):
        backward_pass(model, [(2, 3)])


def test_scripted_modules_are_refused():
    with pytest.warns(DeprecationWarning, match="script"):
        scripted = torch.jit.script(nn.Linear(3, 3))
    with pytest.raises(ModelError, match="scripted from"):
        backward_pass(scripted, [(2, 3)])


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_the_callers_mode_does_not_matter(off):
    with off():
        model = nn.Linear(3, 3)
        assert backward_pass(model, [(2, 3)]).macs == 2 * 9
        assert not torch.is_grad_enabled()


# Values --------------------------------------------------------------------------------------------------------------


class Branching(nn.Module):
    """Reads masks, lengths and constants, as language models do."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 4)
        self.rnn = nn.LSTM(4, 4, batch_first=True)
        self.out = nn.Linear(4, 4)

    def forward(self, tokens, mask):
        lengths = mask.sum(1)
        x = self.embed(tokens)
        if not mask.bool().all():
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            x, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.out(x[mask[:, : x.shape[1]].bool()])


def test_masks_lengths_and_packed_sequences():
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]])
    backward = backward_pass(Branching(), [torch.zeros(2, 4, dtype=torch.int64)], {"mask": mask})
    row = next(row for row in backward.layers if row.name == "out")
    assert row.input_shapes[0] == (5, 4)
    recurrent = sum(row.macs for row in backward.layers if row.name == "rnn")
    # Weights: all 5 steps of both sequences; inputs: all 5; states: what is not the first step.
    assert recurrent == (5 * 16 * 8) + (5 * 16 * 4) + (3 * 16 * 4)


@pytest.mark.parametrize("find", [torch.nonzero, lambda x: (x > 0).nonzero(), lambda x: torch.unique(x)[1:]])
def test_sizes_that_are_a_matter_of_values_take_values(find):
    class Routed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.second(self.first(x)[: find(x).shape[0]])

    x = torch.tensor([[0.0, 0.0, 1.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    row = next(row for row in backward_pass(Routed(), [x]).layers if row.name == "second")
    assert row.input_shapes[0] == (2, 3)
    with pytest.raises(ModelError, match="no storage"):
        backward_pass(Routed().to("meta"), [x])


def test_small_constants_have_values_where_they_are_read():
    class Read(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 3)

        def forward(self, x):
            return self.linear(x) * (2.0 if torch.ones(2).all() and torch.rand(()) < 2 else 1.0)

    assert backward_pass(Read().to("meta"), [(2, 3)]).macs == 18


@dataclass
class Output:
    first: torch.Tensor
    rest: dict


def test_all_outputs_are_differentiated():
    class Many(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(4))

        def forward(self, x):
            a, b, c, _ = (layer(x) for layer in self.layers)
            return Output(a, {"b": [b, (a, 1)], "c": c})

    assert {row.name for row in backward_pass(Many(), [(2, 3)]).layers} == {"layers.0", "layers.1", "layers.2"}


def test_the_mode_is_told_where_it_matters():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout())
    assert not analyze(model, (2, 4), backward=True).notes
    (note,) = analyze(model.eval(), (2, 4), backward=True).notes
    assert "evaluation mode" in note
    assert "model.train()" in note
    assert not analyze(nn.Linear(4, 4).eval(), (2, 4), backward=True).notes


def test_a_step_that_takes_values_says_so():
    class Clipped(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            return y if y.abs().max() > 0 else 2 * y

    note = analyze(Clipped(4, 4), (2, 4), backward=True).backward.notes[-1]
    assert note.startswith("backward pass: run on real tensors (aten.")


def test_lazy_layers_get_their_sizes():
    assert backward_pass(nn.Sequential(nn.LazyLinear(4), nn.ReLU()), [(2, 3)]).macs == 2 * 3 * 4


def test_what_the_user_has_not_differentiated_yet_stays_differentiable():
    class Remembers(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.seen = nn.Linear(3, 3), []

        def forward(self, x):
            self.seen.append(self.layer(x).exp())
            return torch.stack(self.seen).sum(0)

    model = Remembers()
    loss = model(torch.ones(2, 3)).sum()
    found = backward_pass(model, [torch.ones(2, 3)])
    assert "requires a gradient" in found.notes[-1]
    loss.backward()
    assert model.layer.weight.grad is not None
