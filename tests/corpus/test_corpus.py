"""Every hostile file ends in one clear message and an exit code, and nothing else happens."""

import re

import numpy as np
import pytest

from .assemble import torch_zip
from .case import SECRET, Scene
from .catalogue import CASES, HARMLESS
from .pickles import ROUTES, mkdir, routed
from .server import Server, fresh
from .watch import Opened, misdeeds

SECONDS = 5
PEAK = 1 << 30


@pytest.fixture(scope="module")
def server():
    made = Server()
    yield made
    made.close()


@pytest.fixture
def scene(tmp_path):
    made = Scene(tmp_path).set_up()
    yield made
    for path in made.model.iterdir():  # some are large, and pytest keeps folders
        if not path.is_dir() or path.is_symlink():
            path.unlink()


def options(case, scene):
    return [option.format(model=scene.model) for option in case.options]


def watched(run, case, scene, path, command="profile", more=(), **environment):
    """The outcome of a run, after the checks that hold for every file."""
    extra = environment if run is fresh else {"environment": environment}
    argv = [command, str(path), *options(case, scene), *more]
    with Opened(scene.outside, scene.secret, scene.here / "secret.bin") as opened:
        outcome = run(argv, path, scene.here, scene.root / "record", **extra)
        assert not opened.seen(), "a file outside the model's folder was opened"
    assert not scene.canary.exists(), "code in the file has run"
    assert not (scene.here / "canary").exists()
    assert sorted(p.name for p in scene.here.iterdir()) == ["secret.bin"], "files were written"
    found = misdeeds(outcome, scene.model, path)
    if command == "quantize":  # writes its report, through a file beside it, and says on what machine it ran
        found = [misdeed for misdeed in found if not re.search(r"/\.?out\.|'uname', '-p'|/etc/os-release", misdeed)]
    assert not found, outcome.stderr
    assert SECRET[:6].decode() not in outcome.stdout + outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert "unexpected" not in outcome.stderr, outcome.stderr
    return outcome


def refused(outcome, case):
    lines = outcome.message()
    assert outcome.code in case.codes, outcome.stderr
    assert 1 <= len(lines) <= 2, outcome.stderr
    assert lines[0].startswith("error: ")
    assert len(outcome.stderr) < 2000
    assert re.search(case.words, outcome.stderr), outcome.stderr
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", outcome.stderr)


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_file_is_refused(name, scene, server):
    case = CASES[name]
    outcome = watched(server.run, case, scene, case.make(scene))
    refused(outcome, case)
    assert outcome.seconds < case.seconds
    assert outcome.peak < case.peak


@pytest.mark.parametrize("name", HARMLESS)
def test_a_strange_file_is_opened_and_nothing_in_it_happens(name, scene, server):
    case = HARMLESS[name]
    outcome = watched(server.run, case, scene, case.make(scene))
    assert outcome.code in case.codes, outcome.stderr
    text = outcome.stdout + outcome.stderr
    assert all(re.search(words, text) for words in case.printed), text
    assert not [words for words in case.absent if words in text]
    assert outcome.seconds < SECONDS
    assert outcome.peak < PEAK


@pytest.mark.parametrize("name", [name for name, case in {**CASES, **HARMLESS}.items() if case.naive])
def test_the_code_in_it_is_live(name, scene, server):
    """What trusts the file runs its code: a refusal of a dud would prove nothing."""
    case = {**CASES, **HARMLESS}[name]
    path = case.make(scene)
    outcome = server.run([], path, scene.here, scene.root / "record", naive=case.naive)
    assert scene.canary.exists(), outcome.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_hostile_file_is_refused_by_a_process_of_its_own(name, scene, server):
    case = CASES[name]
    path = case.make(scene)
    idle = fresh(["profile", "missing.pt"], path, scene.here, scene.root / "idle")
    outcome = watched(fresh, case, scene, path)
    refused(outcome, case)
    assert outcome.seconds - idle.seconds < case.seconds
    assert outcome.peak < case.peak


