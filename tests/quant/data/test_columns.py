"""Arrays that stay in their files: the same values as in memory, whatever is asked for and in whatever order."""

import io
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.errors import DataError
from quant.data import Samples, npz, open_data
from quant.data.columns import Selected, is_column
from quant.data.npy import DeflatedRows, StoredRows, read_header

X = np.random.default_rng(0).normal(size=(50, 3, 4)).astype(np.float32)
KINDS = {"stored": (np.savez, StoredRows), "deflated": (np.savez_compressed, DeflatedRows)}


@pytest.fixture
def large(monkeypatch):
    """Everything is too large to be read at once."""
    monkeypatch.setattr(npz, "SMALL", 0)
    monkeypatch.setattr("quant.data.columns.SMALL", 0)


@pytest.fixture(params=KINDS)
def column(request, tmp_path, large):
    save, kind = KINDS[request.param]
    save(tmp_path / "data.npz", x=X)
    found = npz.open_npz(tmp_path / "data.npz", "data.npz")["x"]
    assert isinstance(found, kind)
    return found


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_rows_are_those_of_the_array(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    for name, (save, _) in KINDS.items():
        path = folder / f"{name}.npz"
        if not path.exists():
            save(path, x=X)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(npz, "SMALL", 0)
            column = npz.open_npz(path, "data")["x"]
        for _ in range(3):  # a compressed one remembers where it is
            if data.draw(st.booleans()):
                key = slice(*data.draw(st.tuples(*[st.none() | st.integers(-60, 60)] * 2)))
            else:
                key = np.array(data.draw(st.lists(st.integers(0, 49), max_size=9)), np.intp)
            assert np.array_equal(column[key], X[key])


def test_shape_type_and_length(column):
    assert (column.shape, column.dtype, len(column)) == (X.shape, X.dtype, 50)
    assert is_column(column)


def test_a_selection_of_a_selection(column):
    first = Selected(column, np.array([9, 3, 3, 40]))
    second = Selected(first, np.array([3, 0, 1]))
    assert second.base is column
    assert np.array_equal(second[:], X[[40, 9, 3]])
    assert np.array_equal(second[np.array([1, 1])], X[[9, 9]])
    assert second[:0].shape == (0, 3, 4)


def test_samples_in_a_file_are_those_in_memory(column):
    stay, memory = Samples({"x": column}, np.arange(50), "file"), Samples({"x": X}, np.arange(50), "memory")
    for a, b in (
        (stay, memory),
        (stay.take([7, 3, 7]), memory.take([7, 3, 7])),
        (stay.split(9, 1)[1], memory.split(9, 1)[1]),
    ):
        for left, right in zip(a.batches(4), b.batches(4), strict=True):
            assert np.array_equal(left.inputs["x"], right.inputs["x"])
            assert np.array_equal(left.labels["y"], right.labels["y"])


def test_the_sample_with_a_nan_is_named_as_it_is_read(tmp_path, large):
    array = X.copy()
    array[37, 0, 0] = np.inf
    np.savez(tmp_path / "data.npz", x=array)
    samples = open_data(tmp_path / "data.npz", split="evaluation")
    batches = samples.batches(10)
    for _ in range(3):
        next(batches)
    with pytest.raises(DataError, match=r"input 'x' holds NaN or infinity, first in sample 37$"):
        next(batches)
    with pytest.raises(DataError, match=r"sample 37$"):
        list(samples.take([1, 37]).batches(10))


def test_missing_labels_in_a_file_are_named(tmp_path, large):
    np.savez(tmp_path / "data.npz", x=X, y=np.where(np.arange(50) == 12, np.nan, 1.0))
    with pytest.raises(DataError, match=r"labels holds NaN .* sample 12; every sample needs a label"):
        list(open_data(tmp_path / "data.npz", split="evaluation").batches(20))


def test_further_labels_have_their_names(tmp_path):
    np.savez(tmp_path / "data.npz", x=X, **{"y.groups": np.arange(50)})
    samples = open_data(tmp_path / "data.npz", split="evaluation")
    assert list(samples.inputs) == ["x"]
    assert next(samples.batches(3)).labels["groups"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("order", ["C", "F"])
def test_one_array_in_an_npy(tmp_path, order):
    np.save(tmp_path / "data.npy", np.asarray(X, order=order))
    samples = open_data(tmp_path / "data.npy", split="evaluation")
    assert np.array_equal(samples.inputs["x"], X)
    assert samples.labels is None


def test_a_large_array_by_columns_says_what_to_do(tmp_path, large):
    np.save(tmp_path / "data.npy", np.asfortranarray(X))
    with pytest.raises(DataError, match=r"save np\.ascontiguousarray"):
        open_data(tmp_path / "data.npy", split="evaluation")


def test_large_samples_come_in_smaller_batches(monkeypatch):
    monkeypatch.setattr("quant.data.batching.BATCH_BYTES", 100)
    assert [len(batch) for batch in Samples({"x": X}, None, "set").batches(32)][:3] == [2, 2, 2]


def test_a_column_of_ones_own(large):
    class Squares:
        shape, dtype = (5, 2), np.dtype("float64")

        def __len__(self):
            return 5

        def __getitem__(self, key):
            return np.stack([np.arange(5.0)[key] ** 2] * 2, axis=1)

    samples = open_data({"x": Squares(), "y": np.arange(5)}, split="evaluation")
    assert [b.inputs["x"][:, 1].tolist() for b in samples.take([3, 1, 2]).batches(2)] == [[9.0, 1.0], [4.0]]


@pytest.mark.parametrize("value", [[1, 2], "text", 3.0, {}])
def test_what_is_no_column(value):
    assert not is_column(value)


# Files that lie about themselves.


def member(content, name="x.npy", **changes):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()


def npy(header, data=b"", version=b"\x01\x00"):
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


def described(shape="(2,)", descr="'<f4'", fortran="False"):
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}"


LIES = {
    "more than there is": (npy(described("(1000000000, 1000000000)")), "speaks of 4,000,000,000,000,000,000 bytes"),
    "overflow": (npy(described(f"({2**63}, {2**63})")), "speaks of"),
    "less than there is": (npy(described("(1,)"), bytes(8)), "and there are 8"),
    "negative": (npy(described("(-2, -1)"), bytes(8)), r"gives the shape \(-2, -1\)"),
    "no tuple": (npy(described("[2]"), bytes(8)), "its shape is"),
    "objects": (npy(described(descr="'|O'"), bytes(16)), "Object arrays are pickles"),
    "records": (npy(described(descr="[('a', '<f4')]"), bytes(8)), "holds records"),
    "dates": (npy(described(descr="'<M8[s]'"), bytes(16)), "holds datetime64"),
    "code": (npy("__import__('os').abort()"), "no header of an array"),
    "deep": (npy("(" * 5000), "no header of an array"),
    "not closed": (npy("{'shape': ("), "no header of an array"),
    "keys": (npy("{'shape': (2,)}"), "no header of an array"),
    "version 3": (npy(described(), bytes(8), b"\x03\x00"), "it begins with"),
    "many axes": (npy(described(f"({'1, ' * 40})"), bytes(4)), "gives the shape"),
    "nothing": (b"", "it begins with b''"),
}


@pytest.mark.parametrize(("content", "message"), LIES.values(), ids=LIES)
def test_headers_that_lie(tmp_path, content, message):
    path = tmp_path / "data.npz"
    path.write_bytes(member(content))
    with pytest.raises(DataError, match=f"array 'x': cannot be read: .*{message}"):
        open_data(path, split="evaluation")
    with pytest.raises(DataError, match=message):
        read_header(io.BytesIO(content), "x", len(content))


def test_a_member_twice(tmp_path):
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("x.npy", npy(described(), bytes(8)))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("x.npy", npy(described(), bytes(8)))
    with pytest.raises(DataError, match="holds the array 'x' twice"):
        open_data(tmp_path / "data.npz", split="evaluation")


def test_sizes_that_cannot_be(tmp_path):
    """A kilobyte that says that it unpacks to a terabyte."""
    np.savez_compressed(tmp_path / "data.npz", x=np.zeros(1000))
    content = bytearray((tmp_path / "data.npz").read_bytes())
    place = content.rindex(b"PK\x01\x02")
    content[place + 24 : place + 28] = struct.pack("<I", 2**32 - 2)
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(DataError, match="cannot hold 4,294,967,294"):
        open_data(tmp_path / "data.npz", split="evaluation")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("small", [0, 1 << 20])
def test_a_wrong_checksum(tmp_path, monkeypatch, save, small):
    """Of what is read at once, and of what is compressed at its end: of a stored one it is not known in between."""
    monkeypatch.setattr(npz, "SMALL", small)
    save(tmp_path / "data.npz", x=np.arange(1000.0))
    content = bytearray((tmp_path / "data.npz").read_bytes())
    place = content.rindex(b"PK\x01\x02")
    content[place + 16] ^= 1
    (tmp_path / "data.npz").write_bytes(content)
    if save is np.savez and not small:
        assert len(npz.open_npz(tmp_path / "data.npz", "data")["x"][:]) == 1000
        return
    with pytest.raises(DataError, match="its checksum is wrong"):
        _ = npz.open_npz(tmp_path / "data.npz", "data")["x"][:]


def test_a_file_that_changes_meanwhile(tmp_path, column):
    column.place.path.write_bytes(column.place.path.read_bytes()[:-1])
    with pytest.raises(DataError, match="the file changed while it was read"):
        _ = column[:3]


def test_a_file_that_is_gone(column):
    column.place.path.unlink()
    with pytest.raises(DataError, match="array 'x': cannot be read: No such file"):
        _ = column[:3]
