"""`--trust`: classes in the user's folder are found, and a file's code runs in a process with limits."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from profiler.trusted.parent import run as run_in_a_child

ROOT = Path(__file__).parents[2]
CLI = [sys.executable, str(ROOT / "cli.py")]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="limits of processes are Linux's")
# Conv2d(1, 8, 3) on 32x32 gives 30x30: 8 * 9 * 900 MACs, and the linear layer has 8 * 10.
MACS = 8 * 9 * 900 + 80


def run(*arguments, cwd, **environment):
    command = [*CLI, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env={**os.environ, **environment}, check=False, timeout=120
    )


NET = """
    from torch import nn
    from {package}.blocks import Block

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.fc = Block(), nn.Linear(8, 10)

        def forward(self, x):
            from {package} import late
            from .later import same
            from utils import pooled
            return self.fc(same(pooled(late.relu(self.block(x)))))
"""
BLOCKS = """
    from torch import nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 8, 3)

        def forward(self, x):
            return self.conv(x)
"""
SAVE = """
import sys, types
sys.modules['{package}'] = own = types.ModuleType('{package}')  # its author has no netgauge, which has a `profiler`
own.__path__ = ['{package}']
import torch
from {package}.net import Net
torch.save({value}, sys.argv[1])
"""


def folder_of(folder, package, *, regular=True):
    """A user's folder with a package of that name, and a module beside it that forward imports."""
    files = {
        f"{package}/net.py": NET.format(package=package),
        f"{package}/blocks.py": BLOCKS,
        f"{package}/late.py": "def relu(x): return x.relu()",
        f"{package}/later.py": "def same(x): return x",
        "utils.py": "def pooled(x): return x.mean((2, 3))",
        **({f"{package}/__init__.py": ""} if regular else {}),
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return folder


def saved(folder, path, package, value="Net()"):
    """The file as the user's own program writes it, which knows nothing of netgauge."""
    path.parent.mkdir(parents=True, exist_ok=True)
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    code = SAVE.format(package=package, value=value)
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=folder, env=environment, check=True)
    return path


@pytest.mark.parametrize("regular", [True, False], ids=["package", "no __init__.py"])
@pytest.mark.parametrize("package", ["models", "profiler"])
def test_a_class_in_a_package_of_the_users_folder(package, regular, tmp_path):
    path = saved(folder_of(tmp_path / "theirs", package, regular=regular), tmp_path / "theirs/net.pt", package)
    (tmp_path / "elsewhere").mkdir()
    done = run("profile", path, "--trust", "--input", "1x1x32x32", "--format", "json", cwd=tmp_path / "elsewhere")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["totals"]["macs"] == MACS
    assert [layer["name"] for layer in report["layers"]] == ["block.conv", "", "", "fc"]
    assert report["crosscheck"]["fvcore"]["status"] == "reconciled"


def test_a_checkpoint_below_the_folder_holds_the_network_among_other_things(tmp_path):
    folder = folder_of(tmp_path / "theirs", "models")
    path = saved(folder, folder / "runs/1/last.pt", "models", "{'epoch': 3, 'ema': None, 'model': Net()}")
    done = run("profile", path, "--trust", "--input", "1x1x32x32", "--check", "none", "--format", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["totals"]["macs"] == MACS
    assert "the network is the one stored as 'model'" in done.stderr


def test_the_current_folder_is_searched_and_a_missing_module_says_where(tmp_path):
    folder = folder_of(tmp_path / "theirs", "models")
    path = saved(folder, tmp_path / "files/net.pt", "models")
    options = ("--trust", "--input", "1x1x32x32", "--check", "none")
    assert run("profile", path, *options, cwd=folder).returncode == 0
    done = run("profile", path, *options, cwd=tmp_path / "files")
    assert done.returncode == 4
    assert re.fullmatch(
        rf"error: .*net\.pt: needs models\.net\.Net, .*no module models\.net in {tmp_path}/files, .*\n", done.stderr
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import nosuchthing", r"models/net\.py, line 1\): ModuleNotFoundError: No module named 'nosuchthing'"),
        ("x = 1\nraise OSError('no disk')", r"models/net\.py, line 2\): OSError: no disk"),
        ("Other = 1", r"needs models\.net\.Net .*Can't get attribute 'Net'"),
        ("import sys; sys.exit(0)", r"models/net\.py, line 1\): SystemExit: 0"),
    ],
    ids=["import", "raises", "no such class", "exits"],
)
def test_what_is_wrong_with_the_users_module_is_named(text, words, tmp_path):
    folder = folder_of(tmp_path, "models")
    path = saved(folder, folder / "net.pt", "models")
    (folder / "models/net.py").write_text(text)
    done = run("profile", path, "--trust", cwd=tmp_path)
    assert done.returncode == 4
    assert re.search(words, done.stderr), done.stderr
    assert "Traceback" not in done.stderr


