"""The command line as a stranger meets it: what it prints, and how it ends."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import cli
from profiler.crosscheck import Crosscheck, Row
from profiler.errors import ModelError

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models"
CNN = str(MODELS / "digits_cnn.pt")
RESNET = f"{MODELS / 'digits_resnet.py'}:digits_resnet"


def run(*arguments, cwd=ROOT):
    """The program's main(), in this process: starting Python and importing torch anew would take most of the time."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["cli.py", *map(str, arguments)])
        patch.chdir(cwd)
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return SimpleNamespace(returncode=ended.value.code, stdout=out.getvalue(), stderr=err.getvalue())


def test_the_file_is_a_program(tmp_path):
    """One run as a stranger makes it, in a process of its own."""
    command = [sys.executable, str(ROOT / "cli.py"), "profile", "none.pt"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (4, "", "error: none.pt: no such file\n")


def clear(done):
    """One or two lines on standard error, no traceback."""
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("Usage:", "Try ", "note:"))]
    return 1 <= len([line for line in lines if line.strip()]) <= 2


def test_help_names_every_command():
    done = run("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in ("profile", "quantize", "compare", "doctor"))


@pytest.mark.parametrize("command", ["profile", "quantize", "compare", "doctor"])
def test_every_command_has_help(command):
    assert run(command, "--help").returncode == 0


def test_profile_prints_the_table():
    done = run("profile", CNN)
    assert done.returncode == 0
    for word in ("receptive field", "MACs", "FLOPs", "share", "8,259,456", "unexplained 0", "Conv2d"):
        assert word in done.stdout


def test_profile_as_json_has_the_contracts_keys():
    done = run("profile", CNN, "--format", "json")
    report = json.loads(done.stdout)
    assert report["schema"] == "netgauge.profile/1"
    assert {"totals", "layers", "uncounted", "crosscheck", "environment"} <= report.keys()
    first = report["layers"][0]
    assert first["output_shapes"] == [[1, 16, 32, 32]]
    assert first["receptive_field"]["size"] == [3, 3]
    assert report["crosscheck"]["fvcore"]["unexplained"] == 0
    assert sum(layer["macs"] for layer in report["layers"]) == report["totals"]["macs"]


@pytest.mark.parametrize(
    ("style", "mark"),
    [("csv", "name,type,op,"), ("markdown", "| name "), ("tree", "name "), ("html", "<!doctype html>")],
)
def test_profile_in_other_forms(style, mark, tmp_path):
    done = run("profile", CNN, "--format", style, "--output", tmp_path / "out.txt")
    assert done.returncode == 0
    text = (tmp_path / "out.txt").read_text()
    assert text.startswith(mark)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


class Terminal(io.StringIO):
    """Standard output or standard error as a terminal has them."""

    encoding = "utf-8"

    def isatty(self):
        return True


def on_a_terminal(*arguments, columns="100", **environment):
    out, err = Terminal(), Terminal()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["cli.py", *map(str, arguments)])
        patch.delenv("NO_COLOR", raising=False)
        for name, value in {"COLUMNS": columns, "TERM": "xterm", **environment}.items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return SimpleNamespace(returncode=ended.value.code, stdout=out.getvalue(), stderr=err.getvalue())


def test_rows_can_be_chosen_and_the_totals_stay():
    done = run(
        "profile", CNN, "--filter", "Conv2d", "--sort", "macs", "--top", "2", "--units", "raw", "--check", "none"
    )
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line.split()[1] for line in lines[2:4]] == ["Conv2d", "Conv2d"]
    assert lines[5].split() == ["total", "8,259,456", "16,706,314", "53,146", "100.0%"]
    assert "20 of 22 rows are hidden" in done.stdout


def test_depth_alone_asks_for_modules():
    done = run("profile", RESNET, "--depth", "1", "--check", "none", "--columns", "name,macs", "--format", "csv")
    assert [line.split(",")[0] for line in done.stdout.splitlines()] == ["name", "", "conv", "bn", "layers", "fc"]


