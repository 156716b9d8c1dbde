"""ONNX files on their way into ONNX Runtime and into our own hands: what is let through, and what is read."""

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import cli
from profiler.errors import ModelError, RefusedError
from profiler.sources import Limits, open_model
from profiler.sources.external_data import DataFile
from quant import compare, evaluate
from quant.graph import to_bytes
from quant.latency import compare_latency
from quant.model_files import for_runtime
from quant.reference import float_reference
from quant.runtime import open_session
from quant.stored import _mapped

ROOT = Path(__file__).parents[2]
WEIGHT = np.arange(32, dtype=np.float32).reshape(4, 8)
X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
Y = X @ WEIGHT


def info(name, shape=None, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(nodes=None, stored=None, functions=(), inputs=None, domains=()):
    """A MatMul of x by the tensor w, unless other nodes are given."""
    nodes = nodes or [helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")]
    stored = [numpy_helper.from_array(WEIGHT, "w")] if stored is None else stored
    outputs = [info(nodes[-1].output[0], ("batch", 8))]
    graph = helper.make_graph(nodes, "g", inputs or [info("x", ("batch", 4))], outputs, stored)
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=10)


def moved_out(tensor, location, **entries):
    """A tensor's contents go to another file; the tensor."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def outside_model(location, **entries):
    return model_of(stored=[moved_out(numpy_helper.from_array(WEIGHT, "w"), location, **entries)])


def saved(model, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def folder(tmp_path):
    """A model's folder, with a secret outside that has just the right size."""
    (tmp_path / "secret").write_bytes(WEIGHT.tobytes())
    inside = tmp_path / "model"
    inside.mkdir()
    return inside


def constant(location, **entries):
    node = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(WEIGHT, "w"))
    moved_out(node.attribute[0].t, location, **entries)
    return node


def in_constant(location):
    return model_of([constant(location), helper.make_node("MatMul", ["x", "w"], ["y"])], stored=())


def in_subgraph(location):
    def branch(*nodes, stored=()):
        return helper.make_graph([*nodes, helper.make_node("MatMul", ["x", "w"], ["z"])], "b", [], [info("z")], stored)

    held = moved_out(numpy_helper.from_array(WEIGHT, "w"), location)
    branches = {"then_branch": branch(stored=[held]), "else_branch": branch(constant(location))}
    node = helper.make_node("If", ["c"], ["y"], **branches)
    true = numpy_helper.from_array(np.array(True), "c")
    return model_of([node], stored=[true])


