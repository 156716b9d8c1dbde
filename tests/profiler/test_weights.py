"""Weights for a factory's network: found in checkpoints of every form, by names and sizes; nothing in them runs."""

import argparse
import copy
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch import nn

from profiler import open_model
from profiler.commands import profile
from profiler.errors import ModelError, RefusedError
from profiler.sources import Limits
from profiler.sources.checkpoint import check_module, unknown_names
from profiler.sources.fit import fits
from profiler.sources.opcodes import read_symbolically

NET = """
import torch
from torch import nn

def net():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))

def tied():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    return model

def lazy():
    return nn.Sequential(nn.LazyLinear(2))

def waves():
    model = nn.Module()
    model.w = nn.Parameter(torch.zeros(3))
    return model

def nothing():
    return nn.ReLU()
"""


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))


@pytest.fixture
def net(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    return f"{tmp_path}/net.py:net"


def save(value, tmp_path, *, zipped=True):
    torch.save(value, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    return tmp_path / "w.pt"


def prefixed(prefix, state):
    return OrderedDict((prefix + name, tensor) for name, tensor in state.items())


def trained(model):
    """The model's optimizer after a step: it holds tensors of the same sizes as the parameters."""
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(2, 1, 8, 8)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


def state():
    return network().state_dict()


CHECKPOINTS = {
    "plain": (state, None),
    "nested": (lambda: {"epoch": 3, "model": state(), "optimizer": trained(network())}, "took 'model' "),
    "optimizer first": (lambda: {"optimizer": trained(network()), "net": {"params": state()}}, "took 'net.params' "),
    "lightning": (
        lambda: {"state_dict": {**prefixed("model.", state()), "loss.weight": torch.ones(3)}, "hyper": {"lr": 0.1}},
        "took 'state_dict.model' ",
    ),
    "data parallel": (lambda: prefixed("module.", state()), "took 'module' "),
    "nested data parallel": (lambda: {"state_dict": prefixed("module.", state())}, "took 'state_dict.module' "),
    "compiled": (lambda: prefixed("_orig_mod.", state()), "took '_orig_mod' "),
    "with a copy": (lambda: {"model": state(), "ema": network(1).state_dict()}, "'ema' would fit as well"),
    "a copy first": (lambda: {"model_ema": network(1).state_dict(), "model": state()}, "'model_ema' would fit as well"),
    "a module": (network, None),
    "a module in a dict": (lambda: {"model": network(), "epoch": 1}, "took 'model' "),
    "list": (lambda: [1, state()], "took '1' "),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("form", CHECKPOINTS)
def test_the_part_that_fits_is_taken_and_named(form, zipped, net, tmp_path):
    make, words = CHECKPOINTS[form]
    opened = open_model(net, weights=save(make(), tmp_path, zipped=zipped))
    truth = state()
    assert all(torch.equal(truth[n], t) for n, t in opened.module.state_dict().items())
    assert len(opened.notes) == (words is not None)
    assert words is None or words in opened.notes[0]


def test_safetensors_with_a_prefix(net, tmp_path):
    save_file(prefixed("backbone.", state()), tmp_path / "w.safetensors")
    opened = open_model(net, weights=tmp_path / "w.safetensors")
    assert "took 'backbone'" in opened.notes[0]
    assert torch.equal(opened.module[0].weight, state()["0.weight"])


class Own(nn.Module):
    """A class that the reader of the file does not have."""

    def __init__(self, path):
        super().__init__()
        self.layers = network()
        self.path = path

    def __reduce__(self):
        return _own, (self.path,), vars(self)


def _own(path):
    Path(path).touch()
    return object.__new__(Own)


@pytest.mark.parametrize("zipped", [True, False])
def test_only_the_tensors_of_a_file_that_would_run_are_taken(zipped, net, tmp_path):
    canary = tmp_path / "canary"
    saved = {"model": state(), "args": argparse.Namespace(lr=0.1), "best": Own(str(canary))}
    opened = open_model(net, weights=save(saved, tmp_path, zipped=zipped))
    assert torch.equal(opened.module[4].weight, state()["4.weight"])
    assert not canary.exists()
    assert "argparse.Namespace" in opened.notes[-1]
    with pytest.raises(RefusedError, match=r"argparse\.Namespace"):
        open_model(tmp_path / "w.pt")
    assert not canary.exists()


def test_a_whole_module_of_the_users_own_serves_as_weights(net, tmp_path):
    canary = tmp_path / "canary"
    opened = open_model(net, weights=save(Own(str(canary)), tmp_path))
    assert torch.equal(opened.module[4].weight, state()["4.weight"])
    assert "took 'layers'" in opened.notes[0]
    assert not canary.exists()


def without(state, *names):
    return OrderedDict((n, t) for n, t in state.items() if n not in names)


MISFITS = {
    "other": (lambda: {"a": torch.ones(2), "b": torch.ones(2)}, r"the network has 0\.weight.*the file has a, b"),
    "no tensors": (lambda: {"epoch": 1}, "the file has no tensors"),
    "lacks": (lambda: {"model": without(state(), "4.bias")}, r"'model' lacks 4\.bias"),
    "extra": (lambda: {**state(), "5.weight": torch.ones(2)}, r"has no place for 5\.weight"),
    "size": (
        lambda: {"model": {**state(), "4.weight": torch.ones(3, 144)}},
        r"differs in 4\.weight \(3x144, the network's is 2x144\)",
    ),
    "two": (
        lambda: {"model": without(state(), "4.bias"), "ema": without(state(), "4.bias", "4.weight")},
        r"'model' lacks 4\.bias; 'ema' lacks 4\.weight, 4\.bias",
    ),
    "quantized": (
        lambda: {**state(), "4.weight": torch.quantize_per_tensor(torch.ones(2, 144), 0.1, 0, torch.qint8)},
        r"4\.weight is quantized",
    ),
    "sparse": (lambda: {**state(), "4.weight": torch.ones(2, 144).to_sparse()}, r"4\.weight is sparse_coo"),
    "complex": (lambda: {**state(), "4.bias": torch.ones(2, dtype=torch.complex64)}, r"4\.bias is complex"),
    "conjugate": (
        lambda: {**state(), "4.bias": torch.ones(2, dtype=torch.complex64).conj()},
        r"4\.bias is a view that is conj",
    ),
    "meta": (lambda: {**state(), "4.bias": torch.ones(2, device="meta")}, r"4\.bias was on the device meta"),
    "subclass": (lambda: {**state(), "4.bias": torch.ones(2).as_subclass(Sub)}, r"4\.bias is of the class .*Sub"),
}


class Sub(torch.Tensor):
    pass


@pytest.mark.filterwarnings("ignore:.*quantize:DeprecationWarning", "ignore:.*quantize:UserWarning")
@pytest.mark.parametrize("form", MISFITS)
def test_what_does_not_fit_is_explained(form, net, tmp_path):
    make, words = MISFITS[form]
    with pytest.raises(ModelError, match=words):
        open_model(net, weights=save(make(), tmp_path))


@pytest.mark.parametrize("form", ["quantized", "sparse", "complex", "meta"])
@pytest.mark.filterwarnings("ignore:.*quantize:DeprecationWarning", "ignore:.*quantize:UserWarning")
def test_tensors_of_special_kinds_are_listed(form, tmp_path):
    entries = {t.name: t for t in open_model(save(MISFITS[form][0](), tmp_path)).tensors}
    assert len(entries) == len(state())
    expected = {"quantized": ("4.weight", "qint8", 288), "sparse": ("4.weight", "float32", 288 * 20),
                "complex": ("4.bias", "complex64", 16), "meta": ("4.bias", "float32", 0)}  # fmt: skip
    name, dtype, size = expected[form]
    assert (entries[name].dtype, entries[name].bytes, entries[name].shape) == (dtype, size, state()[name].shape)


def test_checkpoints_before_batch_norm_counted_its_batches_load(net, tmp_path):
    old = copy.deepcopy(state())
    del old["1.num_batches_tracked"]
    old._metadata["1"]["version"] = 1
    assert open_model(net, weights=save({"model": old}, tmp_path)).module[1].num_batches_tracked == 0
    new = copy.deepcopy(state())
    del new["1.num_batches_tracked"]
    with pytest.raises(ModelError, match=r"lacks 1\.num_batches_tracked"):
        open_model(net, weights=save({"model": new}, tmp_path))


def test_one_of_two_tied_names_is_enough(net, tmp_path):
    weights = {"0.weight": torch.ones(3, 3), "0.bias": torch.ones(3), "1.bias": torch.zeros(3)}
    module = open_model(net.replace(":net", ":tied"), weights=save(weights, tmp_path)).module
    assert module[1].weight is module[0].weight
    assert module[1].weight.sum() == 9


def test_lazy_layers_take_the_files_sizes(net, tmp_path):
    weights = {"model": nn.Sequential(nn.Linear(5, 2)).state_dict()}
    module = open_model(net.replace(":net", ":lazy"), weights=save(weights, tmp_path)).module
    assert torch.equal(module[0].weight, weights["model"]["0.weight"])


def test_a_network_without_tensors_fits_nothing(net, tmp_path):
    with pytest.raises(ModelError, match="does not fit"):
        open_model(net.replace(":net", ":nothing"), weights=save(state(), tmp_path))


def test_a_file_of_another_kind_is_no_weights(net, tmp_path):
    canary = tmp_path / "canary"
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(Own(str(canary)), 4))
    with pytest.raises(ModelError, match="a bare pickle and no source of weights"):
        open_model(net, weights=tmp_path / "w.pkl")
    assert not canary.exists()


def test_the_limits_hold_for_weights(net, tmp_path):
    with pytest.raises(RefusedError, match="--limit tensors="):
        open_model(net, weights=save(state(), tmp_path), limits=Limits(tensors=3))


def test_bare_pickles_are_refused_with_their_tensors(tmp_path):
    canary = tmp_path / "canary"
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"w": torch.ones(2, 3), "x": Own(str(canary))}, 4))
    with pytest.raises(RefusedError, match="bare pickle") as refused:
        open_model(tmp_path / "w.pkl")
    listed = {t.name: (t.shape, t.dtype) for t in refused.value.known.tensors}
    assert listed["w"] == ((2, 3), "float32")
    assert listed["x.layers.4.weight"] == ((2, 144), "float32")
    assert not canary.exists()
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(Own, 4)[:-1])
    with pytest.raises(RefusedError, match="bare pickle") as refused:
        open_model(tmp_path / "w.pkl")
    assert refused.value.known is None