@pytest.mark.parametrize("width", ["60", "80", "200"])
@pytest.mark.parametrize("style", ["table", "tree"])
def test_a_terminal_gets_lines_that_fit_in_colour(style, width):
    done = on_a_terminal("profile", RESNET, "--format", style, "--check", "none", columns=width)
    assert done.returncode == 0
    assert "\x1b[1m" in done.stdout
    plain = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    assert max(map(len, plain.splitlines())) <= int(width)
    assert ("read" in plain.splitlines()[0]) == (width == "200")


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_it_is_not_wanted(environment):
    assert "\x1b" not in on_a_terminal("profile", CNN, "--check", "none", **environment).stdout
    assert "\x1b" not in run("profile", CNN, "--check", "none").stdout


def test_a_tree_can_be_printed_in_ascii():
    command = [sys.executable, str(ROOT / "cli.py"), "profile", CNN, "--format", "tree", "--check", "none"]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=False)
    assert done.returncode == 0
    assert done.stdout.decode("ascii").splitlines()[3].startswith("+ 0")


@pytest.fixture
def disagreeing(monkeypatch):
    """A peer that says one more than its own rule."""
    wrong = Crosscheck("fvcore", "unexplained", "", 10, 11, (), (Row("fc", "linear", 10, 10, 11),))
    monkeypatch.setattr("profiler.crosscheck.crosscheck", lambda peer, profile: wrong)


@pytest.mark.parametrize("style", ["table", "json", "csv", "html"])
def test_a_check_is_a_gate_only_where_it_is_written_out(style, disagreeing):
    shown = run("profile", CNN, "--format", style)
    gate = run("profile", CNN, "--format", style, "--check", "fvcore")
    assert (shown.returncode, gate.returncode) == (0, 1)
    assert "fvcore: 1 of its 11 stay unexplained" in gate.stderr
    assert gate.stdout == shown.stdout or style == "json"


def test_what_is_unexplained_is_red(disagreeing):
    done = on_a_terminal("profile", CNN, "--check", "fvcore")
    assert done.returncode == 1
    assert re.search(r"\x1b\[31m\x1b\[1m *UNEXPLAINED \+1", done.stdout)
    assert "\x1b[31m" in done.stderr


def test_a_field_that_impulses_contradict_fails(monkeypatch):
    from profiler.crosscheck.receptive import FieldCheck

    wrong = FieldCheck("3", "convolution", "exact", equal=False, contained=True, detail="at row 2")
    monkeypatch.setattr("profiler.crosscheck.receptive.verify_receptive_fields", lambda subject: [wrong])
    done = run("profile", CNN, "--verify-rf", "--check", "none")
    assert done.returncode == 1
    assert "receptive field of 3 (convolution) is contradicted" in done.stderr


def test_fields_that_cannot_be_verified_are_said_to_be_so(monkeypatch):
    def fails(subject):
        raise ModelError("no structure for aten.odd")

    monkeypatch.setattr("profiler.crosscheck.receptive.verify_receptive_fields", fails)
    done = run("profile", CNN, "--verify-rf", "--check", "none")
    assert done.returncode == 0
    assert "not verified: no structure for aten.odd" in done.stderr


def test_verified_fields_are_counted():
    done = run("profile", CNN, "--verify-rf", "--check", "none")
    assert done.returncode == 0
    assert "impulses contradict 0" in done.stderr


def test_profile_takes_inputs_and_arrays(tmp_path):
    np.savez(tmp_path / "x.npz", input=np.zeros((4, 1, 32, 32), np.float32))
    by_size = run("profile", CNN, "--input", "4x1x32x32", "--format", "csv")
    by_array = run("profile", CNN, "--inputs", tmp_path / "x.npz", "--format", "csv")
    assert by_size.stdout == by_array.stdout
    assert "4x16x32x32" in by_size.stdout


def test_what_a_model_prints_is_no_part_of_the_report(tmp_path):
    lines = ("from torch import nn", "class Talks(nn.Linear):", "    def forward(self, x):", "        print('hello')")
    text = "\n".join((*lines, "        return super().forward(x)", "def talks():", "    return Talks(3, 4)", ""))
    (tmp_path / "talks.py").write_text(text)
    done = run("profile", tmp_path / "talks.py:talks", "--input", "2x3", "--format", "json", "--train")
    assert json.loads(done.stdout)["totals"]["macs"] == 24
    assert "hello" in done.stderr