def in_function(location):
    body = [constant(location), helper.make_node("MatMul", ["a", "w"], ["b"])]
    function = helper.make_function("own", "Fc", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    node = helper.make_node("Fc", ["x"], ["y"], domain="own")
    return model_of([node], stored=(), functions=[function], domains=["own"])


PLACES = (outside_model, in_constant, in_subgraph, in_function)


def answers(model):
    """What a graph of ours computes of X."""
    return open_session(to_bytes(model)).run({"x": X})[0]


@pytest.mark.parametrize("make", PLACES)
def test_tensors_in_other_files_arrive_where_they_belong(make, folder):
    (folder / "w.bin").write_bytes(WEIGHT.tobytes())
    path = saved(make("w.bin"), folder / "m.onnx")
    reference = float_reference(path, None)
    np.testing.assert_allclose(answers(reference.model), Y, rtol=1e-6)


@pytest.mark.parametrize("make", PLACES)
@pytest.mark.parametrize("use", [lambda p: float_reference(p, None), open_session, lambda p: compare(p, p)])
def test_what_lies_outside_the_folder_is_refused(make, use, folder):
    with pytest.raises(RefusedError, match=r"'\.\./secret', a path with '\.\.'"):
        use(saved(make("../secret"), folder / "m.onnx"))


@pytest.mark.parametrize("use", [lambda p, **o: float_reference(p, None, **o), open_session])
def test_hard_links_need_trust(use, folder):
    """ONNX Runtime itself would read them: without our check nothing would stop it."""
    os.link(folder.parent / "secret", folder / "w.bin")
    path = saved(outside_model("w.bin"), folder / "m.onnx")
    np.testing.assert_allclose(onnxruntime.InferenceSession(path).run(None, {"x": X})[0], Y, rtol=1e-6)
    with pytest.raises(RefusedError, match="hard links"):
        use(path)
    use(path, trust=True)


def test_the_layout_of_a_hubs_cache_works(folder):
    """onnx and onnx_ir refuse it; a model and its data are links into one folder of blobs."""
    blobs, snapshot = folder / "blobs", folder / "snapshots" / "0f3a"
    snapshot.mkdir(parents=True)
    saved(outside_model("model.onnx_data", offset=0, length=128), blobs / "aa11")
    (blobs / "bb22").write_bytes(WEIGHT.tobytes())
    path = snapshot / "model.onnx"
    path.symlink_to("../../blobs/aa11")
    (snapshot / "model.onnx_data").symlink_to("../../blobs/bb22")
    np.testing.assert_allclose(answers(float_reference(path, None).model), Y, rtol=1e-6)
    np.testing.assert_allclose(open_session(path).run({"x": X})[0], Y, rtol=1e-6)


@pytest.mark.parametrize("make", PLACES)
def test_bytes_never_read_the_current_folder(make, folder, monkeypatch):
    """onnx, onnx_ir and ONNX Runtime would: there is a file of that name, of the right size, right here."""
    monkeypatch.chdir(folder.parent)
    model = make("secret")
    data = model.SerializeToString()
    for use in (
        open_session,
        lambda m: compare(m, m),
        lambda m: evaluate(m, m, {"x": X}),
        lambda m: compare_latency(m, m),
    ):
        with pytest.raises(ModelError, match="in other files: give the path"):
            use(data)
    with pytest.raises(ModelError, match="in other files; give the path"):
        float_reference(model, None)


def test_that_onnxruntime_reads_the_current_folder_for_bytes(folder, monkeypatch):
    """The reason for the test above; should this fail one day, the check may go."""
    monkeypatch.chdir(folder.parent)
    session = onnxruntime.InferenceSession(outside_model("secret").SerializeToString())
    np.testing.assert_allclose(session.run(None, {"x": X})[0], Y, rtol=1e-6)


HOOK = """
import json, os, sys
seen = []
sys.addaudithook(lambda event, args: event == "open" and not isinstance(args[0], int) and seen.append(str(args[0])))
current, *models = sys.argv[1:]
os.chdir(current)
from profiler.errors import NetgaugeError
from quant.graph import prepare, to_bytes
from quant.reference import float_reference
found = {}
for path in models:
    seen.clear()
    try:
        to_bytes(prepare(float_reference(path, None).model))
        code = 0
    except NetgaugeError as error:
        code = error.exit_code
    found[path] = [code, sorted({os.path.realpath(p) for p in seen if p.startswith(current) or not "/" in p})]
print(json.dumps(found))
"""


def test_only_the_model_and_its_data_are_opened(folder):
    """In a process of its own: a hook that hears of every opened file cannot be taken away again."""
    (folder / "w.bin").write_bytes(WEIGHT.tobytes())
    data, expected = str((folder / "w.bin").resolve()), {}
    for n, make in enumerate(PLACES):
        # The last one lies in the current folder, which is not the model's.
        for location, code in (("../secret", 3), ("w.bin", 0), ("secret", 4)):
            path = str(saved(make(location), folder / f"{n}{code}.onnx").resolve())
            expected[path] = [code, sorted([path, data] if code == 0 else [path])]
    run = [sys.executable, "-c", HOOK, str(folder.parent.resolve()), *expected]
    done = subprocess.run(run, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert json.loads(done.stdout) == expected


def test_a_file_exchanged_after_the_check_is_refused(folder):
    file = folder / "w.bin"
    file.write_bytes(WEIGHT.tobytes())
    found = file.stat()
    checked = DataFile(file, found.st_dev, found.st_ino, found.st_size)
    file.rename(folder / "old")
    file.write_bytes(WEIGHT.tobytes())
    with pytest.raises(RefusedError, match="exchanged"):
        _mapped(checked)
    file.unlink()
    file.symlink_to("old")
    with pytest.raises(ModelError, match="cannot be read"):
        _mapped(checked)


def test_a_file_exchanged_under_onnxruntime_is_refused(folder):
    (folder / "w.bin").write_bytes(WEIGHT.tobytes())
    path = saved(outside_model("w.bin"), folder / "m.onnx")
    context = for_runtime(path)
    assert context.__enter__() == str(path)
    (folder / "w.bin").unlink()
    (folder / "w.bin").symlink_to("../secret")
    with pytest.raises(RefusedError, match="exchanged while"):
        context.__exit__(None, None, None)


def test_a_file_that_is_not_there_is_an_error(folder):
    path = saved(outside_model("w.bin"), folder / "m.onnx")
    for use in (open_session, lambda p: float_reference(p, None)):
        with pytest.raises(ModelError, match=r"'w\.bin', which is missing"):
            use(path)


def test_a_graph_without_its_weights_is_an_error(folder):
    path = saved(model_of(stored=[TensorProto(name="w", dims=(4, 8), data_type=TensorProto.FLOAT)]), folder / "m.onnx")
    with pytest.raises(ModelError, match="'w' has no contents"):
        float_reference(path, None)


def test_more_than_one_file_can_hold_is_said_at_once(folder):
    rows = 1 << 20
    tensor = moved_out(TensorProto(name="w", dims=(rows, 1024), data_type=TensorProto.FLOAT), "w.bin")
    with (folder / "w.bin").open("wb") as file:
        file.truncate(rows * 4096)
    begun = time.perf_counter()
    with pytest.raises(ModelError, match=r"4\.0 GiB of tensors in other files"):
        float_reference(saved(model_of(stored=[tensor]), folder / "m.onnx"), None)
    assert time.perf_counter() - begun < 5


KINDS = (np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.int4, np.bool_, np.int64)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("offset", [0, 3])
def test_every_type_is_viewed_as_it_is_stored(kind, offset, folder):
    """Also at offsets that no processor is fond of."""
    values = np.array([[1, 0, 3], [-2, 1, 0]]).astype(kind)
    tensor = ir.serde.serialize_tensor(ir.Tensor(values, name="t"))
    (folder / "w.bin").write_bytes(b"\xff" * offset + tensor.raw_data)
    node = helper.make_node("Identity", ["t"], ["u"])
    moved_out(tensor, "w.bin", offset=offset)
    nodes = [node, helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = saved(model_of(nodes, stored=[tensor, numpy_helper.from_array(WEIGHT, "w")]), folder / "m.onnx")
    found = float_reference(path, None).model.graph.initializers["t"].const_value.numpy()
    np.testing.assert_array_equal(found.astype(np.float32), values.astype(np.float32))
    assert found.dtype == values.dtype


def compiled():
    return model_of([helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft", ep_cache_context="lib.so")])


def with_compiled_attribute():
    return model_of([helper.make_node("Relu", ["x"], ["y"], ep_cache_context="lib.so")])


def strange():
    return model_of([helper.make_node("Odd", ["x"], ["y"], domain="my.ops")], domains=["my.ops"])


def sparse():
    values = numpy_helper.from_array(np.ones(2, np.float32), "w")
    indices = numpy_helper.from_array(np.arange(2), "w_at")
    model = model_of(stored=())
    model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=values, indices=indices, dims=(4, 8)))
    return model


@pytest.mark.parametrize("use", [lambda p: float_reference(p, None), lambda p: compare(p, p)])
@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (compiled, RefusedError, "EPContext"),
        (with_compiled_attribute, RefusedError, "EPContext"),
        (strange, ModelError, r"Odd of the domain 'my\.ops' is no operator of ONNX Runtime"),
    ],
)
def test_what_needs_code_of_its_own_does_not_run(make, error, words, use, folder):
    with pytest.raises(error, match=words):
        use(saved(make(), folder / "m.onnx"))


@pytest.mark.parametrize("use", [lambda p: float_reference(p, None), open_session])
def test_a_small_file_cannot_ask_for_all_memory(use, folder):
    shape = numpy_helper.from_array(np.array([1 << 39], np.int64), "s")
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["c"]), helper.make_node("Add", ["x", "c"], ["y"])]
    with pytest.raises(ModelError, match=r"'c' \(ConstantOfShape\) makes a tensor of 549,755,813,888 elements"):
        use(saved(model_of(nodes, stored=[shape]), folder / "m.onnx"))


