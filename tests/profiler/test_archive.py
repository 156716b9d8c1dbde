"""Zip archives of torch that lie about themselves, or ask for too much."""

import io
import pickle
import struct
import zipfile

import pytest
import torch

from profiler import open_model
from profiler.errors import ModelError, RefusedError
from profiler.sources import Limits

LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "w.pt"
    torch.save({"w": torch.arange(64.0), "v": torch.zeros(2, 3)}, path)
    assert len(open_model(path).tensors) == 2
    return path


def members(path):
    with zipfile.ZipFile(path) as archive:
        return [(info.filename, archive.read(info)) for info in archive.infolist()]


def written(path, contents, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in contents:
            archive.writestr(name, data)
    return path


def patched(path, signature, leaf, offset, data):
    """Bytes of a member's local or central header, counted from its beginning, replaced."""
    content = bytearray(path.read_bytes())
    name_at = {LOCAL: 30, CENTRAL: 46}[signature]
    name = f"w/{leaf}".encode()
    at = content.find(signature)
    while content[at + name_at : at + name_at + len(name)] != name:
        at = content.find(signature, at + 1)
        assert at >= 0
    content[at + offset : at + offset + len(data)] = data
    path.write_bytes(content)
    return path


def test_a_flipped_bit_of_the_pickle_is_found(saved):
    saved.write_bytes(saved.read_bytes().replace(b"FloatStorage", b"FloatStorAge", 1))
    with pytest.raises(ModelError, match="CRC"):
        open_model(saved)


def test_a_flipped_bit_of_a_storage_is_found_when_it_is_read(saved, tmp_path):
    data = bytearray(saved.read_bytes())
    data[data.find(struct.pack("<3f", 1, 2, 3))] ^= 1
    saved.write_bytes(data)
    (tmp_path / "net.py").write_text(
        "import torch\ndef net():\n    m = torch.nn.Module()\n    m.w = torch.nn.Parameter(torch.zeros(64))\n"
        "    m.v = torch.nn.Parameter(torch.zeros(2, 3))\n    return m\n"
    )
    with pytest.raises(ModelError, match="storage 0 is damaged"):
        open_model(f"{tmp_path}/net.py:net", weights=saved)


def test_a_member_listed_twice_is_refused(saved, tmp_path):
    contents = members(saved)
    with pytest.warns(UserWarning, match="Duplicate"):
        path = written(tmp_path / "twice.pt", [*contents, contents[0]])
    with pytest.raises(RefusedError, match="twice"):
        open_model(path)


def test_two_pickles_are_refused(saved, tmp_path):
    contents = members(saved)
    path = written(tmp_path / "two.pt", [*contents, ("x/data.pkl", contents[0][1])])
    with pytest.raises(RefusedError, match=r"2 files data\.pkl"):
        open_model(path)


def test_names_that_climb_are_names_like_any_other(saved, tmp_path):
    more = [("../../climbed", b"x"), ("/absolute", b"x"), ("w/../data/0", b"other")]
    path = written(tmp_path / "names.pt", [*members(saved), *more])
    assert len(open_model(path).tensors) == 2
    assert {p.name for p in tmp_path.iterdir()} == {"w.pt", "names.pt"}


@pytest.mark.parametrize(
    ("signature", "leaf", "offset", "data", "words"),
    [
        (LOCAL, "data.pkl", 32, b"DATA", "disagrees"),  # its name
        (LOCAL, "data/0", 8, struct.pack("<H", 8), "disagrees"),  # its method
        (LOCAL, "data/0", 6, struct.pack("<H", 0x801), "disagrees"),  # encrypted
        (LOCAL, "data/0", 6, struct.pack("<HHHHIII", 0x800, 0, 0, 0, 1, 256, 256), "disagrees"),  # its CRC
        (LOCAL, "data/0", 0, b"PK\x07\x08", "disagrees"),
        (CENTRAL, "data/0", 8, struct.pack("<H", 0x801), "encrypted"),
        (CENTRAL, "data/0", 10, struct.pack("<H", 8), "compressed"),
        (CENTRAL, "data/0", 10, struct.pack("<H", 14), "compressed"),
        (CENTRAL, "data/0", 20, struct.pack("<II", 255, 256), "two sizes"),
        (CENTRAL, "data/0", 20, struct.pack("<II", 1 << 20, 1 << 20), "overlap"),
        (CENTRAL, "data/1", 42, struct.pack("<I", 1 << 30), "truncated"),
    ],
)
def test_headers_that_lie_are_refused(signature, leaf, offset, data, words, saved):
    patched(saved, signature, leaf, offset, data)
    with pytest.raises((ModelError, RefusedError), match=words):
        open_model(saved)


def test_bytes_behind_the_pickle_are_found(saved, tmp_path):
    contents = [(n, d + b"more" if n.endswith("data.pkl") else d) for n, d in members(saved)]
    with pytest.raises(ModelError, match="4 bytes follow"):
        open_model(written(tmp_path / "more.pt", contents))


HOSTILE = {
    "no STOP": (pickle.dumps({"a": 1}, 2)[:-1], "damaged"),
    "memo": (b"\x80\x02h\x05.", "entry 5 of its memo"),
    "no mark": (b"\x80\x02K\x01t.", "damaged"),
    "left over": (b"\x80\x02K\x01K\x02.", "ends in the middle"),
    "open mark": (b"\x80\x02(K\x01.", "ends in the middle"),
    "nothing": (b"\x80\x02.", "damaged"),
    "long text": (b"\x80\x02X\xff\xff\xff\x7fabc.", "damaged"),
    "no opcode": (b"\x80\x02\xff.", "damaged"),
    "foreign opcode": (b"\x80\x02(K\x01d.", "DICT"),
    "state of a number": (b"\x80\x02K\x01}b.", "state of a int"),
    "items of a list": (b"\x80\x02]K\x01K\x02s.", "items of a list"),
    "key without hash": (b"\x80\x02}]K\x02s.", "key"),
    # A tuple that doubles with every opcode: to hash it takes for ever.
    "doubling key": (b"\x80\x02}K\x01" + b"q\x00h\x00\x86" * 60 + b"K\x02s.", "key"),
    "parameter in itself": (
        b"\x80\x02}X\x01\x00\x00\x00w" + b"ctorch._utils\n_rebuild_parameter\n" * 60 + b"K\x01" + b"\x85R" * 60 + b"s.",
        "never does",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_pickles_that_make_no_sense_are_explained(name, saved, tmp_path):
    data, words = HOSTILE[name]
    contents = [(n, data if n.endswith("data.pkl") else d) for n, d in members(saved)]
    with pytest.raises((ModelError, RefusedError), match=words):
        open_model(written(tmp_path / "odd.pt", contents))


DOUBLED = b"K\x01" + b"q\x00h\x00\x86" * 60  # a tuple of 2**60 ones
REBUILD = b"ctorch._utils\n_rebuild_"
STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x40tQ"
VIEW = b"K\x00K\x01\x85K\x01\x85"  # offset, size and stride
DOUBLING = {
    "a value": DOUBLED,
    "a size": REBUILD + b"tensor_v2\n(" + STORAGE + b"K\x00" + DOUBLED + b"K\x01\x85\x89NtR",
    "a type": REBUILD + b"tensor_v3\n(" + STORAGE + VIEW + b"\x89N" + DOUBLED + b"tR",
    "marks": REBUILD + b"tensor_v2\n(" + STORAGE + VIEW + b"\x89N" + DOUBLED + b"tR",
    "a storage": REBUILD + b"tensor_v2\n(" + DOUBLED + VIEW + b"\x89NtR",
    "a storage's type": STORAGE.replace(b"ctorch\nFloatStorage\n", DOUBLED),
    "a class": b"ctorch._tensor\n_rebuild_from_type_v2\n(" + REBUILD + b"tensor\n" + DOUBLED + b")NtR",
    "a function": b"ctorch._tensor\n_rebuild_from_type_v2\n(" + DOUBLED + b"ctorch\nTensor\n)NtR",
    "a layout": REBUILD + b"sparse_tensor\n" + DOUBLED + b")\x86R",
    "a dtype": REBUILD + b"meta_tensor_no_storage\n(" + DOUBLED + b"))\x89tR",
    "a set": b"cbuiltins\nset\n]" + DOUBLED + b"a\x85R",
    "an attribute's name": b"ctorch.nn.modules.activation\nReLU\n)\x81}cbuiltins\nset\n" + DOUBLED + b"RNsb",
    "a pair's key": b"ccollections\nOrderedDict\n]](" + DOUBLED + b"K\x01ea\x85R",
    "hooks": b"ctorch.nn.modules.activation\nReLU\n)\x81}X\x0e\x00\x00\x00_forward_hooks" + DOUBLED + b"sb",
    "a module's set": b"ctorch.nn.modules.activation\nReLU\n)\x81}X\x08\x00\x00\x00training"
    b"cbuiltins\nset\n]" + DOUBLED + b"a\x85Rsb",
}


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("place", DOUBLING)
def test_a_tuple_that_doubles_is_never_written_out(place, whole, saved, tmp_path):
    pickled = b"\x80\x02" + (DOUBLING[place] if whole else b"}X\x01\x00\x00\x00w" + DOUBLING[place] + b"s") + b"."
    contents = [(n, pickled if n.endswith("data.pkl") else d) for n, d in members(saved)]
    path = written(tmp_path / "odd.pt", contents)
    try:
        assert open_model(path).tensors == ()
    except (ModelError, RefusedError) as error:
        assert len(str(error)) < 1000  # noqa: PT017  # either end is right


def test_tensors_inside_tensors_are_no_trap(saved, tmp_path):
    sparse = REBUILD + b"sparse_tensor\n"
    layout = b"ctorch.serialization\n_get_layout\nX\x10\x00\x00\x00torch.sparse_coo\x85R"
    pickled = b"\x80\x02" + (sparse + layout) * 2000 + b"K\x01" + b"\x85\x86R" * 2000 + b"."
    contents = [(n, pickled if n.endswith("data.pkl") else d) for n, d in members(saved)]
    with pytest.raises(ModelError, match="never does"):
        open_model(written(tmp_path / "odd.pt", contents))


def test_the_limits_hold(saved):
    for limits in (
        {"members": 3}, {"header_bytes": 50}, {"opcodes": 20}, {"tensors": 1}, {"elements": 32}, {"name_bytes": 0},
        {"file_bytes": 10},
    ):  # fmt: skip
        with pytest.raises(RefusedError, match=rf"--limit {next(iter(limits))}="):
            open_model(saved, limits=Limits(**limits))


def test_what_unpacks_to_many_times_its_size_is_refused(tmp_path):
    buffer = io.BytesIO()
    with pytest.warns(DeprecationWarning, match=r"torch\.jit"):
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), buffer)
    path = tmp_path / "bomb.pt"
    path.write_bytes(buffer.getvalue())
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        root = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{root}/code/bomb.py", b" " * (64 << 20))
    with pytest.raises(RefusedError, match="--limit ratio="):
        open_model(path)
