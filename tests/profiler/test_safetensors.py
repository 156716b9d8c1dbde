"""safetensors files and indexes of several: what their headers may say, checked against the library's own reader."""

import json
import os
import struct
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file

from profiler import open_model
from profiler.errors import ModelError, RefusedError, UsageError
from profiler.sources.index_file import read_index
from profiler.sources.limits import DEFAULT, Limits
from profiler.sources.safetensors_file import read_tensors
from profiler.sources.safetensors_header import DTYPES, read_header

GOOD = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


def file_of(header, buffer=24, *, length=None):
    """The bytes of a file with this header, written without the library."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + bytes(buffer)


@pytest.fixture
def write(tmp_path):
    def write(data, name="m.safetensors"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def test_what_the_library_writes_is_listed_as_it_was(tmp_path):
    state = {
        "a.weight": torch.zeros(2, 3, dtype=torch.bfloat16),
        "scalar": torch.tensor(1.0),
        "none": torch.zeros(0, 4, dtype=torch.int64),
        "flag": torch.ones(3, dtype=torch.bool),
        "eight": torch.zeros(5, dtype=torch.float8_e4m3fn),
        "complex": torch.zeros(2, dtype=torch.complex64),
    }
    save_file(state, tmp_path / "m.safetensors", metadata={"format": "pt"})
    entries = {t.name: t for t in open_model(tmp_path / "m.safetensors").tensors}
    assert {n: (t.shape, f"torch.{t.dtype}", t.bytes) for n, t in entries.items()} == {
        n: (tuple(t.shape), str(t.dtype), t.nbytes) for n, t in state.items()
    }
    back = read_tensors(tmp_path / "m.safetensors")
    assert all(torch.equal(back[name].view(torch.uint8), t.view(torch.uint8)) for name, t in state.items() if t.dim())


@pytest.mark.parametrize("name", [name for name, (kind, _) in DTYPES.items() if hasattr(torch, kind)])
def test_bits_are_those_of_torch(name):
    kind, bits = DTYPES[name]
    assert getattr(torch, kind).itemsize * 8 == bits


def test_a_header_may_be_padded(write):
    path = write(file_of(json.dumps({"w": GOOD}).encode() + b"   "))
    assert open_model(path).tensors[0].shape == (2, 3)


def changed(**fields):
    return {"w": {**GOOD, **fields}}


def also(**fields):
    return {"a": GOOD, "b": {**GOOD, **fields}}


MALFORMED = {
    "longer than the file": (file_of({"w": GOOD}, length=10**6), "header should have 1,000,000 bytes"),
    "length of 2**63": (file_of({"w": GOOD}, length=1 << 39), "header should have"),
    "cut in the buffer": (file_of({"w": GOOD}, 20), "is cut short"),
    "left over": (file_of({"w": GOOD}, 25), "belong to no tensor"),
    "no object": (file_of(b'{"w": 1} []'), "no JSON"),
    "tensor is a number": (file_of({"w": 1}), "described by something else"),
    "field missing": (file_of({"w": {"dtype": "F32", "shape": [2, 3]}}), "described by something else"),
    "field too many": (file_of(changed(extra=1)), "described by something else"),
    "unknown type": (file_of(changed(dtype="F31")), "'F31', which is not known"),
    "type is a list": (file_of(changed(dtype=["F32"])), "which is not known"),
    "negative size": (file_of(changed(shape=[-2, -3])), "no shape"),
    "fraction": (file_of(changed(shape=[2.0, 3])), "no shape"),
    "boolean size": (file_of(changed(shape=[True, 6])), "no shape"),
    "shape is a number": (file_of(changed(shape=6)), "no shape"),
    "too many axes": (file_of(changed(shape=[1] * 65)), "no shape of at most 64"),
    "three offsets": (file_of(changed(data_offsets=[0, 24, 24])), "no pair of offsets"),
    "negative offset": (file_of(changed(data_offsets=[-24, 0])), "no pair of offsets"),
    "offsets the wrong way": (file_of(changed(data_offsets=[24, 0])), "should have 24 bytes"),
    "offsets too short": (file_of(changed(data_offsets=[0, 20])), "should have 24 bytes"),
    "half a byte": (file_of(changed(dtype="F4", shape=[3], data_offsets=[0, 1]), 1), "should have 1.5 bytes"),
    "overlap": (file_of(also(data_offsets=[0, 24])), "overlaps"),
    "overlap in part": (file_of(also(data_offsets=[4, 28]), 28), "overlaps"),
    "gap": (file_of(also(data_offsets=[28, 52]), 52), "leaves a gap"),
    "gap at the start": (file_of(changed(data_offsets=[4, 28]), 28), "leaves a gap"),
    "metadata of numbers": (file_of({"__metadata__": {"n": 1}, "w": GOOD}), "something else than strings"),
    "metadata is a list": (file_of({"__metadata__": [], "w": GOOD}), "something else than strings"),
    "no UTF-8": (file_of(b'{"\xff": 1}'), "UTF-8"),
    "half a character": (file_of(b'{"\\ud800": 1}'), "no text"),
    "not a number": (file_of(b'{"w": NaN}'), "no JSON"),
    "a number without end": (file_of(b'{"w": 1' + b"0" * 5000 + b"}"), "no JSON"),
}


@pytest.mark.parametrize(("data", "words"), MALFORMED.values(), ids=MALFORMED)
def test_what_breaks_the_format_is_explained(write, data, words):
    with pytest.raises(ModelError, match=words):
        open_model(write(data))


def test_a_list_is_no_header(write):
    path = write(struct.pack("<Q", 8) + b"[1, 2, 3" + bytes(8))
    with pytest.raises(ModelError, match="no JSON object"):
        read_header(path)


TWICE = b'{"w":' + json.dumps(GOOD).encode() + b',"w":' + json.dumps(GOOD).encode() + b"}"
DISHONEST = {
    "a name twice": (file_of(TWICE), "the key 'w' twice"),
    "a field twice": (
        file_of(b'{"w":{"dtype":"F32","dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}'),
        "'dtype' twice",
    ),
    "deep": (file_of(b'{"w":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "too deep"),
    "deep, but not too deep for Python": (file_of(b'{"w":' + b"[" * 300 + b"]" * 300 + b"}"), "nesting"),
}


@pytest.mark.parametrize(("data", "words"), DISHONEST.values(), ids=DISHONEST)
def test_what_no_tool_writes_is_refused(write, data, words):
    with pytest.raises(RefusedError, match=words):
        open_model(write(data))


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("header_bytes", {"w": GOOD}),
        ("tensors", {"a": GOOD, "b": {**GOOD, "data_offsets": [24, 48]}}),
        ("name_bytes", {"w" * 50: GOOD}),
        ("elements", {"w": GOOD}),
    ],
)
def test_limits_hold_and_can_be_raised(write, name, header):
    path = write(file_of(header, 24 * len(header)))
    assert open_model(path).tensors
    tight = replace(DEFAULT, **{name: 1})
    with pytest.raises(RefusedError, match=f"--limit {name}=") as refused:
        open_model(path, limits=tight)
    needed = str(refused.value).rpartition(f"--limit {name}=")[2]
    assert open_model(path, limits=Limits().raised([f"{name}={needed.split()[0]}"])).tensors


def test_elements_are_counted_before_bytes(write):
    path = write(file_of(changed(shape=[1 << 40, 1 << 40], data_offsets=[0, 24])))
    with pytest.raises(RefusedError, match="elements"):
        open_model(path)


def accepted_by_the_library(path):
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError:
        return None


WHOLE = save({"a": torch.zeros(2, 3), "b": torch.zeros(4, dtype=torch.int8), "c": torch.zeros(0, 2)})
JUNK = st.binary(min_size=1, max_size=6) | st.sampled_from([b'"', b"0", b"9", b",", b"[", b"F64", b"-", b" ", b"1e1"])


@given(st.integers(0, len(WHOLE) - 1), JUNK, st.integers(0, 8))
def test_whatever_is_accepted_the_library_accepts_and_reads_the_same(tmp_path_factory, place, junk, removed):
    path = tmp_path_factory.getbasetemp() / "mutated.safetensors"
    path.write_bytes(WHOLE[:place] + junk + WHOLE[place + removed :])
    try:
        ours = {entry.name: entry.shape for entry in read_header(path)}
    except (ModelError, RefusedError):
        return
    assert ours == accepted_by_the_library(path)


def test_the_library_refuses_the_malformed_ones_too(write):
    """All but the ones that only we are strict about."""
    ours_alone = {"field too many", "too many axes", "half a byte"}
    taken = {name for name, (data, _) in MALFORMED.items() if accepted_by_the_library(write(data)) is not None}
    assert taken <= ours_alone


# Indexes


@pytest.fixture
def sharded(tmp_path):
    """Two shards and an index, as transformers writes them."""
    folder = tmp_path / "model"
    folder.mkdir()
    one, two = {"a": torch.arange(6.0).reshape(2, 3)}, {"b": torch.ones(4), "c": torch.zeros(1)}
    save_file(one, folder / "model-00001-of-00002.safetensors")
    save_file(two, folder / "model-00002-of-00002.safetensors")
    places = {
        **dict.fromkeys(one, "model-00001-of-00002.safetensors"),
        **dict.fromkeys(two, "model-00002-of-00002.safetensors"),
    }
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 44}, "weight_map": places}, indent=2))
    return index, {**one, **two}


def rewrite(index, **places):
    content = json.loads(index.read_text())
    content["weight_map"] |= places
    index.write_text(json.dumps(content))
    return index


def test_an_index_lists_all_tensors(sharded):
    index, state = sharded
    opened = open_model(index)
    assert opened.kind == "weights"
    assert {t.name: (t.shape, t.bytes) for t in opened.tensors} == {
        n: (tuple(t.shape), t.nbytes) for n, t in state.items()
    }
    back = read_index(index)
    assert list(back) == list(state)
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


def test_tensors_that_the_index_does_not_name_are_said(sharded):
    index, _ = sharded
    content = json.loads(index.read_text())
    del content["weight_map"]["c"]
    index.write_text(json.dumps(content))
    opened = open_model(index)
    assert [t.name for t in opened.tensors] == ["a", "b"]
    assert "1 tensors of these files are not in the index" in opened.notes[1]
    assert "c" not in read_index(index)


def in_a_hub_cache(index, tmp_path):
    """The same files as the hub's cache lays them out: links in a snapshot to blobs named by their content."""
    cache = tmp_path / "models--org--name"
    blobs, snapshot = cache / "blobs", cache / "snapshots" / "0123abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(index.parent.iterdir())):
        file.rename(blobs / f"{number:064x}")
        (snapshot / file.name).symlink_to(os.path.relpath(blobs / f"{number:064x}", snapshot))
    return snapshot / index.name