def test_sparse_tensors_are_not_quantized(folder):
    with pytest.raises(ModelError, match="sparse"):
        float_reference(saved(sparse(), folder / "m.onnx"), None)


def test_cycles_are_named(folder):
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    with pytest.raises(ModelError, match="cycle"):
        float_reference(saved(model_of(nodes, stored=()), folder / "m.onnx"), None)


def not_onnx(folder):
    torch.save(nn.Linear(2, 2), folder / "m.pt")
    (folder / "m.txt").write_text("hello, world")
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "cut.onnx").write_bytes(model_of().SerializeToString()[:-20])
    return {
        "m.pt": "is a torch.save file, and only ONNX files run here",
        "m.txt": "no model file of a kind that is known",
        "empty.onnx": "is empty",
        "cut.onnx": "no whole ONNX model",
        "gone.onnx": "no such file",
    }


def test_other_files_are_called_by_their_kind(folder):
    good = saved(model_of(), folder / "m.onnx")
    for name, words in not_onnx(folder).items():
        with pytest.raises(ModelError, match=words):
            compare(good, folder / name)


def test_limits_hold_wherever_a_file_is_opened(folder):
    path = saved(model_of(), folder / "m.onnx")
    tight, enough = Limits(nodes=0), Limits(nodes=1)
    for use in (open_session, lambda p, limits: float_reference(p, None, limits=limits)):
        with pytest.raises(RefusedError, match="--limit nodes=1"):
            use(path, limits=tight)
        use(path, limits=enough)