def test_a_state_dict_is_listed(tmp_path):
    torch.save(nn.Linear(3, 4).state_dict(), tmp_path / "w.pt")
    done = run("profile", tmp_path / "w.pt")
    assert done.returncode == 0
    assert "weight" in done.stdout
    assert "16 elements" in done.stdout
    assert "FILE.py:factory" in done.stderr


def test_a_state_dict_cannot_be_quantized(tmp_path):
    torch.save(nn.Linear(3, 4).state_dict(), tmp_path / "w.pt")
    done = run("quantize", tmp_path / "w.pt", "--calibration", "digits", cwd=tmp_path)
    assert (done.returncode, clear(done)) == (4, True)
    assert "FILE.py:factory" in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w.pt"]


class Own(nn.Module):
    pass


def half(tmp_path):
    data = Path(CNN).read_bytes()
    (tmp_path / "half.pt").write_bytes(data[: len(data) // 2])
    return tmp_path / "half.pt"


def own(tmp_path):
    torch.save(Own(), tmp_path / "own.pt")
    return tmp_path / "own.pt"


def empty(tmp_path):
    (tmp_path / "empty.pt").touch()
    return tmp_path / "empty.pt"


@pytest.mark.parametrize(
    ("make", "options", "code", "words"),
    [
        (lambda t: t / "none.pt", (), 4, "no such file"),
        (lambda t: t, (), 4, "folder"),
        (empty, (), 4, "empty"),
        (half, (), 4, "truncated"),
        (own, (), 3, "Own"),
        (lambda t: CNN, ("--input", "1x3x32x32"), 4, "Conv2d"),
        (lambda t: CNN, ("--input", "1y3"), 2, "1x3x224x224"),
        (lambda t: CNN, ("--input", "1x1:float99"), 2, "float99"),
        (lambda t: CNN, ("--output", "nowhere/out.txt"), 2, "does not exist"),
        (lambda t: CNN, ("--weights", "w.pt"), 2, "factory"),
        (lambda t: CNN, ("--format", "picture"), 2, "picture"),
        (lambda t: CNN, ("--columns", "name,mac"), 2, "did you mean macs?"),
        (lambda t: CNN, ("--filter", "nothing"), 2, "matches no path"),
        (lambda t: CNN, ("--sort", "size"), 2, "intensity"),
        (lambda t: CNN, ("--format", "json", "--sort", "macs"), 2, "--sort: not with --format json"),
        (lambda t: CNN, ("--depth", "1", "--by", "operator"), 2, "--depth counts modules"),
        (lambda t: CNN, ("--input", "pixels=1x1x32x32"), 2, "forward takes"),
        (lambda t: CNN, ("--dim", "batch"), 2, "batch=8"),
        (lambda t: CNN, ("--dim", "batch=0"), 2, "batch=8"),
        (lambda t: CNN, ("--dim", "batch=2"), 2, "ONNX"),
        (lambda t: MODELS / "digits_vit.safetensors", ("--check", "fvcore", "--top", "3"), 2, "--check and --top"),
        (lambda t: RESNET + "x", (), 4, "digits_resnet"),
    ],
)
def test_bad_targets_end_in_a_clear_line(make, options, code, words, tmp_path):
    done = run("profile", make(tmp_path), *options, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert clear(done), done.stderr


def arrays(tmp_path, **named):
    np.savez(tmp_path / "d.npz", **named)
    return tmp_path / "d.npz"


GOOD = np.zeros((8, 1, 32, 32), np.float32)


@pytest.mark.parametrize(
    ("calibration", "evaluation", "words"),
    [
        ({"x": np.zeros((8, 3, 32, 32), np.float32)}, None, "3"),
        ({"picture": GOOD, "other": GOOD}, None, "picture"),
        ({"x": np.zeros((8, 1, 32, 32), np.uint8)}, None, "uint8"),
        ({"x": np.full((8, 1, 32, 32), np.nan, np.float32)}, None, "NaN"),
        ({"x": GOOD}, {"x": GOOD, "y": np.arange(8) + 5}, "0 to 9"),
        ({"x": GOOD}, {"x": GOOD, "y": np.zeros((8, 2), int)}, "labels"),
        ({"x": GOOD}, {"x": GOOD, "y": np.zeros(7, int)}, "7"),
    ],
)
def test_data_that_does_not_fit_ends_in_a_clear_line(calibration, evaluation, words, tmp_path):
    options = ["--calibration", arrays(tmp_path, **calibration), "--seconds", "0.2"]
    if evaluation is not None:
        (tmp_path / "e").mkdir()
        options += ["--data", arrays(tmp_path / "e", **evaluation)]
    done = run("quantize", CNN, *options, cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert words in done.stderr
    assert clear(done), done.stderr
    assert not [p for p in tmp_path.iterdir() if p.suffix in (".onnx", ".json")]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("quantize", CNN), 2, "--calibration"),
        (("quantize", CNN, "--calibration", "none.npz"), 4, "digits"),
        (("quantize", CNN, "--calibration", "digits", "--output", "nowhere/m.onnx"), 2, "does not exist"),
        (("quantize", CNN, "--calibration", "digits", "--metric", "acuracy", "--seconds", "0.2"), 2, "accuracy"),
        (("compare", "a.onnx", "b.onnx"), 4, "a.onnx"),
        (("compare", "a.onnx", "b.onnx", "--metric", "f1"), 2, "--data"),
        (("compare", "a.onnx", "b.onnx", "--strict"), 2, "--data, which is not given"),
        (("quantise",), 2, "quantise"),
    ],
)
def test_wrong_use_ends_in_a_clear_line(arguments, code, words, tmp_path):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert clear(done), done.stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def float_model(tmp_path_factory):
    """A network for pictures of 32x32 in grey, as ONNX."""
    weights = np.random.default_rng(0).normal(size=(2, 1)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("GlobalAveragePool", ["x"], ["p"]),
            onnx.helper.make_node("Flatten", ["p"], ["f"]),
            onnx.helper.make_node("Gemm", ["f", "w"], ["y"], transB=1),
        ],
        "tiny",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 1, 32, 32])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 2])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    path = tmp_path_factory.mktemp("model") / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def pictures(tmp_path):
    for number in range(6):
        path = tmp_path / "set" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (32, 32), 40 * number).save(path)
    return tmp_path / "set"