def test_the_layout_of_the_hubs_cache_works(sharded, tmp_path):
    index, state = sharded
    linked = in_a_hub_cache(index, tmp_path)
    assert {t.name for t in open_model(linked).tensors} == set(state)
    assert set(read_index(linked)) == set(state)


@pytest.mark.parametrize(
    "name",
    [
        "../secret.safetensors",
        "sub/../../secret.safetensors",
        "./x.safetensors",
        "sub/x.safetensors",
        "..\\secret.safetensors",
        "C:x.safetensors",
        "x\0.safetensors",
        "x\n.safetensors",
        "",
        ".",
        "..",
    ],
)
def test_names_that_lead_elsewhere_are_refused(sharded, tmp_path, name):
    index, _ = sharded
    save_file({"a": torch.zeros(1)}, tmp_path / "secret.safetensors")
    for read in (open_model, read_index):
        with pytest.raises((RefusedError, ModelError), match=r"refused|only safetensors"):
            read(rewrite(index, a=name))


def test_an_absolute_name_is_refused(sharded, tmp_path):
    index, _ = sharded
    save_file({"a": torch.zeros(1)}, tmp_path / "secret.safetensors")
    with pytest.raises(RefusedError, match="not a file beside it"):
        open_model(rewrite(index, a=str(tmp_path / "secret.safetensors")))


