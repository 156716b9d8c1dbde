"""TorchScript archives: described without being run, run where the user trusts them."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from profiler import analyze, open_model
from profiler.errors import ModelError, RefusedError

CLI = Path(__file__).resolve().parents[2] / "cli.py"
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


def network():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), layers).eval()


def script(path, model=None):
    torch.jit.script(model or network()).save(path)
    return path


def trace(path):
    torch.jit.trace(network(), torch.zeros(1, 3, 8, 8)).save(path)
    return path


@pytest.mark.parametrize("make", [script, trace])
def test_parameters_and_buffers_are_listed_without_running_it(make, tmp_path):
    with pytest.raises(RefusedError, match="TorchScript") as refused:
        open_model(make(tmp_path / "m.pt"))
    known = refused.value.known
    state = network().state_dict()
    listed = {t.name: (t.shape, t.dtype, t.bytes) for t in known.tensors}
    assert listed == {n: (tuple(t.shape), str(t.dtype).removeprefix("torch."), t.nbytes) for n, t in state.items()}
    assert any("code/__torch__" in note for note in known.notes)
    for words in ("ONNX", "--weights", "--trust"):
        assert words in str(refused.value)


class WithConstant(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.w


def test_constants_of_the_code_are_listed(tmp_path):
    frozen = torch.jit.freeze(torch.jit.script(WithConstant().eval()))
    frozen.save(tmp_path / "m.pt")
    with pytest.raises(RefusedError) as refused:
        open_model(tmp_path / "m.pt")
    assert [(t.name, t.shape) for t in refused.value.known.tensors] == [("CONSTANTS.c0", (2,))]


class Writes(nn.Module):
    """Writes a file while torch.jit.load reads it."""

    def __init__(self, path: str):
        super().__init__()
        self.path = path
        self.w = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        return x

    @torch.jit.export
    def __getstate__(self):
        return self.path, self.w, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, Tensor, bool]):
        self.path = state[0]
        self.w = state[1]
        self.training = state[2]
        torch.ops.aten.save(self.w, self.path)


def test_a_module_that_writes_as_it_loads_is_named_and_does_not_run(tmp_path):
    canary = tmp_path / "canary"
    script(tmp_path / "m.pt", Writes(str(canary)))
    canary.unlink(missing_ok=True)
    with pytest.raises(RefusedError, match=r"its code has .*save") as refused:
        open_model(tmp_path / "m.pt")
    assert "__setstate__" in str(refused.value)
    (tmp_path / "net.py").write_text("from torch import nn\ndef net():\n    return nn.Linear(2, 2)\n")
    with pytest.raises(ModelError, match="does not fit"):
        open_model(f"{tmp_path}/net.py:net", weights=tmp_path / "m.pt")
    assert not canary.exists()
    open_model(tmp_path / "m.pt", trust=True)
    assert canary.exists()  # the file is what it is taken for


def rewritten(source, target, change):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, change(info.filename, old.read(info)), info.compress_type)
    return target


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"torch.save(x, 'f')", r"torch\.save"),
        (b"ops.aten.save(x, 'f')", r"torch\.save"),
        (b"y = torch.from_file('/etc/passwd')", "from_file"),
        (b"y = ops . mine . op(x)", r"ops\.mine"),
        (b"z : __torch__.torch.classes.mine.Thing", r"torch\.classes\.mine"),
    ],
)
def test_risky_operators_in_its_code_are_named(line, words, tmp_path):
    script(tmp_path / "m.pt")
    add = lambda name, data: data + line if name.endswith(".py") else data  # noqa: E731  # one use
    with pytest.raises(RefusedError, match=words):
        open_model(rewritten(tmp_path / "m.pt", tmp_path / "risky.pt", add))


def test_plain_code_is_not_called_risky(tmp_path):
    with pytest.raises(RefusedError) as refused:
        open_model(script(tmp_path / "m.pt"))
    assert "its code has" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda n, d: b"" if n.endswith("/data.pkl") else d, "damaged"),
        (lambda n, d: b"\x80\x02K\x01." if n.endswith("/data.pkl") else d, "no module"),
        (lambda n, d: d[:-4] if n.endswith("/data/0") else d, "storage 0"),
        (lambda n, d: d + b"." if n.endswith("/constants.pkl") else d, "follow"),
    ],
)
def test_damage_is_explained(change, words, tmp_path):
    script(tmp_path / "m.pt")
    with pytest.raises(ModelError, match=words):
        open_model(rewritten(tmp_path / "m.pt", tmp_path / "bad.pt", change))


@pytest.mark.parametrize("make", [script, trace])
def test_with_trust_it_counts_what_the_module_counts(make, tmp_path):
    opened = open_model(make(tmp_path / "m.pt"), trust=True)
    assert opened.kind == "module"
    assert analyze(opened.module, (1, 3, 8, 8)).totals == analyze(network(), (1, 3, 8, 8)).totals


def test_the_sizes_it_was_traced_on_are_taken(tmp_path):
    example = open_model(trace(tmp_path / "t.pt"), trust=True).inputs({})
    assert [tuple(t.shape) for t in example.args] == [(1, 3, 8, 8)]
    assert "traced" in example.note
    assert open_model(script(tmp_path / "s.pt"), trust=True).inputs is None


@pytest.mark.parametrize("make", [script, trace])
def test_its_tensors_serve_as_weights(make, tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef net():\n"
        "    layers = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), layers)\n"
    )
    module = open_model(f"{tmp_path}/net.py:net", weights=make(tmp_path / "m.pt")).module
    truth = network().state_dict()
    assert all(torch.equal(truth[n], t) for n, t in module.state_dict().items())


def test_the_command_line_runs_it_with_trust(tmp_path):
    for make, given in ((trace, []), (script, ["--input", "1x3x8x8"])):
        path = make(tmp_path / "m.pt")
        command = [sys.executable, str(CLI), "profile", str(path), "--trust", "--check", "none", *given]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0
        assert "6,920 MACs" in done.stdout
        assert "its layers have no paths" in done.stderr