GREY = "--preprocess=colour=grey"


def test_compare_on_pictures_names_what_it_skipped(float_model, pictures):
    (pictures / "b" / "3.png").write_bytes(b"no picture")
    done = run("compare", float_model, float_model, "--data", pictures, GREY, "--seconds", "0.2")
    assert done.returncode == 0, done.stderr
    assert "skipped 1 of 6 samples: b/3.png: cannot identify image file" in done.stdout
    assert "pictures prepared as given: resize=none, " in done.stdout
    assert "2 classes, numbered in the sorted order of their names: a=0, b=1" in done.stdout
    done = run("compare", float_model, float_model, "--data", pictures, GREY, "--strict", "--seconds", "0.2")
    assert (done.returncode, clear(done)) == (4, True), done.stderr
    assert "b/3.png" in done.stderr


WRONG_PICTURES = {
    "nothing said": ((), 2, "give --preprocess KEY=VALUE"),
    "unknown key": (("--preprocess=size=3",), 2, "no such key"),
    "three channels": (("--preprocess=resize=32",), 4, "has 3 along axis 1, where the model takes 1"),
    "layout": ((GREY, "--preprocess=layout=NHWC"), 4, "it looks like NHWC, and the model takes NCHW"),
    "no classes": ((GREY, "--classes", "none.txt"), 4, "none.txt"),
}