def test_links_to_somewhere_else_are_refused(sharded, tmp_path):
    index, _ = sharded
    save_file({"a": torch.zeros(1)}, tmp_path / "secret.safetensors")
    (index.parent / "link.safetensors").symlink_to(tmp_path / "secret.safetensors")
    for read in (open_model, read_index):
        with pytest.raises(RefusedError, match="a link to somewhere else"):
            read(rewrite(index, a="link.safetensors"))


def test_a_link_out_of_the_blobs_is_refused(sharded, tmp_path):
    index, _ = sharded
    linked = in_a_hub_cache(index, tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / "secret.safetensors")
    shard = linked.parent / "model-00001-of-00002.safetensors"
    shard.unlink()
    shard.symlink_to(tmp_path / "secret.safetensors")
    with pytest.raises(RefusedError, match="a link to somewhere else"):
        open_model(linked)


def test_a_missing_shard_a_missing_tensor_and_a_shard_of_another_kind(sharded):
    index, _ = sharded
    with pytest.raises(ModelError, match=r"'model-3\.safetensors' that it names is missing"):
        open_model(rewrite(index, a="model-3.safetensors"))
    with pytest.raises(ModelError, match=r"says that model-00002-of-00002\.safetensors holds the tensor 'a'"):
        open_model(rewrite(index, a="model-00002-of-00002.safetensors"))
    with pytest.raises(ModelError, match="holds the tensor 'a'"):
        read_index(index)
    torch.save({"a": torch.zeros(1)}, index.parent / "x.safetensors")
    with pytest.raises(ModelError, match="but it is torch zip"):
        open_model(rewrite(index, a="x.safetensors"))
    with pytest.raises(ModelError, match="only safetensors files are read through an index"):
        open_model(rewrite(index, a="pytorch_model-00001.bin"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            {"model_type": "bert", "architectures": ["BertModel"]},
            "configuration of a transformers model; name it as hf:",
        ),
        ({"a": 1}, "no index of safetensors files, which has a weight_map"),
        ({"weight_map": []}, "no table from tensors to files"),
        ({"weight_map": {"a": 1}}, "no table from tensors to files"),
        ({"weight_map": {}}, "names no tensors"),
    ],
)
def test_json_files_that_are_no_index(tmp_path, content, words):
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=words):
        open_model(tmp_path / "x.json")


