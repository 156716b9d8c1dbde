"""The probe itself against torch's autograd: the Jacobian of the same network, element by element.

Nothing of the probe is used on this side: the network runs in double precision with positive random weights,
activations are the identity and max pools average, and an input reaches an element where the derivative is not zero.
"""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from profiler.analyzer import Subject
from profiler.aten.call import tensors_of
from profiler.crosscheck import receptive
from profiler.crosscheck.probe import impulses
from profiler.crosscheck.probe.propagation import Propagation
from profiler.crosscheck.receptive import verify_receptive_fields
from profiler.receptive.field import TensorField
from profiler.walk import field_of, input_axes, walk


class Network(nn.Module):
    """A function of the input and of weights that are made as it asks for them."""

    def __init__(self, function):
        super().__init__()
        self.function, self.weights = function, nn.ParameterList()

    def forward(self, x):
        self.used = 0
        return self.function(self.weight, x) * 1  # so that the last operator gives the result

    def weight(self, *size):
        if self.used == len(self.weights):
            self.weights.append(nn.Parameter(torch.rand(size, dtype=torch.float64) + 0.1))
        self.used += 1
        return self.weights[self.used - 1]


class Linear(TorchFunctionMode):
    """Activations become the identity and maxima means."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name, kwargs = func.__name__, kwargs or {}
        if name in ("relu", "relu_"):
            return args[0]
        if name in ("max_pool1d", "max_pool2d", "max_pool3d"):
            kwargs = {k: v for k, v in kwargs.items() if k in ("stride", "padding", "ceil_mode")}
            return getattr(F, name.replace("max", "avg"))(*args[:5], **kwargs)
        if name == "amax":
            return args[0].mean(*args[1:], **kwargs)
        return func(*args, **kwargs)


def seen_by_the_probe(network, size):
    """First and last input per element of the result, per followed axis."""
    last, axes = [], input_axes(size, torch.float64)
    propagation = Propagation()

    def visit(step):
        for tensor in step.call.tensors:
            if not propagation.knows(tensor) and field_of(tensor) is not None:
                propagation.start(tensor, [(size[axis], axis) for axis in axes])
        propagation.step(step.call)
        last[:] = step.call.outputs

    walk(network, [torch.empty(size, dtype=torch.float64, device="meta")], {}, visit)
    reach = propagation.reach_of(last[0])
    assert not reach.unknown, reach.unknown
    spans = []
    for n, axis in enumerate(axes):
        low, high = reach.planes[2 * n : 2 * n + 2]
        spans.append((size[axis] - low, high - 1))
    return spans


def seen_by_autograd(network, size):
    x = torch.rand(size, dtype=torch.float64) + 0.5

    def run(x):
        with Linear():
            return tensors_of(network(x))[0]

    jacobian = torch.autograd.functional.jacobian(run, x)
    out = run(x).shape
    spans = []
    for axis in input_axes(size, torch.float64):
        others = tuple(len(out) + n for n in range(len(size)) if n != axis)
        lit = jacobian.abs().amax(others) > 1e-12
        places = torch.arange(size[axis])
        spans.append(
            (places.where(lit, torch.tensor(size[axis])).amin(-1), places.where(lit, torch.tensor(-1)).amax(-1))
        )
    return spans


def windows(w, x):
    x = torch.roll(x, (1, 2), (2, 3)).view(1, 2, 3, 2, 2, 3).permute(0, 2, 4, 3, 5, 1).reshape(6, 6, 2)
    x = F.scaled_dot_product_attention(x, x, x)
    return torch.roll(x.view(1, 3, 2, 2, 3, 2).permute(0, 5, 1, 3, 2, 4).reshape(1, 2, 6, 6), (-1, -2), (2, 3))


def written(w, x):
    out = torch.zeros(1, 4, 6, 6, dtype=x.dtype)
    out[:, :2] = F.conv2d(x, w(2, 2, 3, 3), padding=1)
    out[:, 2:, 1:] += x[:, :, :-1]
    out[:, 3, ::2].add_(x.mean())
    return out * 1


def in_place(w, x):
    x = F.conv1d(x, w(2, 2, 3))
    y = x + 0
    y[..., 1:] += x[..., :-1]
    return torch.cat([F.relu_(y), x.cumsum(-1)], 1)


def patches(w, x):
    cut = F.unfold(x, 3, padding=1, stride=2)
    return F.fold(cut.flip(1) * 2, (6, 6), 3, padding=1, stride=2)


def gate(w, x):
    x = F.conv2d(x, w(4, 2, 3, 3))
    return x * torch.sigmoid(F.conv2d(F.adaptive_avg_pool2d(x, 1), w(4, 4, 1, 1)) / 100)


def recurrent(module):
    def run(w, x):
        torch.manual_seed(0)
        layer = module(x.shape[-1]).double()
        return layer(x)[0]

    return run


def gated_convolution(w, x):
    kernel = F.linear(x.mean((2, 3)), w(4, 2)).view(2, 2, 1, 1)
    return F.conv2d(x[..., :3], kernel)


HIDDEN = torch.tensor([[1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 0], [1, 0, 0, 1, 1], [1, 1, 1, 1, 1]]).bool()
ADDED = torch.zeros(5, 5, dtype=torch.float64).masked_fill(~HIDDEN, -torch.inf)
C1, C2, C3 = (1, 2, 9), (1, 2, 6, 6), (1, 2, 4, 3, 4)
SEQUENCE = (1, 5, 4)
CASES = {
    "conv1d": (C1, lambda w, x: F.conv1d(x, w(2, 1, 3), stride=2, padding=2, dilation=2, groups=2)),
    "conv2d": (C2, lambda w, x: F.conv2d(x, w(3, 2, 3, 2), stride=(2, 1), padding=(0, 1), dilation=(1, 2))),
    "conv2d same": (C2, lambda w, x: F.conv2d(x, w(2, 2, 4, 3), padding="same")),
    "conv3d": (C3, lambda w, x: F.conv3d(x, w(2, 1, 2, 3, 1), padding=(1, 1, 0), groups=2)),
    "conv unbatched": (C2[1:], lambda w, x: F.conv2d(x, w(2, 2, 3, 1), padding=(0, 1))),
    "conv in padding": (C1, lambda w, x: F.conv1d(x, w(1, 2, 2), padding=3)),
    "kernel from input": (C2, gated_convolution),
    "transposed": (C2, lambda w, x: F.conv_transpose2d(x, w(2, 2, 3, 2), stride=(2, 3), padding=1, output_padding=1)),
    "transposed gaps": (C1, lambda w, x: F.conv_transpose1d(x, w(2, 1, 1), stride=3, groups=2, dilation=2)),
    "max pool": (C2, lambda w, x: F.max_pool2d(x, 3, stride=2, padding=1, ceil_mode=True)),
    "avg pool": (C3, lambda w, x: F.avg_pool3d(x, 2, 2, ceil_mode=True)),
    "adaptive": (C2, lambda w, x: F.adaptive_avg_pool2d(x, (4, 7))),
    "nearest": (C2, lambda w, x: F.interpolate(x, scale_factor=(1.5, 2.0))),
    "nearest exact": (C2, lambda w, x: F.interpolate(x, size=(4, 9), mode="nearest-exact")),
    "linear": (C1, lambda w, x: F.interpolate(x, scale_factor=2.5, mode="linear")),
    "corners": (C2, lambda w, x: F.interpolate(x, size=(11, 4), mode="bilinear", align_corners=True)),
    "trilinear": (C3, lambda w, x: F.interpolate(x, scale_factor=0.5, mode="trilinear")),
    "cubic": (C2, lambda w, x: F.interpolate(x, scale_factor=0.75, mode="bicubic")),
    "antialias": (C2, lambda w, x: F.interpolate(x, size=(3, 4), mode="bilinear", antialias=True)),
    "constant pad": (C2, lambda w, x: F.pad(x, (1, 2, -1, 2), value=1.0)),
    "reflect": (C2, lambda w, x: F.pad(x, (1, 2, 3, 0), mode="reflect")),
    "circular": (C2, lambda w, x: F.pad(x, (1, 2, 3, 0), mode="circular")),
    "replicate": (C1, lambda w, x: F.pad(x, (1, 2), mode="replicate")),
    "roll and flip": (C2, lambda w, x: torch.roll(x, (2, -1), (2, 3)).flip(2) + x),
    "slices": (C2, lambda w, x: torch.cat([x[:, :, 1::2], x[:, :, ::2]], 3)),
    "shuffle": (C2, lambda w, x: F.pixel_unshuffle(F.pixel_shuffle(x.repeat(1, 2, 1, 1), 2)[..., :8, :], 2)),
    "windows": (C2, windows),
    "unfold": (C2, patches),
    "written slices": (C2, written),
    "in place": (C1, in_place),
    "gate": (C2, gate),
    "stack": (C1, lambda w, x: torch.stack([x, x.flip(-1)], 1).unbind(1)[0].chunk(2, -1)[1]),
    "repeat": (C1, lambda w, x: x.repeat_interleave(2, -1).unflatten(-1, (6, 3)).mT),
    "places": (C2, lambda w, x: x[:, :, torch.tensor([4, 0, 0])].index_select(3, torch.tensor([5, 1]))),
    "gather": (C1, lambda w, x: x.gather(2, torch.tensor([[[3, 1], [0, 8]]]))),
    "triangle": (C2, lambda w, x: x.tril() @ w(6, 3)),
    "norms": (C2, lambda w, x: F.layer_norm(x, (6,)) + F.instance_norm(x)[..., :1]),
    "group norm": ((1, 4, 4, 3), lambda w, x: F.group_norm(F.pad(x, (0, 0, 2, 0)), 2)[:, :2]),
    "batch statistics": (C1, lambda w, x: F.batch_norm(x, None, None, training=True) + x),
    "softmax": (C2, lambda w, x: F.softmax(x, 2) + F.log_softmax(x, 1)),
    "mean": (C2, lambda w, x: x.mean(2) + x.sum((2, 3), keepdim=True)[..., 0] + x.amax(3)),
    "norm": (C2, lambda w, x: F.normalize(x, dim=3) + torch.linalg.vector_norm(x[:, :, :2], dim=(1, 2), keepdim=True)),
    "variance": (C2, lambda w, x: torch.var_mean(x, dim=3)[1] + x.std(2) + torch.logsumexp(x, 3)),
    "running": (C2, lambda w, x: x.cumsum(2) + x.flip(3).cumsum(3).flip(3)),
    "glu": (C1, lambda w, x: F.glu(x[..., 1:], -1)),
    "matmul": (C2, lambda w, x: (x[:, :1] @ x[:, 1:].mT) @ w(6, 2)),
    "vector": (C1, lambda w, x: x[0] @ w(9) + (w(2) @ x[0])[:2]),
    "baddbmm": (C1, lambda w, x: torch.baddbmm(x[..., :2], x[..., :3], w(1, 3, 2))),
    "einsum": (C2, lambda w, x: torch.einsum("nchw,nckw,cd->ndhk", x, x[:, :, :3], w(2, 2))),
    "einsum diagonal": (C2, lambda w, x: torch.einsum("ncii->nic", x)),
    "attention": (SEQUENCE, lambda w, x: F.scaled_dot_product_attention(x, x[:, 1:], x[:, 1:])),
    "causal": (C2, lambda w, x: F.scaled_dot_product_attention(x, x[:, :, 1:], x[:, :, 1:], is_causal=True)[:, :, 1:]),
    "masked": (SEQUENCE, lambda w, x: F.scaled_dot_product_attention(x, x, x, attn_mask=HIDDEN)),
    "masked by numbers": (SEQUENCE, lambda w, x: F.scaled_dot_product_attention(x, x, x, attn_mask=ADDED)),
    "grouped queries": (
        (1, 4, 3, 2),
        lambda w, x: F.scaled_dot_product_attention(x, x[:, :2], x[:, :2], enable_gqa=True),
    ),
    "lstm": (SEQUENCE, recurrent(lambda n: nn.LSTM(n, 3, num_layers=2, batch_first=True))),
    "gru": (SEQUENCE, recurrent(lambda n: nn.GRU(n, 2, bidirectional=True))),
    "rnn": (SEQUENCE, recurrent(lambda n: nn.RNN(n, 2, num_layers=2, bidirectional=True, batch_first=True))),
    "fourier": (
        C2,
        lambda w, x: torch.fft.rfft2(x[..., :5]).real + torch.view_as_real(torch.fft.fft(x, dim=2))[..., :3, 0],
    ),
    "distances": (C2, lambda w, x: torch.cdist(x, 2 * x[:, :, :3])),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", CASES)
def test_the_probe_sees_what_autograd_sees(name):
    torch.manual_seed(1)
    size, function = CASES[name]
    network = Network(function)
    network(torch.rand(size, dtype=torch.float64))  # makes the weights
    probe, autograd = seen_by_the_probe(network, size), seen_by_autograd(network, size)
    assert len(probe) == len(autograd) == max(0, len(size) - 2)
    for (first, last), (true_first, true_last) in zip(probe, autograd, strict=True):
        assert first.tolist() == true_first.tolist()
        assert last.tolist() == true_last.tolist()


KERNELS = {
    "strided": lambda x: F.conv1d(x, torch.ones(1, 1, 9).double(), stride=3, padding=4),
    "dilated": lambda x: F.conv1d(x, torch.ones(1, 1, 3).double(), dilation=8, padding=8),
    "transposed": lambda x: F.conv_transpose1d(x, torch.ones(1, 1, 2).double(), stride=3),
    "linear": lambda x: F.interpolate(x, scale_factor=0.4, mode="linear"),
    "adaptive": lambda x: F.adaptive_avg_pool1d(x, 97),
    "wide": lambda x: F.avg_pool1d(x, 120, 50),
    "all": lambda x: x.mean(-1, keepdim=True),
}


@pytest.mark.parametrize("name", KERNELS)
def test_long_axes_are_seen_as_short_ones_are(name, monkeypatch):
    def read():
        taps = impulses.seen_taps(KERNELS[name], (400,), 0)
        return [sorted(row[valid].tolist()) for row, valid in zip(taps.inputs, taps.valid, strict=True)]

    short = read()
    monkeypatch.setattr(impulses, "LONG", 1)
    assert read() == short


def test_an_axis_too_long_for_its_windows_is_refused(monkeypatch):
    monkeypatch.setattr(impulses, "LONG", 1)
    monkeypatch.setattr(impulses, "TOO_LONG", 300)
    with pytest.raises(ValueError, match="axis of 400"):
        impulses.seen_taps(KERNELS["all"], (400,), 0)


def verified(function, *args, **kwargs):
    class Model(nn.Module):
        def forward(self, *args, **kwargs):
            return function(*args, **kwargs)

    return verify_receptive_fields(Subject(Model(), args, kwargs))


def settled(checks):
    return bool(checks) and all(c.settled and not c.contradicted for c in checks)


def test_tokens_are_followed_along_their_sequence():
    table, kernel = torch.rand(10, 4), torch.rand(4, 4, 3)
    ids = torch.zeros(1, 12, dtype=torch.int64)
    checks = verified(lambda ids: F.relu(F.conv1d(F.embedding(ids, table).transpose(1, 2), kernel, padding=1)), ids)
    assert settled(checks)
    assert [c.reported for c in checks] == ["exact", "exact"]


def test_inputs_by_keyword_and_in_dictionaries():
    assert settled(verified(lambda *, x, scale: F.avg_pool2d(x, 2) * scale, x=(1, 1, 8, 8), scale=2.0))
    assert settled(verified(lambda batch: F.avg_pool2d(batch["x"], 2) * 2, {"x": torch.rand(1, 1, 8, 8)}))


def test_every_input_is_followed():
    def model(x, y):
        x, y = F.avg_pool2d(x, 2), F.conv2d(y, torch.ones(1, 1, 3, 3))
        return torch.cat([x, y], 1) * 2

    checks = verified(model, (1, 1, 8, 8), (1, 1, 6, 6))
    assert len(checks) == 3
    assert settled(checks)


def test_inputs_without_an_axis_to_follow_give_nothing():
    assert verified(lambda x: F.relu(x) * 2, (3, 8)) == []


def test_an_operator_without_a_structure_stops_nothing():
    checks = verified(lambda x: F.relu(torch.linalg.inv(F.avg_pool2d(x, 2)) + x[..., ::2, ::2]), (1, 1, 8, 8))
    assert checks[0].status == "exact"
    unprobed = [c for c in checks if c.status == "not probed"]
    assert unprobed[-1] is checks[-1]
    assert {c.reason.partition(" ")[0] for c in unprobed} <= {"aten.linalg_inv", "aten.linalg_inv_ex"}
    assert not any(c.contradicted for c in checks)


def test_places_that_depend_on_values_are_not_probed():
    checks = verified(lambda x: x.gather(2, x.argmax(2, keepdim=True)) * 2, (1, 2, 8))
    assert checks[-1].status == "not probed"
    assert "places that depend on the input" in checks[-1].reason


def test_a_model_that_branches_on_values_is_followed_on_real_tensors():
    checks = verified(lambda x: F.avg_pool1d(x, 3) * 2 if F.relu(x).sum() > -1 else x, (1, 1, 9))
    assert [c.packet for c in checks][-2:] == ["aten.avg_pool1d", "aten.mul"]
    assert len({(c.packet, c.name, c.call) for c in checks}) == len(checks)
    assert checks[-1].reported == "exact"
    assert not any(c.contradicted for c in checks)


@pytest.mark.parametrize("claim", ["too little", "too much", "out of reach"])
def test_a_wrong_field_is_found(claim, monkeypatch):
    def forged(step):
        shape = step.call.out
        field = TensorField.of_input(shape, (2,))
        if claim == "too much":
            field = field.mixed([2])
        return step._replace(fields=(None if claim == "out of reach" else field,))

    def forging(model, args, kwargs, visit, **options):
        return walk(model, args, kwargs, lambda s: visit(forged(s) if s.call.packet == "aten.conv1d" else s), **options)

    monkeypatch.setattr(receptive, "walk", forging)
    checks = verified(lambda x: F.conv1d(F.relu(x), torch.ones(1, 1, 3), padding=1), (1, 1, 9))
    assert [c.contradicted for c in checks] == [False, True]
    assert checks[1].contained == (claim == "too much")
    assert checks[1].detail
