"""ONNX files of any origin: what opens, what is refused, and which files are touched on the way."""

import contextlib
import io
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

import cli
from profiler import open_model
from profiler.errors import ModelError, RefusedError
from profiler.onnx_graph import analyze_onnx
from profiler.sources import Limits
from profiler.sources.external_data import outside_tensors
from profiler.sources.onnx_parts import parts_of

ROOT = Path(__file__).parents[2]
WEIGHT = np.arange(32, dtype=np.float32).reshape(4, 8)


def info(name, shape=None, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(nodes=None, stored=None, functions=(), inputs=None, **model):
    """A MatMul of x by the tensor w, unless other nodes are given."""
    nodes = nodes or [helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")]
    stored = [numpy_helper.from_array(WEIGHT, "w")] if stored is None else stored
    graph = helper.make_graph(nodes, "g", inputs or [info("x", ("batch", 4))], [info(nodes[-1].output[0])], stored)
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(f.domain, 1) for f in functions)]
    return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=10, **model)


def moved_out(tensor, location, **entries):
    """A tensor's contents go to another file; the bytes that belong there."""
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return data


def outside_model(location, **entries):
    model = model_of()
    return model, moved_out(model.graph.initializer[0], location, **entries)


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


# What goes wrong with a path: how the folder is prepared, and the path in the graph.
ESCAPES = {
    "parent": ("../secret", lambda f: None),
    "parent in between": ("junk/../../secret", lambda f: (f / "junk").mkdir()),
    "parent with backslashes": ("junk\\..\\..\\secret", lambda f: None),
    "parent at the end": ("junk/..", lambda f: (f / "junk").mkdir()),
    "absolute": ("{root}/secret", lambda f: None),
    "process": ("/proc/self/environ", lambda f: None),
    "drive": ("C:\\secret", lambda f: None),
    "share": ("\\\\host\\secret", lambda f: None),
    "end of string": ("w.bin\0/../../secret", lambda f: None),
    "address": ("*/_ORT_MEM_ADDR_/*", lambda f: None),
    "link": ("w.bin", lambda f: (f / "w.bin").symlink_to("../secret")),
    "link to nowhere": ("w.bin", lambda f: (f / "w.bin").symlink_to("../gone")),
    "linked folder": ("sub/secret", lambda f: (f / "sub").symlink_to("..")),
    "link over a link": (
        "b",
        lambda f: ((f / "a").symlink_to(f.parent / "secret"), (f / "b").symlink_to("a")),
    ),
    "hard link": ("w.bin", lambda f: os.link(f.parent / "secret", f / "w.bin")),
    "pipe": ("w.bin", lambda f: os.mkfifo(f / "w.bin")),
    "folder": ("sub", lambda f: (f / "sub").mkdir()),
}


@pytest.mark.parametrize("case", ESCAPES)
def test_paths_out_of_the_folder_are_refused_and_the_tensors_listed(case, folder):
    location, prepare = ESCAPES[case]
    prepare(folder)
    model, _ = outside_model(location.format(root=folder.parent))
    with pytest.raises(RefusedError, match="keeps tensors in") as caught:
        open_model(saved(model, folder / "m.onnx"))
    assert [(t.name, t.shape, t.bytes) for t in caught.value.known.tensors] == [("w", (4, 8), 128)]


def test_the_command_lists_the_tensors_of_what_it_refuses(folder):
    report, notes = profiled(saved(outside_model("../secret")[0], folder / "m.onnx"))
    assert re.search(r"^w +4x8 +float32 +32 +128 B$", report, re.MULTILINE)
    assert notes.startswith("error: ")


def sparse(location):
    tensor = numpy_helper.from_array(np.ones(2, np.float32), "w")
    indices = numpy_helper.from_array(np.arange(2), "w_at")
    moved_out(tensor, location)
    return onnx.SparseTensorProto(values=tensor, indices=indices, dims=(4, 8))


def in_sparse_initializer(location):
    model = model_of(stored=())
    model.graph.sparse_initializer.append(sparse(location))
    return model