def test_a_class_of_a_script_is_explained_and_no_script_runs(tmp_path):
    script = "import sys, torch\nclass Net(torch.nn.Linear): pass\ntorch.save(Net(2, 2), sys.argv[1])\n"
    (tmp_path / "train.py").write_text(script)
    subprocess.run([sys.executable, "train.py", "net.pt"], cwd=tmp_path, check=True)
    (tmp_path / "train.py").write_text(f"open('ran', 'w')\n{script}")
    done = run("profile", "net.pt", "--trust", cwd=tmp_path)
    assert done.returncode == 4
    assert "Name it as train.py:Net" in done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_quantize_takes_such_a_module(tmp_path):
    path = saved(folder_of(tmp_path, "quant"), tmp_path / "net.pt", "quant")
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).normal(size=(16, 1, 32, 32)).astype(np.float32))
    options = ("--calibration", "d.npz", "--seconds", "0.2", "--output", "out/q.onnx")
    (tmp_path / "out").mkdir()
    refused = run("quantize", path, *options, cwd=tmp_path)
    assert (refused.returncode, list((tmp_path / "out").iterdir())) == (3, [])
    done = run("quantize", path, *options, "--trust", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"q.onnx", "q.float.onnx", "q.quantization.json"}
    report = json.loads((tmp_path / "out/q.quantization.json").read_text())
    assert {row["op"] for row in report["nodes"]} & {"Conv", "Gemm"}


class Runs:
    """Runs code as it is unpickled."""

    def __init__(self, code):
        self.code = textwrap.dedent(code)

    def __reduce__(self):
        return exec, (self.code, {})


def file_that(code, tmp_path):
    torch.save(Runs(code), tmp_path / "m.pt")
    return "m.pt"