def run(folder, *command):
    """The exit code of a command, and what it says to standard error."""
    err = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["cli.py", *command])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return ended.value.code, err.getvalue()


@pytest.mark.parametrize("command", [["compare", "m.onnx", "m.onnx"], ["quantize", "m.onnx", "--calibration", "c.npz"]])
def test_the_commands_take_limits(command, folder):
    saved(model_of(), folder / "m.onnx")
    np.savez(folder / "c.npz", x=X)
    code, text = run(folder, *command, "--limit", "nodes=0")
    assert code == 3
    assert "--limit nodes=1" in text
    assert not (folder / "m.int8.onnx").exists()


def test_names_in_errors_of_onnxruntime_drive_nothing(folder):
    nasty = "\x1b[31m\u202e"
    bad = model_of([helper.make_node("NoSuchOperator", ["x"], ["y"], name=nasty)])
    saved(bad, folder / "m.onnx")
    code, text = run(folder, "compare", "m.onnx", "m.onnx")
    assert code == 4
    assert not {"\x1b", "\u202e"} & set(text)


def test_the_name_of_a_file_does_not_choose_how_it_is_read(folder):
    for name in ("m.ort", "m.json", "m.txt"):
        np.testing.assert_allclose(open_session(saved(model_of(), folder / name)).run({"x": X})[0], Y, rtol=1e-6)


def test_the_graph_that_was_opened_is_left_as_it_was(folder):
    (folder / "w.bin").write_bytes(WEIGHT.tobytes())
    opened = open_model(saved(outside_model("w.bin"), folder / "m.onnx"))
    before = opened.graph.SerializeToString()
    float_reference(opened, None)
    assert opened.graph.SerializeToString() == before