# quantize runs the graph in ONNX Runtime, where a loop of 2**60 turns takes its time: see docs/security.md.
GRAPHS = {
    name: case
    for name, case in {**CASES, **HARMLESS}.items()
    if name.startswith("ONNX") and "names with" not in name and "turns" not in name
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GRAPHS)
def test_quantize_does_no_more(name, scene):
    case = GRAPHS[name]
    path = case.make(scene)
    data = scene.model / "calibration.npz"
    np.savez(data, x=np.zeros((8, 4), np.float32))
    more = ["--calibration", str(data), "--output", str(scene.model / "out.onnx"), "--seconds", "0.1", "--no-cold"]
    outcome = watched(fresh, case, scene, path, "quantize", more)
    if name in CASES:
        refused(outcome, case)
    assert outcome.code in (3, 4) or (name in HARMLESS and "EPContext" not in name), outcome.stderr
    assert (scene.model / "out.onnx").exists() == (outcome.code == 0)


# Switches of torch and onnx that make loading less careful.
SWITCHES = {
    "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1",
    "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "0",
    "NETGAUGE_TRUST": "1",
    "TRUST": "1",
    "TRUST_REMOTE_CODE": "1",
    "HF_HUB_ENABLE_REMOTE_CODE": "1",
    "PYTHONSAFEPATH": "",
    "PYTHONOPTIMIZE": "2",
    "TORCH_ALLOW_UNSAFE_GLOBALS": "1",
    "ONNX_ML": "1",
}
EVIL = (
    "pickle, GLOBAL and REDUCE",
    "TorchScript, __setstate__ that writes",
    "legacy torch.save",
    "module, own forward",
)


@pytest.mark.parametrize("variable", SWITCHES)
@pytest.mark.parametrize("name", EVIL)
def test_no_variable_of_the_environment_lets_code_run(name, variable, scene, server):
    case = CASES[name]
    refused(watched(server.run, case, scene, case.make(scene), **{variable: SWITCHES[variable]}), case)


@pytest.mark.slow
@pytest.mark.parametrize("variable", SWITCHES)
def test_no_variable_set_from_the_start_does(variable, scene):
    case = CASES[EVIL[0]]
    refused(watched(fresh, case, scene, case.make(scene), **{variable: SWITCHES[variable]}), case)


def test_the_switch_does_what_it_says(scene, server):
    """With --trust the same file runs: the tests above would see it."""
    path = scene.put("model.pt", torch_zip(mkdir(scene)))
    server.run(["profile", str(path), "--trust"], path, scene.here, scene.root / "record")
    assert scene.canary.exists()


def test_the_hook_sees_what_it_should(scene, server):
    """A factory is code that the user names; what it does is recorded."""
    path = scene.put(
        "evil.py",
        f"""
import os, socket, subprocess, ctypes
from torch import nn
open({str(scene.secret)!r}).read()
open({str(scene.here / "new")!r}, "w").write("x")
subprocess.run(["true"])
socket.socket().close()
ctypes.CDLL(None)
def net():
    return nn.Linear(2, 2)
""".encode(),
    )
    with Opened(scene.outside, scene.secret) as opened:
        outcome = server.run(["profile", f"{path}:net"], path, scene.here, scene.root / "record")
        assert opened.seen()
    assert outcome.code == 0, outcome.stderr
    found = "\n".join(misdeeds(outcome, scene.model, path))
    for words in (f"opened {scene.secret}", "wrote", "subprocess.Popen", "socket.", "ctypes.dlopen"):
        assert words in found


def test_native_code_is_seen_too(scene):
    """torch reads files from C++, where Python has no audit event."""
    import torch

    with Opened(scene.outside, scene.secret) as opened:
        torch.from_file(str(scene.secret), shared=False, size=16, dtype=torch.uint8)
        assert opened.seen()


@pytest.mark.parametrize("name", ROUTES)
def test_the_reader_alone_refuses_every_route(name, scene):
    """Not only the command line: `read_symbolically` and the names that it finds."""
    from profiler.errors import NetgaugeError
    from profiler.sources.checkpoint import unknown_names
    from profiler.sources.opcodes import read_symbolically

    body, four = ROUTES[name]
    try:
        _, names = read_symbolically(routed(body, four=four)(scene), "file")
    except NetgaugeError:
        return
    assert unknown_names(names)


def test_there_are_many():
    assert len(CASES) >= 60
