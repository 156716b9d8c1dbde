"""Opening model files: what loads, what is refused, and that nothing in a file runs."""

import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file
from torch import nn

from profiler import open_model
from profiler.errors import ModelError, RefusedError, UsageError
from profiler.inputs import find_inputs
from profiler.sources.checkpoint import stock_classes
from profiler.sources.limits import Limits


def stock_model():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU6(),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 8),
        nn.LayerNorm(8),
        nn.GELU(),
    )


def save(model, path):
    torch.save(model, path)
    return path


@pytest.mark.parametrize(
    "model",
    [
        stock_model(),
        nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, activation="gelu"), 2, enable_nested_tensor=False),
        nn.LSTM(4, 8, 2, bidirectional=True),
        nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.ModuleList([nn.Upsample(scale_factor=2), nn.PReLU()])}),
    ],
    ids=lambda m: type(m).__name__,
)
def test_stock_modules_load_and_equal_what_was_saved(model, tmp_path):
    opened = open_model(save(model, tmp_path / "m.pt"))
    assert opened.kind == "module"
    assert not opened.module.training
    state = model.state_dict()
    assert state.keys() == opened.module.state_dict().keys()
    assert all(torch.equal(state[k], v) for k, v in opened.module.state_dict().items())


class Own(nn.Module):
    def forward(self, x):
        return x