def test_limits_of_an_index(sharded):
    index, _ = sharded
    for name in ("shards", "tensors", "name_bytes", "header_bytes"):
        with pytest.raises(RefusedError, match=f"--limit {name}="):
            open_model(index, limits=replace(DEFAULT, **{name: 0}))


def test_an_index_gives_a_factory_its_weights(sharded):
    index, state = sharded
    (index.parent / "net.py").write_text(
        "import torch\nclass Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.a, self.b, self.c = (torch.nn.Parameter(torch.zeros(*s)) for s in ((2, 3), (4,), (1,)))\n"
    )
    opened = open_model(f"{index.parent}/net.py:Net", weights=index)
    assert all(torch.equal(tensor, state[name]) for name, tensor in opened.module.state_dict().items())


# Folders and Python files


def test_a_folder_of_transformers_says_how_it_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=f"write hf:{tmp_path}"):
        open_model(tmp_path)


FILE = """
import torch
from torch import nn
def small(width=4): raise SystemExit("was run")
def _hidden(): pass
class Net(nn.Module): pass
net = Net()
SIZE = 3
raise SystemExit("was run")
"""


def test_a_python_file_without_a_name_lists_its_factories(tmp_path):
    (tmp_path / "net.py").write_text(FILE)
    with pytest.raises(ModelError, match=r"net\.py:NAME; it defines small, Net, net$"):
        open_model(tmp_path / "net.py")
    (tmp_path / "none.py").write_text("SIZE = 3\n")
    with pytest.raises(ModelError, match="defines no function, class or module"):
        open_model(tmp_path / "none.py")
    (tmp_path / "broken.py").write_text("x = 1\ndef (\n")
    with pytest.raises(ModelError, match="cannot be read as Python, line 2"):
        open_model(tmp_path / "broken.py")


def test_a_module_in_a_file_takes_no_arguments(tmp_path):
    (tmp_path / "net.py").write_text("from torch import nn\nnet = nn.Linear(2, 2)\n")
    assert open_model(f"{tmp_path}/net.py:net").module.out_features == 2
    with pytest.raises(UsageError, match="takes no arguments"):
        open_model(f"{tmp_path}/net.py:net", kwargs={"width": 3})
