"""What a model keeps in containers, objects, caches and random generators is as before, whatever its forward does."""

import random
from collections import OrderedDict, deque
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from profiler import analyze
from profiler.errors import ModelError

_TABLES = {}


@lru_cache
def grid(size):
    return torch.arange(float(size)).repeat(5000)


class Strict(OrderedDict):
    """A dictionary that does not hand out what it holds."""

    def __getitem__(self, key):
        raise AssertionError(key)


class Hoards(nn.Module):
    """Keeps whatever it meets, wherever a module can."""

    shared = {}  # noqa: RUF012  # what is tested: a class that keeps results for all its instances

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("mean", torch.zeros(2, 4, 3))
        self.seen = [1]
        self.cache = {"nested": [{}], "pair": ([], 2)}
        self.names = {"a"}
        self.last = deque([0], maxlen=2)
        self.strict = Strict(b=1, a=2)
        self.state = SimpleNamespace(past=[], length=0)
        self.plain = [nn.BatchNorm1d(4)]
        self.one = torch.ones(1)
        self.chance = random.Random(3)
        self.torchs = torch.Generator().manual_seed(3)
        self.numpys = (np.random.default_rng(3), np.random.RandomState(3))

    def forward(self, x, *, fails=False):
        self.seen.append(x)
        self.cache["nested"][0][x.device] = x
        self.cache["pair"][0].append(x)
        self.cache["new"] = x
        self.names.add("b")
        self.last.append(x)
        self.strict["c"] = x
        self.strict.move_to_end("b")
        self.state.past.append(x)
        self.state.length += 1
        self.plain[0].extra = self.plain[0](x)
        self.one = torch.ones(1)
        self.shared[1] = _TABLES[1] = grid(3)
        self.mean.copy_(self.layer(x.transpose(1, 2)).transpose(1, 2))
        self.layer.weight.to(x.dtype)
        noise = (random.random(), self.chance.random(), np.random.rand(), *(n.random() for n in self.numpys))  # noqa: NPY002  # the old generators
        torch.rand(3, generator=self.torchs)
        if fails:
            float(x.sum())
            raise ValueError("enough")
        return self.layer(x.transpose(1, 2)) * sum(noise)


def held(model):
    """What a model holds, as it prints: objects by their identities, random generators by their states."""
    generators = (model.chance.getstate(), model.torchs.get_state().tolist())
    numpys = (model.numpys[0].bit_generator.state, model.numpys[1].get_state()[1:])
    return repr(
        (
            *(model.seen, model.cache, model.names, model.last, list(OrderedDict.items(model.strict)), model.state),
            *(sorted(vars(model.plain[0])), model.plain[0].running_mean.tolist(), id(model.one), model.mean.tolist()),
            *(Hoards.shared, _TABLES, generators, numpys, random.getstate(), np.random.get_state()[1:]),  # noqa: NPY002
        )
    )


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_what_a_model_keeps_is_as_before(fails, backward):
    model = Hoards()
    grid.cache_clear()
    before = held(model)
    if fails:
        with pytest.raises(ModelError, match="enough"):
            analyze(model, torch.ones(2, 4, 3), fails=True, backward=backward)
    else:
        profile = analyze(model, (2, 4, 3), backward=backward)
        assert held(model) == before
        assert "requires grad" in profile.crosscheck("fvcore").reason  # the batch norm that hangs in a list
        assert profile.crosscheck("torch").status == "reconciled"
    assert held(model) == before
    assert not [t for t in (*model.parameters(), *model.buffers(), model.one) if vars(t)]
    assert not grid(3).is_meta


def test_tensors_in_containers_keep_their_values():
    class Adds(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)
            self.seen = [torch.zeros(3)]
            self.by_name = {"mean": torch.zeros(3)}
            self.plain = torch.zeros(3)

        def forward(self, x):
            for tensor in (self.seen[0], self.by_name["mean"], self.plain):
                tensor.add_(1)
            return self.layer(x)

    model = Adds()
    profile = analyze(model, torch.ones(2, 3), backward=True)
    profile.crosscheck("fvcore")
    profile.crosscheck("torch")
    assert [t.tolist() for t in (model.seen[0], model.by_name["mean"], model.plain)] == [[0.0] * 3] * 3


def test_a_cache_that_was_not_filled_keeps_its_results():
    grid.cache_clear()
    grid(2)
    analyze(nn.Sequential(Hoards().layer), (2, 4))
    assert grid.cache_info().currsize == 1


def described(model):
    """Classes, hooks and tensors of every module, by identity."""
    return [
        (type(m), [(n, type(t), id(t)) for n, t in (*m._parameters.items(), *m._buffers.items())], sorted(vars(m)))
        for m in model.modules()
    ]


@pytest.mark.parametrize("backward", [False, True])
def test_lazy_layers_stay_lazy(backward):
    model = nn.Sequential(nn.LazyConv2d(3, 3), nn.LazyBatchNorm2d(affine=False), nn.Flatten(), nn.LazyLinear(2))
    before = described(model)
    profile = analyze(model, (2, 4, 8, 8), backward=backward)
    assert described(model) == before
    assert profile.totals.macs == 2 * 3 * 6 * 6 * (4 * 9) + 2 * (3 * 6 * 6) * 2
    assert profile.totals.params == 3 * 4 * 9 + 3 + 3 * 6 * 6 * 2 + 2
    assert profile.notes == ("lazy layers have the sizes that these inputs give them: 0, 1, 3",)
    assert profile.crosscheck("torch").status == "reconciled"
    model(torch.ones(2, 5, 6, 6))


def test_lazy_layers_whose_sizes_are_a_matter_of_values():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.LazyLinear(2)

        def forward(self, x):
            return self.layer(x if x.sum() > 0 else x[:, :1])

    model = Branches()
    with pytest.raises(ModelError, match=r"lazy layers.*call it once on real inputs"):
        analyze(model, torch.ones(2, 4))
    assert model.layer.has_uninitialized_params()