def in_sparse_constant(location):
    constant = helper.make_node("Constant", [], ["w"])
    attribute = AttributeProto(name="sparse_value", type=AttributeProto.SPARSE_TENSOR)
    attribute.sparse_tensor.CopyFrom(sparse(location))
    constant.attribute.append(attribute)
    return model_of([constant, helper.make_node("MatMul", ["x", "w"], ["y"])], stored=())


def constant_outside(location):
    node = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(WEIGHT, "w"))
    moved_out(node.attribute[0].t, location)
    return node


def in_constant(location):
    return model_of([constant_outside(location), helper.make_node("MatMul", ["x", "w"], ["y"])], stored=())


def in_fill(location):
    """The reference implementation reads this attribute whenever the size is known."""
    shape = numpy_helper.from_array(np.array([2], np.int64), "s")
    fill = helper.make_node("ConstantOfShape", ["s"], ["c"], value=numpy_helper.from_array(np.ones(1, np.int64), "v"))
    moved_out(fill.attribute[0].t, location)
    nodes = [fill, helper.make_node("Expand", ["x", "c"], ["e"]), helper.make_node("Relu", ["x"], ["y"])]
    return model_of(nodes, stored=[shape])


def in_subgraph(location):
    def branch(name):
        nodes = [constant_outside(location), helper.make_node("MatMul", ["x", "w"], ["z"])]
        return helper.make_graph(nodes, name, [], [info("z")])

    node = helper.make_node("If", ["c"], ["y"], then_branch=branch("a"), else_branch=branch("b"))
    return model_of([node], stored=(), inputs=[info("c", (), TensorProto.BOOL), info("x", (1, 4))])