@pytest.mark.parametrize(("options", "code", "words"), WRONG_PICTURES.values(), ids=WRONG_PICTURES)
@pytest.mark.parametrize("command", ["compare", "quantize"])
def test_pictures_that_do_not_fit(float_model, pictures, tmp_path, command, options, code, words):
    targets = (float_model, float_model, "--data") if command == "compare" else (float_model, "--calibration")
    done = run(command, *targets, pictures, *options, "--seconds", "0.2", cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert clear(done), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_path_out_of_the_folder_is_refused(float_model, pictures):
    (pictures / "data.csv").write_text("path,label\n../x.png,1\n")
    done = run("compare", float_model, float_model, "--data", pictures / "data.csv", GREY)
    assert (done.returncode, clear(done)) == (3, True), done.stderr
    assert "--trust takes it" in done.stderr


def test_weights_that_do_not_fit_name_what_is_wrong(tmp_path):
    save_file({"wrong": torch.zeros(1)}, tmp_path / "w.safetensors")
    done = run("profile", RESNET, "--weights", tmp_path / "w.safetensors")
    assert (done.returncode, clear(done)) == (4, True)
    assert "wrong" in done.stderr


def test_debug_shows_the_traceback(tmp_path):
    assert "Traceback" in run("profile", tmp_path / "none.pt", "--debug").stderr


def test_an_onnx_file_quantizes_without_labels(tmp_path):
    first = run("quantize", CNN, "--calibration", "digits", "--seconds", "0.3", "--format", "json", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout) == json.loads((tmp_path / "digits_cnn.quantization.json").read_text())
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"digits_cnn.int8.onnx", "digits_cnn.float.onnx", "digits_cnn.quantization.json"}
    again = run(
        "quantize",
        "digits_cnn.float.onnx",
        "--calibration",
        "digits",
        "--seconds",
        "0.3",
        "--no-cold",
        "--output",
        "b.onnx",
        cwd=tmp_path,
    )
    assert again.returncode == 0, again.stderr
    for word in ("agreement", "sqnr", "kl", "speed-up", "nodes"):
        assert word in again.stdout
    report = json.loads((tmp_path / "b.quantization.json").read_text())
    assert report["schema"] == "netgauge.quantization/1"
    assert {"metrics", "latency", "nodes", "file_bytes", "stages", "environment"} <= report.keys()
    assert {"name", "op", "layer", "kernel", "reason", "time_share", "error_share"} == report["nodes"][0].keys()
    assert {"float_ms", "int8_ms", "speedup", "interval", "verdict", "threads", "device"} <= report["latency"].keys()
    refused = run("quantize", "b.onnx", "--calibration", "digits", cwd=tmp_path)
    assert (refused.returncode, clear(refused)) == (4, True)
    assert "already quantized" in refused.stderr


def test_a_missed_budget_is_exit_code_one(tmp_path):
    done = run(
        "quantize",
        CNN,
        "--calibration",
        "digits",
        "--data",
        "digits",
        "--max-drop",
        "0.000001",
        "--seconds",
        "0.3",
        "--no-cold",
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "budget: MISSED" in done.stdout
    assert "placement: float\n" not in done.stdout


def test_doctor_knows_this_machine():
    done = run("doctor", "--format", "json")
    report = json.loads(done.stdout)
    assert report["machine"]["versions"]["torch"] == torch.__version__
    assert any(p["name"] == "CPUExecutionProvider" and p["loads"] for p in report["providers"])
    assert "int8 instructions" in run("doctor").stdout


def test_outside_a_checkout_quantize_says_what_to_pass(tmp_path):
    """The wheel's module is the same file under another name, without the reference networks beside it."""
    (tmp_path / "netgauge.py").write_bytes((ROOT / "cli.py").read_bytes())
    command = [sys.executable, "-c", "import sys, netgauge; sys.argv = ['netgauge', 'quantize']; netgauge.main()"]
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 2
    assert "--calibration" in done.stderr


def test_help_is_quick():
    """No bound on a clock that others share: help takes a small part of what importing torch takes."""

    def seconds(*command):
        begun = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, capture_output=True)
        return time.perf_counter() - begun

    assert seconds(str(ROOT / "cli.py"), "--help") < seconds("-c", "import torch") / 2


def test_names_from_files_cannot_drive_the_terminal(tmp_path):
    torch.save({"\x1b[31mred": torch.zeros(1)}, tmp_path / "w.pt")
    done = run("profile", tmp_path / "w.pt")
    assert "\x1b" not in done.stdout
    assert re.search(r"\\x1b\[31mred", done.stdout)
