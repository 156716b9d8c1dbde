"""Values that decide branches, and what a model does to itself."""

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from profiler import analyze
from profiler.errors import ModelError
from profiler.walk import walk


class Calls(nn.Module):
    """A function as a module with one small layer."""

    def __init__(self, function):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("table", torch.arange(8.0))
        self.function = function

    def forward(self, x):
        return self.function(self, self.layer(x))


KNOWN = {
    "float constants": lambda m, x: x * 2 if torch.ones(2, 3).all() else x,
    "a mask made of floats": lambda m, x: x * 2 if not (torch.zeros(2, 3) > 0).any() else x,
    "a buffer": lambda m, x: x * 2 if float(m.table[3]) == 3 else x,
    "arithmetic on a buffer": lambda m, x: x * 2 if int((m.table * 2 + 1).sum()) == 64 else x,
    "a length": lambda m, x: x * 2 if int(torch.tensor(x.shape[0])) == 2 else x,
    "a list": lambda m, x: x * sum((torch.arange(3) > 0).tolist()),
    "indices by a mask": lambda m, x: x[:, torch.tensor([True, False, True, True])],
    "where": lambda m, x: x[:, torch.where(torch.arange(4) > 1)[0]],
    "repeated by lengths": lambda m, x: x.repeat_interleave(torch.tensor([2, 1]), 0),
    "written mask": lambda m, x: x.masked_fill(
        torch.zeros(2, 4, dtype=torch.bool).index_fill_(1, torch.tensor(1), 1), 0
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_small_constants_and_integers_keep_their_values(name):
    assert not analyze(Calls(KNOWN[name]), (2, 4)).notes
    sizes = []
    walk(Calls(KNOWN[name]), [(2, 4)], {}, lambda step: sizes.append(step.call.out))
    assert sizes[-1] == tuple(KNOWN[name](Calls(None), torch.ones(2, 4)).shape)


def test_a_table_written_in_parts_stays_one_table():
    def written(_module, x):
        table = torch.zeros(3, 4)
        table[0:2] = x
        table[2:3] = x[:1]
        return table.view(-1)

    # The input, the layer's result and the table, of 8, 8 and 12 numbers.
    assert analyze(Calls(written), (2, 4)).totals.activation_bytes == 4 * (8 + 8 + 12)


def test_values_are_known_where_a_tensor_without_them_has_lain():
    def reuses(_module, x):
        for _ in range(20):
            table = torch.zeros(4, dtype=torch.int64)
            table.copy_(x[0])
            del table
            if int(torch.zeros(4, dtype=torch.int64).sum()):
                break
        return x

    assert not analyze(Calls(reuses), (2, 4)).notes


COMPUTED = {
    "a branch": lambda m, x: x * 2 if x.sum() > -1e9 else x,
    "a loop": lambda m, x: [x := x / 2 for _ in range(9) if x.abs().max() > 1e-9][-1],
    "a choice": lambda m, x: x[(x > -1e9).nonzero()[:, 0]],
    "a histogram": lambda m, x: x * sum(torch.bincount(x.argmax(1), minlength=3).tolist()),
    "a list": lambda m, x: x * len(x.argmax(1).tolist()),
    "an array": lambda m, x: x * float(x.numpy().shape[0]),
    "a written constant": lambda m, x: x * 2 if torch.zeros(4).copy_(x[0]).sum() > -1e9 else x,
}


@pytest.mark.parametrize("name", COMPUTED)
def test_computed_values_are_computed_and_the_reader_is_told(name):
    model = Calls(COMPUTED[name])
    profile = analyze(model, torch.ones(2, 4))
    (note,) = profile.notes
    assert "run on real tensors" in note
    assert profile.layers[0].macs == 32


def test_computed_values_take_weights():
    with torch.device("meta"):
        model = Calls(COMPUTED["a branch"])
    with pytest.raises(ModelError, match=r"layer\.weight has no storage") as caught:
        analyze(model, (2, 4))
    assert "reads values that it computed" in str(caught.value)


class Restless(nn.Module):
    """Does to itself whatever a forward can."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("count", torch.zeros(3))
        self.register_buffer("steps", torch.zeros(2, dtype=torch.int64))
        self.calls = 0

    def forward(self, x, *, real=False):
        self.calls += 1
        self.cache = x
        self.count += 1
        self.count.data[0] = 5
        self.steps[1:] += 1
        self.layer = self.layer.to(torch.float64)
        self.extra = nn.Linear(4, 2, dtype=torch.float64)
        self.register_buffer("late", torch.ones(2))
        self.layer.bias = nn.Parameter(torch.ones(4, dtype=torch.float64))
        self.layer.register_forward_hook(lambda *_: None)
        x = self.norm(self.layer(x.double()).float())
        if real:
            float(x.sum())
        torch.manual_seed(3)
        return self.extra(x.double() + torch.rand(4))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_whatever_a_model_does_to_itself_is_undone(training, real, fails):
    model = Restless().train(training)
    before = {name: (id(module), dict(module.__dict__)) for name, module in model.named_modules()}
    state = copy.deepcopy(model.state_dict())
    kept = {name: (id(p), p.data_ptr(), p.dtype, p.device) for name, p in model.named_parameters()}
    random = torch.get_rng_state()
    if fails:
        with pytest.raises(ModelError):
            analyze(model, (2, 5), real=real)
    else:
        analyze(model, torch.ones(2, 4), real=real)
    assert {name: (id(p), p.data_ptr(), p.dtype, p.device) for name, p in model.named_parameters()} == kept
    assert {name: id(module) for name, module in model.named_modules()} == {n: i for n, (i, _) in before.items()}
    for name, module in model.named_modules():
        assert module.__dict__.keys() == before[name][1].keys()
        assert not module._forward_hooks
    now = model.state_dict()
    assert now.keys() == state.keys()
    assert all(torch.equal(now[key], state[key]) for key in state)
    assert model.calls == 0
    assert torch.equal(random, torch.get_rng_state())
    model(torch.ones(2, 4))


def test_a_loop_without_end_is_stopped(monkeypatch):
    monkeypatch.setattr("profiler.mode.MOST_CALLS", 1000)

    def forever(_module, x):
        n = torch.zeros(1, dtype=torch.int64)
        while int(n) >= 0:
            n = n + 1
        return x

    with pytest.raises(ModelError, match=r"1,000 operator calls.*without end"):
        analyze(Calls(forever), (2, 4))


def test_an_exception_that_the_model_catches_leaves_no_trace():
    class Tries(nn.Module):
        def __init__(self):
            super().__init__()
            self.wrong, self.right = nn.Linear(5, 5), nn.Linear(4, 4)

        def forward(self, x):
            try:
                return self.wrong(x)
            except RuntimeError:
                return self.right(x)

    (row,) = analyze(Tries(), (2, 4)).layers
    assert (row.name, row.macs) == ("right", 32)


def test_an_error_names_module_and_operator():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(10, 2))
    with pytest.raises(
        ModelError, match=r"failed in 2 \(Linear\), aten\.linear on inputs of size 1x3x8x8: RuntimeError"
    ):
        analyze(model, (1, 3, 8, 8))


def test_a_wrapped_model_is_run_under_its_own_names():
    wrapped = nn.DataParallel(nn.Sequential(nn.Linear(4, 4)))
    assert [row.name for row in analyze(wrapped, (2, 4)).layers] == ["module.0"]


def test_checkpointing_parametrizations_and_functions_of_ones_own():
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(_context, x):
            return x * 2

        @staticmethod
        def backward(_context, grad):
            return grad * 2

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))

        def forward(self, x):
            x = torch.utils.checkpoint.checkpoint(self.layer, x, use_reentrant=False)
            return Doubled.apply(x)

    profile = analyze(Model(), (2, 4))
    assert [row.op for row in profile.layers if row.macs] == ["fully connected"]
    assert [row.op for row in profile.layers][-1] == "mul"
    assert profile.totals.params == sum(row.params for row in profile.layers) == 4 + 16 + 4


@pytest.mark.parametrize(
    "give",
    [
        lambda m: analyze(m, {"a": (2, 4), "b": [(2, 4)]}),
        lambda m: analyze(m, {"a": torch.ones(2, 4), "b": [torch.ones(2, 4, device="meta")]}),
        lambda m: analyze(m, batch={"a": (2, 4), "b": [(2, 4)]}),
        lambda m: analyze(m, OrderedDict(a=(2, 4), b=[(2, 4)])),
    ],
)
def test_inputs_come_in_nests_and_by_name(give):
    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, batch):
            return {"out": (self.layer(batch["a"]), [self.layer(batch["b"][0])])}

    assert give(Nested()).totals.macs == 64


@pytest.mark.parametrize("lengths", [torch.tensor([5, 3]), [3, 5]])
@pytest.mark.parametrize("batch_first", [True, False])
def test_packed_sequences(lengths, batch_first):
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(4, 6, batch_first=batch_first)

        def forward(self, x):
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=batch_first, enforce_sorted=False)
            out, _ = self.rnn(packed)
            out, back = nn.utils.rnn.pad_packed_sequence(out, batch_first=batch_first, total_length=7)
            return out[:, : int(back.sum())]

    given = torch.ones(2, 5, 4) if batch_first else torch.ones(5, 2, 4)
    profile = analyze(Packed(), given)
    assert not profile.notes
    assert not profile.uncounted
    # Eight steps in all, four gates of 6 units, 4 inputs and 6 states each.
    assert profile.totals.macs == 8 * 4 * 6 * (4 + 6)
    sizes = []
    walk(Packed(), [given], {}, lambda step: sizes.append((step.call.out, step.call.outputs[0].stride())))
    out = Packed()(given)
    assert sizes[-1] == (tuple(out.shape), out.stride())


@pytest.mark.parametrize(("kind", "gates", "each"), [(nn.LSTMCell, 4, 22), (nn.GRUCell, 3, 17), (nn.RNNCell, 1, 2)])
@pytest.mark.parametrize("batch", [(2,), ()])
def test_one_step_of_a_recurrence(kind, gates, each, batch):
    (row,) = [row for row in analyze(kind(4, 3), (*batch, 4)).layers if row.status == "counted"]
    steps = 2 if batch else 1
    assert row.macs == steps * gates * 3 * (4 + 3)
    assert row.flops == 2 * row.macs + steps * 3 * (2 * gates + each)
    assert row.output_shapes == ((steps, 3),) * (2 if kind is nn.LSTMCell else 1)


@pytest.mark.parametrize("make", [torch.jit.script, lambda m: torch.jit.trace(m, torch.ones(2, 4))])
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_scripted_and_traced_modules(make):
    assert analyze(make(nn.Sequential(nn.Linear(4, 4), nn.ReLU())), (2, 4)).totals.macs == 32


@pytest.mark.parametrize("grouped", [False, True])
def test_grouped_matrix_products(grouped):
    offs = torch.tensor([8, 16, 24, 32], dtype=torch.int32)
    factor = torch.ones(4, 16, 8)

    def experts(_module, x):
        x = F.pad(x, (0, 12)).repeat(16, 1)
        return torch._grouped_mm(x, factor, offs=offs) if grouped else x.view(4, 8, 16) @ factor

    assert analyze(Calls(experts), (2, 4)).layers[-1].macs == 32 * 16 * 8