def in_function(location):
    body = [constant_outside(location), helper.make_node("MatMul", ["a", "w"], ["b"])]
    function = helper.make_function("own", "Fc", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    return model_of([helper.make_node("Fc", ["x"], ["y"], domain="own")], stored=(), functions=[function])


def of_another_type(location):
    """Readers that go by an attribute's type do not see the tensor; others do."""
    model = in_constant(location)
    model.graph.node[0].attribute[0].type = AttributeProto.INT
    return model


PLACES = (in_sparse_initializer, in_sparse_constant, in_constant, in_fill, in_subgraph, in_function, of_another_type)


@pytest.mark.parametrize("make", PLACES)
def test_tensors_are_found_wherever_they_are(make, folder):
    with pytest.raises(RefusedError, match=r"'\.\./secret', a path with '\.\.'"):
        open_model(saved(make("../secret"), folder / "m.onnx"))


# What the entries say, and what is said of it, for a file of 128 bytes.
BAD = {
    "offset": ({"offset": 4}, "bytes 4 to 132 of w.bin, which has 128"),
    "negative offset": ({"offset": -4}, "impossible offset '-4'"),
    "huge offset": ({"offset": 2**62}, "which has 128"),
    "offset beyond numbers": ({"offset": "9" * 200}, "impossible offset"),
    "offset in words": ({"offset": "0x10"}, "impossible offset"),
    "offset with underscores": ({"offset": "1_0"}, "impossible offset"),
    "length": ({"length": 64}, "takes 128 bytes, the model says 64"),
    "long": ({"length": 256}, "takes 128 bytes, the model says 256"),
    "negative length": ({"length": -1}, "impossible length '-1'"),
    "no length": ({"length": 0}, "the model says 0"),
    "no path": ({"location": ""}, "no path"),
}


@pytest.mark.parametrize("case", BAD)
def test_places_that_make_no_sense_are_errors(case, folder):
    entries, words = BAD[case]
    model, data = outside_model(**{"location": "w.bin", **entries})
    (folder / "w.bin").write_bytes(data)
    with pytest.raises(ModelError, match=words):
        open_model(saved(model, folder / "m.onnx"))


def test_entries_that_contradict_each_other_are_refused(folder):
    model, data = outside_model("w.bin")
    (folder / "w.bin").write_bytes(data)
    model.graph.initializer[0].external_data.add(key="location", value="../secret")
    with pytest.raises(RefusedError, match="twice"):
        open_model(saved(model, folder / "m.onnx"))


def test_unknown_keys_are_of_no_account(folder):
    model, data = outside_model("w.bin", offset=0, length=128, checksum="0" * 40, __class__="x", basepath="/etc")
    (folder / "w.bin").write_bytes(data)
    opened = open_model(saved(model, folder / "m.onnx"))
    (tensor,) = outside_tensors(parts_of(opened.graph), opened.path)
    assert (tensor.file.path, tensor.offset, tensor.bytes) == ((folder / "w.bin").resolve(), 0, 128)


def test_trust_takes_hard_links_and_nothing_else(folder):
    os.link(folder.parent / "secret", folder / "w.bin")
    path = saved(outside_model("w.bin")[0], folder / "m.onnx")
    assert open_model(path, trust=True).kind == "onnx"
    with pytest.raises(RefusedError):
        open_model(saved(outside_model("../secret")[0], folder / "m.onnx"), trust=True)


def hub(folder, model, data):
    """The layout of a hub's cache: blobs by hash, and links to them by name."""
    blobs, snapshot = folder / "blobs", folder / "snapshots" / "0f3a" / "onnx"
    snapshot.mkdir(parents=True)
    saved(model, blobs / "aa11")
    (blobs / "bb22").write_bytes(data)
    (snapshot / "model.onnx").symlink_to("../../../blobs/aa11")
    (snapshot / "model.onnx_data").symlink_to("../../../blobs/bb22")
    return snapshot / "model.onnx"


def test_the_layout_of_a_hubs_cache_opens(folder):
    path = hub(folder, *outside_model("model.onnx_data"))
    opened = open_model(path)
    assert outside_tensors(parts_of(opened.graph), opened.path)[0].file.path == (folder / "blobs" / "bb22").resolve()
    (path.parent / "other").symlink_to(folder.parent / "secret")
    with pytest.raises(RefusedError, match="link out of the model's folder"):
        open_model(saved(outside_model("other")[0], folder / "blobs" / "aa11") and path)


def test_a_folder_reached_over_a_link_opens(folder):
    model, data = outside_model("sub/w.bin", offset=0)
    saved(model, folder / "m.onnx")
    (folder / "sub").mkdir()
    (folder / "sub" / "w.bin").write_bytes(data)
    (folder.parent / "alias").symlink_to(folder)
    assert not open_model(folder.parent / "alias" / "m.onnx").notes


def test_a_missing_file_is_a_note(folder):
    opened = open_model(saved(outside_model("w.bin")[0], folder / "m.onnx"))
    assert "'w.bin'" in opened.notes[0]
    assert analyze_onnx(opened.graph, dims={"batch": 2}).totals.macs == 2 * 4 * 8


def test_more_than_2_gib_outside_profile_without_reading(folder):
    """The file is sparse: nothing of it is on the disk, and nobody could read it in this time."""
    rows = 1 << 20
    tensor = TensorProto(name="w", dims=(rows, 1024), data_type=TensorProto.FLOAT)
    model = model_of(stored=[tensor], inputs=[info("x", (1, rows))])
    moved_out(model.graph.initializer[0], "w.bin", offset=4096)
    with (folder / "w.bin").open("wb") as file:
        file.truncate(4096 + rows * 4096)
    begun = time.perf_counter()
    opened = open_model(saved(model, folder / "m.onnx"))
    assert analyze_onnx(opened.graph).totals.param_bytes == rows * 4096
    assert time.perf_counter() - begun < 5


HOOK = """
import json, os, sys
seen = []
sys.addaudithook(lambda event, args: event == "open" and not isinstance(args[0], int) and seen.append(str(args[0])))
current, *models = sys.argv[1:]
os.chdir(current)
import cli
found = {}
for path in models:
    seen.clear()
    sys.argv = ["netgauge", "profile", path, "--dim", "batch=1", "--check", "none", "--output", os.devnull]
    try:
        cli.main()
    except SystemExit as done:
        found[path] = [done.code, sorted({os.path.realpath(p) for p in seen if p.startswith(current) or not "/" in p})]
print(json.dumps(found))
"""


def test_profile_opens_the_model_and_no_other_file(folder):
    """In a process of its own: a hook that hears of every opened file cannot be taken away again."""
    (folder / "w.bin").write_bytes(WEIGHT.tobytes())
    (folder.parent / "secret").write_bytes(np.ones(1, np.int64).tobytes())
    models = {
        "escape": (in_constant("../secret"), 3),
        "fill": (in_fill("secret"), 0),  # the reference would read this one, in the current folder
        "missing": (in_constant("secret"), 0),
        "whole": (outside_model("w.bin")[0], 0),
    }
    expected = {}
    for name, (model, code) in models.items():
        path = str(saved(model, folder / f"{name}.onnx").resolve())
        expected[path] = [code, [path]]
    run = [sys.executable, "-c", HOOK, str(folder.parent.resolve()), *expected]
    done = subprocess.run(run, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert json.loads(done.stdout.splitlines()[-1]) == expected


def nested(levels):
    """`If` inside `If` inside ..."""

    def graph(level):
        inner = helper.make_node("Relu", ["x"], ["z"]) if not level else branch(level - 1)
        return helper.make_graph([inner], f"g{level}", [], [info("z")])

    def branch(level):
        held = graph(level)
        return helper.make_node("If", ["c"], ["z"], then_branch=held, else_branch=graph(0))

    return model_of([branch(levels)], stored=(), inputs=[info("c", (), TensorProto.BOOL), info("x", (1, 4))])


def doubling(levels):
    """Functions that each call the next one twice."""

    def function(level):
        calls = [
            helper.make_node(f"F{level + 1}" if level < levels else "Relu", [a], [b], domain="own" * (level < levels))
            for a, b in (("a", "m"), ("m", "b"))
        ]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        return helper.make_function("own", f"F{level}", ["a"], ["b"], calls, opsets)

    functions = [function(level) for level in range(levels + 1)]
    return model_of([helper.make_node("F0", ["x"], ["y"], domain="own")], stored=(), functions=functions)


def calling_itself():
    body = [helper.make_node("F", ["a"], ["b"], domain="own")]
    function = helper.make_function("own", "F", ["a"], ["b"], body, [helper.make_opsetid("own", 1)])
    return model_of([helper.make_node("F", ["x"], ["y"], domain="own")], stored=(), functions=[function])


def huge(operator):
    shape = numpy_helper.from_array(np.array([1 << 20, 1 << 21], np.int64), "s")
    inputs = {"ConstantOfShape": ["s"], "Expand": ["x", "s"], "RandomNormal": []}[operator]
    attributes = {"shape": [1 << 20, 1 << 21]} if operator == "RandomNormal" else {}
    nodes = [helper.make_node(operator, inputs, ["b"], **attributes), helper.make_node("Relu", ["x"], ["y"])]
    return model_of(nodes, stored=[shape])


def declared(*dims, kind=TensorProto.FLOAT, **contents):
    return model_of(stored=[TensorProto(name="w", dims=dims, data_type=kind, **contents)])


def training():
    model = model_of()
    model.training_info.add()
    return model


def twice_stored():
    return model_of(stored=[numpy_helper.from_array(WEIGHT, "w")] * 2)


def twice_made():
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Relu", ["x"], ["y"])]
    return model_of(nodes)


def named(**names):
    model = model_of()
    for key, value in names.items():
        setattr(model.graph.node[0], key, value)
    return model


REFUSED = {
    "nodes": (model_of, {"nodes": 0}, "nodes"),
    "nodes inside": (lambda: nested(5), {"nodes": 10}, "nodes"),
    "nesting": (lambda: nested(10), {"nesting": 10}, "levels of nesting"),
    "functions written out": (lambda: doubling(40), {}, r"written out: [0-9,]+ nodes"),
    "functions": (lambda: doubling(8), {"nesting": 5}, "levels of nesting"),
    "tensors": (model_of, {"tensors": 0}, "tensors"),
    "elements": (lambda: declared(1 << 30, 1 << 30), {}, "elements in one tensor"),
    "elements beyond counting": (lambda: declared(*[1 << 62] * 60), {}, "elements in one tensor"),
    "ConstantOfShape": (lambda: huge("ConstantOfShape"), {}, r"ConstantOfShape.*elements in one tensor"),
    "Expand": (lambda: huge("Expand"), {}, r"Expand.*elements in one tensor"),
    "RandomNormal": (lambda: huge("RandomNormal"), {}, r"RandomNormal.*elements in one tensor"),
    "a long name": (lambda: named(name="n" * (1 << 20)), {}, "1,048,576 bytes in one name"),
    "a long operator": (lambda: named(op_type="n" * (1 << 20)), {}, "bytes in one name"),
    "a long path": (lambda: outside_model("w" * (1 << 20))[0], {}, "bytes in one name"),
    "file": (model_of, {"file_bytes": 10}, "bytes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_asks_for_too_much_is_refused_at_once(case, tmp_path):
    make, limits, words = REFUSED[case]
    path = saved(make(), tmp_path / "m.onnx")
    begun = time.perf_counter()
    with pytest.raises(RefusedError, match=words):
        open_model(path, limits=Limits(**limits))
    assert time.perf_counter() - begun < 5


def test_long_names_pass_where_the_limit_is_raised(tmp_path):
    path = saved(named(name="n" * (1 << 20)), tmp_path / "m.onnx")
    assert open_model(path, limits=Limits().raised(["name_bytes=2000000"])).kind == "onnx"


DAMAGED = {
    "training": (training, "training"),
    "two stored tensors": (twice_stored, "two tensors named 'w'"),
    "two results": (twice_made, "two tensors named 'y'"),
    "a function in itself": (calling_itself, "'F' calls itself"),
    "a negative size": (lambda: declared(-4, 8), "impossible size"),
    "an endless size": (lambda: declared(*[1] * 1000), "impossible size"),
    "an unknown type": (lambda: declared(4, 8, kind=99), "unknown type 99"),
    "too few bytes": (lambda: declared(4, 8, raw_data=b"1234"), "does not fit its size"),
    "too few numbers": (lambda: declared(4, 8, float_data=[1.0]), "does not fit its size"),
    "no operator": (lambda: named(op_type=""), "without an operator"),
    "strings outside": (lambda: in_strings("w.bin"), "cannot lie in another file"),
}


def in_strings(location):
    model = model_of(stored=[TensorProto(name="w", dims=(1,), data_type=TensorProto.STRING)])
    moved_out(model.graph.initializer[0], location)
    return model


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_graphs_are_explained(case, tmp_path):
    make, words = DAMAGED[case]
    with pytest.raises(ModelError, match=words):
        open_model(saved(make(), tmp_path / "m.onnx"))


def field(number, data):
    """A field of a protobuf: text or another message."""
    length = b""
    size = len(data)
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + data


def test_graphs_nested_deeper_than_protobuf_allows_are_explained(tmp_path):
    """onnx itself cannot write these."""
    graph = field(1, field(4, b"Relu"))
    for _ in range(1000):
        graph = field(1, field(4, b"If") + field(5, field(1, b"then_branch") + field(6, graph)))
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x08\x0a" + field(7, graph))
    with pytest.raises(ModelError, match="no whole ONNX model"):
        open_model(path)


def test_cycles_are_explained(tmp_path):
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    opened = open_model(saved(model_of(nodes, stored=()), tmp_path / "m.onnx"))
    with pytest.raises(ModelError, match="cycle"):
        analyze_onnx(opened.graph, [(1, 4)])


@pytest.mark.parametrize("seed", range(8))
def test_random_bytes_are_no_model(seed, tmp_path):
    """Each begins as an ONNX file does."""
    draw = random.Random(seed)
    for n in range(40):
        data = bytes([draw.choice((0x08, 0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42))]) + draw.randbytes(n * 7)
        path = tmp_path / "m.onnx"
        path.write_bytes(data)
        with pytest.raises(ModelError):
            open_model(path)


@pytest.mark.parametrize("seed", range(8))
def test_flipped_and_cut_files_open_or_are_explained(seed, tmp_path):
    """Whatever a damaged byte turns a graph into, it ends in one of our errors, in the analysis at the latest."""
    draw = random.Random(seed)
    whole = in_subgraph("w.bin").SerializeToString()
    path = tmp_path / "m.onnx"
    for _ in range(60):
        data = bytearray(whole[: draw.randrange(1, len(whole))] if draw.random() < 0.3 else whole)
        for _ in range(draw.randrange(1, 4)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(data)
        try:
            analyze_onnx(open_model(path).graph)
        except (ModelError, RefusedError):
            continue


def other_protobufs():
    yield numpy_helper.from_array(WEIGHT, "w").SerializeToString()
    yield info("x", (1, 2)).SerializeToString()
    yield helper.make_node("Relu", ["x"], ["y"]).SerializeToString()
    yield onnx.ModelProto(ir_version=8, producer_name="nobody").SerializeToString()
    # A TensorFlow SavedModel: its first field is a version, its second a message.
    yield b"\x08\x01\x12\x08\x0a\x06\x0a\x04abcd"


@pytest.mark.parametrize("data", tuple(other_protobufs()))
def test_other_protobufs_are_no_model(data, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"ONNX|known"):
        open_model(path)


def test_a_file_of_more_than_2_gib_cannot_be_one(tmp_path):
    path = tmp_path / "m.onnx"
    with path.open("wb") as file:
        file.write(b"\x08\x0a")
        file.truncate(1 << 31)
    begun = time.perf_counter()
    with pytest.raises(ModelError, match=r"2\.0 GiB, and no ONNX file"):
        open_model(path)
    assert time.perf_counter() - begun < 5


def test_the_name_of_a_file_does_not_choose_how_it_is_read(tmp_path):
    for name in ("m.json", "m.textproto", "m.onnxtxt"):
        assert open_model(saved(model_of(), tmp_path / name)).kind == "onnx"


NASTY = "\x1b[31m\x00</script>=cmd\u202e\n"


@pytest.mark.parametrize("style", ["table", "tree", "csv", "markdown", "html", "json"])
def test_names_from_a_file_drive_nothing(style, tmp_path):
    model = model_of()
    model.graph.node[0].name = NASTY
    model.graph.node.append(helper.make_node("Odd", ["y"], ["z"], name=f"={NASTY}", domain="own"))
    model.opset_import.append(helper.make_opsetid("own", 1))
    report, notes = profiled(saved(model, tmp_path / "m.onnx"), "--format", style, "--dim", "batch=1")
    assert not {"\x1b", "\x00", "\u202e"} & set(report + notes)
    assert style != "csv" or "\n=" not in report
    assert style not in ("html", "markdown") or not re.search(r"(?<!\\)</script", report)
    assert "nothing is known of own.Odd" in notes


def profiled(path, *options):
    """All that `profile` prints, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["cli.py", "profile", str(path), "--check", "none", *options])
        with pytest.raises(SystemExit):
            cli.main()
    return out.getvalue(), err.getvalue()


def test_names_in_errors_drive_nothing(tmp_path):
    model = model_of()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = NASTY
    model.graph.input[0].name = f"x{NASTY}"
    _, text = profiled(saved(model, tmp_path / "m.onnx"))
    assert text.startswith("error: ")
    assert not {"\x1b", "\x00", "\u202e"} & set(text)


def test_long_names_in_errors_are_cut(tmp_path):
    model = model_of()
    model.graph.input[0].name = "x" * (1 << 20)
    model.graph.node[0].input[0] = "x" * (1 << 20)
    _, text = profiled(saved(model, tmp_path / "m.onnx"), "--limit", "name_bytes=2000000")
    assert text.startswith("error: ")
    assert len(text) < 4000


def test_notes_are_said_once_and_single_numbers_named(tmp_path):
    def branch(*nodes):
        return helper.make_graph(nodes, "b", [], [info("z")])

    relu, twice = helper.make_node("Relu", ["x"], ["z"]), helper.make_node("Add", ["x", "x"], ["z"])
    node = helper.make_node("If", ["c"], ["y"], name="choice", then_branch=branch(relu), else_branch=branch(twice))
    model = model_of([node], stored=(), inputs=[info("c", (), TensorProto.BOOL), info("x", (1, 4))])
    _, notes = profiled(saved(model, tmp_path / "m.onnx"))
    assert notes.count("choice: its condition is data") == 1
    assert "note: input scalar, 1x4 as the graph declares it" in notes


def test_all_open_sizes_are_named_at_once(tmp_path):
    model = model_of(inputs=[info("x", ("batch", 4)), info("other", (None, "batch", "length"))])
    path = saved(model, tmp_path / "m.onnx")
    _, text = profiled(path)
    assert "pass --dim batch=N --dim other[0]=N --dim length=N, or" in text
    report, _ = profiled(path, "--dim", "batch=1", "--dim", "other[0]=2", "--dim", "length=3")
    assert "4x8" not in report
    assert "1x8" in report