def test_nothing_runs_without_trust_and_only_the_flag_gives_it(tmp_path):
    target = file_that("open('canary', 'w')", tmp_path)
    names = ("NETGAUGE_TRUST", "TRUST", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    assert run("profile", target, cwd=tmp_path, **dict.fromkeys(names, "1")).returncode == 3
    assert not (tmp_path / "canary").exists()
    assert run("profile", target, "--trust", cwd=tmp_path).returncode == 4  # what it holds is no network
    assert (tmp_path / "canary").exists()


LIMITED = {
    "memory": ("x = bytearray(4 << 30)", ("memory=1000000000",), "1,000,000,000 bytes of memory .*--limit memory=N"),
    "tensors": ("import torch; torch.ones(1 << 30)", ("memory=1000000000",), "allocate memory.*--limit memory=N"),
    "seconds": ("while True: pass", ("seconds=1",), "more than 1 seconds of processor time; --limit seconds=N"),
    "written": ("open('f', 'wb').write(bytes(1 << 20))", ("written=1000",), "beyond 1,000 bytes; --limit written=N"),
    "network": ("import socket; socket.create_connection(('192.0.2.1', 80), 5)", (), "no network|has the network"),
    "crash": ("import os; os.abort()", (), r"crashed \(SIGABRT\)"),
    "exit": ("import sys; sys.exit(0)", (), r"ended the program \(exit code 0\)"),
}


@LINUX
@pytest.mark.parametrize(("code", "limits", "words"), LIMITED.values(), ids=LIMITED)
def test_what_goes_beyond_a_limit_ends_in_one_line(code, limits, words, tmp_path):
    options = [part for limit in limits for part in ("--limit", limit)]
    done = run("profile", file_that(code, tmp_path), "--trust", *options, cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert re.search(words, done.stderr), done.stderr
    assert len([line for line in done.stderr.splitlines() if not line.startswith("note:")]) == 1
    assert not (tmp_path / "f").exists() or (tmp_path / "f").stat().st_size <= 1000


@LINUX
def test_a_limit_that_is_raised_lets_it_pass(tmp_path):
    target = file_that("x = bytearray(1 << 29); open('f', 'wb').write(bytes(2000))", tmp_path)
    limits = ("--limit", "memory=2000000000", "--limit", "written=3000")
    assert "neither a network nor tensors" in run("profile", target, "--trust", *limits, cwd=tmp_path).stderr
    assert (tmp_path / "f").stat().st_size == 2000


@LINUX
def test_what_its_code_sees(tmp_path):
    code = """
        import json, os, resource, sys
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        json.dump({
            "environment": dict(os.environ), "leads": os.getsid(0) == os.getpid() == os.getpgid(0),
            "folder": os.getcwd(), "input": sys.stdin.read(), "privileges": status["NoNewPrivs"].strip(),
            "user": [os.getuid(), os.getgid()],
            "networks": [line.split(":")[0].strip() for line in open("/proc/net/dev")][2:],
            "limits": [resource.getrlimit(getattr(resource, f"RLIMIT_{n}"))[1] for n in ("CORE", "FSIZE", "AS")],
        }, open("seen.json", "w"))
    """
    secrets = {"HF_TOKEN": "t", "AWS_SECRET_ACCESS_KEY": "k", "https_proxy": "http://p", "PYTHONSTARTUP": "x.py"}
    done = run("profile", file_that(code, tmp_path), "--trust", cwd=tmp_path, LC_ALL="C.UTF-8", **secrets)
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert not seen["environment"].keys() & secrets.keys()
    assert seen["environment"]["LC_ALL"] == "C.UTF-8"
    assert seen["environment"]["PATH"] == os.environ["PATH"]
    assert (seen["leads"], seen["folder"], seen["input"], seen["privileges"]) == (True, str(tmp_path), "", "1")
    assert seen["user"] == [os.getuid(), os.getgid()]
    assert seen["networks"] in (["lo"], []) or "has the network" in done.stderr
    assert seen["limits"][:2] == [0, 8 << 30]
    assert os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < seen["limits"][2] < 1 << 50


@pytest.mark.slow
def test_report_and_exit_codes_are_those_of_a_run_without(tmp_path):
    model = ROOT / "models" / "digits_cnn.pt"
    for options in (("--format", "json", "--check", "none"), ("--filter", "nothing")):
        plain, trusted = (run("profile", model, *options, *more, cwd=tmp_path) for more in ((), ("--trust",)))
        assert (trusted.returncode, trusted.stdout) == (plain.returncode, plain.stdout)
        assert re.sub("note: the process of --trust.*\n", "", trusted.stderr) == plain.stderr
    done = run("profile", model, "--trust", "--format", "csv", "--output", "layers.csv", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "layers.csv").read_text().startswith("name,type,op,")


@pytest.mark.slow
def test_every_exit_code_is_passed_on(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("import sys\ndef main(arguments, confined):\n    sys.exit(int(arguments[0]))\n")
    codes = (0, 1, 2, 3, 4, 130)
    assert [run_in_a_child(str(program), [str(code)], lambda number, used: "") for code in codes] == list(codes)


@LINUX
@pytest.mark.parametrize(
    ("how", "code", "words"),
    [(signal.SIGINT, 130, "stopped\n"), (signal.SIGTERM, 143, ""), (signal.SIGKILL, -9, "")],
    ids=lambda value: getattr(value, "name", ""),
)
def test_it_ends_with_the_process_that_started_it(how, code, words, tmp_path):
    target = file_that("import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(100)", tmp_path)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it, as do theirs
    command = [*CLI, "profile", target, "--trust"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as started:
        try:
            within(60, lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
            child = int((tmp_path / "pid").read_text())
            assert running(child)
            started.send_signal(how)
            _, errors = started.communicate(timeout=30)
        finally:
            started.kill()
            signal.signal(signal.SIGINT, before)
    assert (started.returncode, re.sub("note: .*\n", "", errors)) == (code, words)
    within(10, lambda: not running(child))


def within(seconds, holds):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def running(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@LINUX
@pytest.mark.slow
def test_what_it_has_started_ends_with_it(tmp_path):
    code = "import subprocess; open('pid', 'w').write(str(subprocess.Popen(['sleep', '100']).pid))"
    run("profile", file_that(code, tmp_path), "--trust", cwd=tmp_path)
    within(10, lambda: not running(int((tmp_path / "pid").read_text())))


@LINUX
def test_a_terminal_stays_one(tmp_path):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    hidden = ("COLUMNS", "LINES", "NO_COLOR")
    environment = {**{k: v for k, v in os.environ.items() if k not in hidden}, "TERM": "xterm"}
    command = [*CLI, "profile", str(ROOT / "models" / "digits_cnn.pt"), "--trust", "--check", "none"]
    started = subprocess.Popen(command, cwd=tmp_path, stdin=slave, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    shown = b""
    try:
        while part := os.read(master, 4096):
            shown += part
    except OSError:  # the other end is closed
        pass
    os.close(master)
    assert started.wait(60) == 0
    assert b"\x1b[1m" in shown
    report = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).splitlines()
    lines = [line.rstrip() for line in report if not line.startswith("note:")]
    assert any("Conv2d" in line for line in lines)
    assert max(map(len, lines)) <= 60


@pytest.mark.slow
def test_the_installed_program_does_the_same(tmp_path):
    """The wheel's module is the same file under another name."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/netgauge.py").write_bytes((ROOT / "cli.py").read_bytes())
    path = saved(folder_of(tmp_path / "theirs", "models"), tmp_path / "theirs/net.pt", "models")
    program = "import sys, netgauge; sys.argv[0] = 'netgauge'; netgauge.main()"
    arguments = ("profile", str(path), "--trust", "--input", "1x1x32x32", "--format", "json", "--check", "none")
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path / 'site'}{os.pathsep}{ROOT}"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["totals"]["macs"] == MACS


def test_limits_of_the_process_need_the_process(tmp_path):
    done = run("profile", ROOT / "models" / "digits_cnn.pt", "--limit", "memory=1000", cwd=tmp_path)
    assert done.returncode == 2
    assert "--trust" in done.stderr
    done = run("profile", ROOT / "models" / "digits_cnn.pt", "--trust", "--limit", "memory=much", cwd=tmp_path)
    assert done.returncode == 2
    assert "'much' is no whole number; write memory=" in done.stderr
    done = run("profile", ROOT / "models" / "digits_cnn.pt", "--trust", "--limit", "much=1", cwd=tmp_path)
    assert done.returncode == 2
    assert "memory, seconds, written" in done.stderr


def test_a_file_that_needs_no_code_runs_none(tmp_path):
    torch.save({"w": torch.zeros(2, 3)}, tmp_path / "w.pt")
    done = run("profile", "w.pt", "--trust", cwd=tmp_path)
    assert done.returncode == 0
    assert "6 elements" in done.stdout