class Canary:
    """A pickle that touches a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_class_of_the_users_own_is_refused_by_name(tmp_path):
    with pytest.raises(RefusedError, match=r"test_sources\.Own.*--trust"):
        open_model(save(Own(), tmp_path / "m.pt"))


def test_with_trust_it_loads(tmp_path):
    assert isinstance(open_model(save(Own(), tmp_path / "m.pt"), trust=True).module, Own)


def test_a_hostile_pickle_is_refused_and_does_not_run(tmp_path):
    canary = tmp_path / "canary"
    with pytest.raises(RefusedError, match="getattr"):
        open_model(save({"a": Canary(canary)}, tmp_path / "m.pt"))
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Canary(canary)))
    with pytest.raises(RefusedError):
        open_model(tmp_path / "bare.pt")
    assert not canary.exists()


def tampered(model, path, **attributes):
    vars(model[0]).update(attributes)
    return save(model, path)


def test_smuggled_attributes_are_refused(tmp_path):
    with pytest.raises(RefusedError, match="carries forward"):
        open_model(tampered(stock_model(), tmp_path / "m.pt", forward=nn.ReLU()))


def test_hooks_are_refused(tmp_path):
    model = stock_model()
    model[0].register_forward_hook(print)
    with pytest.raises(RefusedError):
        open_model(save(model, tmp_path / "m.pt"))


class Constructed:
    def __reduce__(self):
        return nn.Linear, (20000, 20000)


class Made:
    def __reduce__(self):
        return torch.zeros, (1 << 40,)


@pytest.mark.parametrize("value", [Constructed(), Made()])
def test_constructors_are_never_called_with_the_files_arguments(value, tmp_path):
    with pytest.raises(RefusedError):
        open_model(save(value, tmp_path / "m.pt"))


def rewritten(source, target, change, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for info in old.infolist():
            name, data = change(info.filename, old.read(info))
            new.writestr(name, data)
    return target


def test_a_deflated_archive_is_refused(tmp_path):
    path = save(stock_model(), tmp_path / "m.pt")
    with pytest.raises(RefusedError, match="compressed"):
        open_model(rewritten(path, tmp_path / "z.pt", lambda n, d: (n, d), zipfile.ZIP_DEFLATED))


def test_storages_must_be_as_large_as_declared(tmp_path):
    path = save(stock_model(), tmp_path / "m.pt")
    with pytest.raises(ModelError, match="storage"):
        open_model(rewritten(path, tmp_path / "s.pt", lambda n, d: (n, d[:-4] if n.endswith("/data/0") else d)))


def test_a_giant_view_of_a_small_storage_is_counted_by_its_storage(tmp_path):
    path = save({"w": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "m.pt")
    opened = open_model(path)
    assert opened.tensors[0].shape == (10**6, 10**6)


def test_state_dicts_are_listed(tmp_path):
    model = stock_model()
    opened = open_model(save({"epoch": 3, "model": model.state_dict()}, tmp_path / "m.pt"))
    assert opened.kind == "weights"
    assert {t.name for t in opened.tensors} == {f"model.{name}" for name in model.state_dict()}
    assert sum(t.bytes for t in opened.tensors) == sum(t.nbytes for t in model.state_dict().values())


def test_tied_storages_are_seen(tmp_path):
    weight = torch.zeros(4)
    opened = open_model(save({"a": weight, "b": weight[:2]}, tmp_path / "m.pt"))
    assert len({t.storage for t in opened.tensors}) == 1


def test_safetensors_and_onnx_are_told_apart_by_content(tmp_path):
    save_file({"w": torch.zeros(2, 3)}, tmp_path / "a.onnx")
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    onnx.save(helper.make_model(graph), tmp_path / "b.safetensors")
    assert open_model(tmp_path / "a.onnx").kind == "weights"
    assert open_model(tmp_path / "b.safetensors").kind == "onnx"


def truncated(tmp_path):
    path = save(stock_model(), tmp_path / "whole.pt")
    half = tmp_path / "half.pt"
    half.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return half


def written(tmp_path, data):
    path = tmp_path / "file.pt"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda t: t / "missing.pt", "no such file"),
        (lambda t: t, "folder"),
        (lambda t: written(t, b""), "empty"),
        (truncated, "truncated"),
        (lambda t: written(t, b"hello, world, this is text"), "no model file"),
        (lambda t: written(t, b"\x08\x07\x12garbage" * 5), "ONNX"),
        (lambda t: written(t, (100).to_bytes(8, "little") + b"{" + b" " * 200), "safetensors"),
    ],
)
def test_bad_files_are_explained(make, words, tmp_path):
    with pytest.raises(ModelError, match=words):
        open_model(make(tmp_path))


def test_torchscript_is_refused(tmp_path):
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "m.pt")
    with pytest.raises(RefusedError, match="TorchScript"):
        open_model(tmp_path / "m.pt")


FACTORY = "from torch import nn\ndef net(width=4):\n    return nn.Linear(2, width)\n"


def test_factories_take_arguments_and_weights(tmp_path):
    (tmp_path / "net.py").write_text(FACTORY)
    save_file(nn.Linear(2, 6).state_dict(), tmp_path / "w.safetensors")
    torch.save(nn.Linear(2, 6).state_dict(), tmp_path / "w.pt")
    for weights in ("w.safetensors", "w.pt"):
        opened = open_model(f"{tmp_path}/net.py:net", weights=tmp_path / weights, kwargs={"width": 6})
        assert opened.module.out_features == 6
    assert isinstance(open_model("torch.nn:Identity").module, nn.Identity)


def test_a_factory_finds_its_neighbours_when_it_is_called(tmp_path):
    (tmp_path / "layers_of_mine.py").write_text("from torch import nn\nlayer = nn.Linear(2, 3)\n")
    (tmp_path / "late.py").write_text("def net():\n    from layers_of_mine import layer\n    return layer\n")
    assert open_model(f"{tmp_path}/late.py:net").module.out_features == 3


@pytest.mark.parametrize(
    ("target", "weights", "words"),
    [
        ("net.py:net", "w.safetensors", "does not fit"),
        ("net.py:other", None, "other"),
        ("missing.py:net", None, "missing"),
        ("no_such_package:net", None, "no_such_package"),
        ("torch.nn:Linear", None, "factory failed"),
        ("torch:zeros", None, "factory failed"),
    ],
)
def test_factories_that_do_not_work_are_explained(target, weights, words, tmp_path):
    (tmp_path / "net.py").write_text(FACTORY)
    save_file({"other": torch.zeros(2)}, tmp_path / "w.safetensors")
    full = f"{tmp_path}/{target}" if ".py" in target else target
    with pytest.raises(ModelError, match=words):
        open_model(full, weights=tmp_path / weights if weights else None)


def test_weights_go_with_a_factory(tmp_path):
    with pytest.raises(UsageError, match="factory"):
        open_model(save(stock_model(), tmp_path / "m.pt"), weights=tmp_path / "w.safetensors")


def test_every_stock_class_is_torchs_own():
    assert len(stock_classes()) > 100
    assert all(kind.module.startswith("torch.nn.modules.") for kind in stock_classes())


def test_opening_a_weights_file_imports_nothing_of_it(tmp_path):
    """The refusal happens before torch's own unpickler is asked."""
    save(Own(), tmp_path / "m.pt")
    code = f"from profiler import open_model\nopen_model({str(tmp_path / 'm.pt')!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "RefusedError" in done.stderr
    assert "No module named" not in done.stderr


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("wrap", [lambda m: {"epoch": 3, "model": m, "args": {"lr": 0.1}}, lambda m: [m, {"lr": 0.1}]])
def test_of_a_checkpoint_the_network_is_taken(wrap, trust, tmp_path):
    model = stock_model()
    opened = open_model(save(wrap(model), tmp_path / "m.pt"), trust=trust)
    assert opened.kind == "module"
    assert all(torch.equal(a, b) for a, b in zip(opened.module.parameters(), model.parameters(), strict=True))
    assert "the network is the one stored as" in " ".join(opened.notes)


def test_what_downloads_often_are_is_named(tmp_path):
    for text, words in (("version https://git-lfs.github.com/spec/v1\n", "git lfs pull"), ("<!DOCTYPE html>", "HTML")):
        (tmp_path / "m.pt").write_text(text)
        with pytest.raises(ModelError, match=words):
            open_model(tmp_path / "m.pt")


def test_a_network_in_half_precision_gets_an_input_of_its_own_type():
    example = find_inputs(nn.Sequential(nn.Conv2d(3, 4, 3)).half(), "net")
    assert example.args[0].dtype == torch.float16


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("memory=3GB", r"'3GB' is no whole number; write memory=\d+"),
        ("memory", r"'' is no whole number; write memory=\d+"),
        ("room=3", "write NAME=N; the limits are file_bytes, .*memory"),
    ],
)
def test_a_malformed_limit_is_said(text, words):
    with pytest.raises(UsageError, match=words):
        Limits().raised([text])