def test_sub_trees_and_ties_are_noted(tmp_path):
    shared = torch.ones(3)
    path = save({"model": {"a": shared, "b": shared[:2]}, "ema": {"a": torch.ones(3)}, "step": torch.ones(1)}, tmp_path)
    notes = open_model(path).notes
    assert notes == (
        "tensors by sub-tree: model (2), ema (1), at the top (1)",
        "tensors that share a storage: model.a, model.b",
    )
    assert open_model(save(state(), tmp_path)).notes == ()


def test_the_command_line_says_what_it_took(net, tmp_path):
    path = save({"model": state(), "ema": state(), "args": argparse.Namespace()}, tmp_path)
    done = CliRunner().invoke(profile, [net, "--weights", str(path), "--check", "none"])
    assert done.exit_code == 0
    assert "took 'model'" in done.stderr
    refused = CliRunner().invoke(profile, [str(path)])
    assert isinstance(refused.exception, RefusedError)
    assert "model.0.weight" in refused.stdout
    assert "tensors by sub-tree: model (9), ema (9)" in refused.stderr


def test_a_prefix_is_found_among_many_of_the_same_ending():
    stored = {f"layers.{n}.{name}": (n,) for n in range(500) for name in ("weight", "bias")}
    best = fits({"weight": (400,), "bias": (400,)}, stored)[0]
    assert (best.prefix, best.whole) == ("layers.400.", True)


def test_what_a_checkpoint_notes_beside_its_tensors_does_no_harm(tmp_path):
    notes = {
        "bytes": b"\xff",
        "complex": 1j,
        "device": torch.device("cpu"),
        "type": torch.float16,
        "size": torch.Size([2]),
    }
    opened = open_model(save({"model": state(), **notes}, tmp_path))
    assert len(opened.tensors) == len(state())


class Outer:
    class Inner:
        """A class that a pickle of protocol 2 gets by calling getattr."""


def test_a_call_of_what_the_pickle_computed_is_refused_with_its_tensors(net, tmp_path):
    path = save({"model": state(), "inner": Outer.Inner()}, tmp_path)
    with pytest.raises(RefusedError, match="getattr") as refused:
        open_model(path)
    assert len(refused.value.known.tensors) == len(state())
    assert "took 'model'" in open_model(net, weights=path).notes[0]
    computed = b"\x80\x02ccollections\nOrderedDict\n)R)R."  # nothing in it has an unknown name
    tree, names = read_symbolically(computed, "w.pkl")
    assert not unknown_names(names)
    with pytest.raises(RefusedError, match="something that it computed itself"):
        check_module(tree, "w.pkl")
