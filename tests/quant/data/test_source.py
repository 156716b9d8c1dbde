"""Every kind of data source, and that whatever is wrong with one becomes a DataError that names it."""

import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.errors import DataError, UsageError
from quant.data import Samples, as_samples, open_data

X = np.arange(6, dtype=np.float32).reshape(3, 2)
Y = np.arange(3)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def opened(source):
    return open_data(source, split="evaluation")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_with_labels(folder, save):
    save("data.npz", a=X, b=X + 1, y=Y)
    samples = opened("data.npz")
    assert set(samples.inputs) == {"a", "b"}
    assert np.array_equal(samples.inputs["b"], X + 1)
    assert np.array_equal(samples.labels, Y)
    assert (samples.name, samples.task) == ("data.npz", None)


def test_npz_without_labels(folder):
    np.savez("data.npz", x=X)
    assert opened(folder / "data.npz").labels is None


def test_built_in_sets_give_the_split_asked_for():
    assert [len(open_data("digits", split=split)) for split in ("calibration", "evaluation")] == [297, 500]
    assert opened("digits-ink").task == "segmentation"
    with pytest.raises(UsageError, match="'test'"):
        open_data("digits", split="test")


UNREADABLE = {
    "empty": (b"", "is no .npz file"),
    "text": (b"hello", r"is no .npz file; write one with np.savez\("),
    "cut zip": (b"PK\x03\x04" + bytes(40), "is no .npz file"),
}


@pytest.mark.parametrize(("content", "message"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_no_npz(folder, content, message):
    (folder / "data.npz").write_bytes(content)
    with pytest.raises(DataError, match=f"^data.npz: {message}"):
        opened("data.npz")


def test_object_arrays_are_never_unpickled(folder):
    class Canary:
        def __reduce__(self):
            return (folder.joinpath("canary").touch, ())

    np.savez("data.npz", x=np.array([Canary()], dtype=object))
    with pytest.raises(DataError, match="array 'x': cannot be read: Object arrays"):
        opened("data.npz")
    assert not (folder / "canary").exists()


def test_member_that_is_no_array(folder):
    np.savez("data.npz", x=X)
    with zipfile.ZipFile("data.npz", "a") as archive:
        archive.writestr("notes.txt", "hello")
    with pytest.raises(DataError, match=r"'notes\.txt'"):
        opened("data.npz")


def test_npz_with_nothing_but_labels(folder):
    np.savez("data.npz", y=Y)
    with pytest.raises(DataError, match="no input array"):
        opened("data.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_npz_is_read_or_refused(tmp_path, save):
    save(tmp_path / "whole.npz", x=X, y=Y)
    whole = (tmp_path / "whole.npz").read_bytes()
    damaged = tmp_path / "damaged.npz"

    @settings(max_examples=200, deadline=None)
    @given(changes=st.dictionaries(st.integers(0, len(whole) - 1), st.integers(0, 255), min_size=1, max_size=3))
    def check(changes):
        content = bytearray(whole)
        for place, value in changes.items():
            content[place] = value
        damaged.write_bytes(content)
        try:
            samples = opened(damaged)
        except DataError as error:
            assert str(error).startswith(str(damaged))  # noqa: PT017  # either outcome is right; any other error is not
        else:
            assert isinstance(samples, Samples)

    check()


def test_script_without_function(folder):
    (folder / "load.py").touch()
    with pytest.raises(DataError, match=r"load\.py:FUNCTION"):
        opened("load.py")


def test_unknown_source_lists_the_built_in_sets():
    with pytest.raises(DataError, match=r"^nothing\.npz: no such file.*digits, digits-ink"):
        opened("nothing.npz")


FUNCTIONS = {
    "dict": ("return {'x': x, 'y': y}", True),
    "dict without labels": ("return {'x': x}", False),
    "pair": ("return x, y", True),
    "pair without labels": ("return x, None", False),
    "array": ("return x", False),
    "lists": ("return x.tolist(), y.tolist()", True),
    "tensors": ("return torch.from_numpy(x), torch.from_numpy(y)", True),
    "samples": ("return Samples({'x': x}, y, 'mine')", True),
}
HEAD = "import numpy as np, torch\nfrom quant.data import Samples\nfrom neighbour import x, y\n"


@pytest.mark.parametrize(("body", "labelled"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_function_in_a_file(folder, body, labelled):
    (folder / "neighbour.py").write_text("import numpy as np\nx = np.ones((3, 2), np.float32)\ny = np.arange(3)\n")
    (folder / "load.py").write_text(f"{HEAD}def data():\n    {body}\n")
    samples = opened("load.py:data")
    assert np.array_equal(samples.inputs["x"], np.ones((3, 2)))
    assert (samples.labels is not None) == labelled
    assert samples.name == ("mine" if "mine" in body else "load.py:data")


FAILING = {
    "raises": ("raise KeyError('z')", "failed: KeyError: 'z'"),
    "exits": ("raise SystemExit(2)", "failed: SystemExit: 2"),
    "nothing": ("return None", "gave a NoneType"),
    "three": ("return 1, 2, 3", "gave a tuple"),
    "ragged": ("return {'x': [[1.0], [1.0, 2.0]]}", "array 'x': cannot be read"),
    "bad samples": ("return {'x': [1.0, float('nan')]}", "input 'x' holds NaN"),
}


@pytest.mark.parametrize(("body", "message"), FAILING.values(), ids=FAILING)
def test_what_a_function_does_wrong_is_named(folder, body, message):
    (folder / "load.py").write_text(f"def data():\n    {body}\n")
    with pytest.raises(DataError, match=f"^load.py:data: .*{message}"):
        opened("load.py:data")


def test_file_that_does_not_load(folder):
    (folder / "load.py").write_text("x = 1\nimport no_such_module\n")
    with pytest.raises(DataError, match=r"load.py, line 2: ModuleNotFoundError"):
        opened("load.py:data")


def test_function_imports_neighbours_as_it_is_called(folder):
    (folder / "late.py").write_text("x = [[1.0]]\n")
    (folder / "load.py").write_text("def data():\n    import late\n    return {'x': late.x}\n")
    assert len(opened("load.py:data")) == 1


def test_samples_are_passed_on():
    samples = Samples({"x": X}, Y, "mine")
    assert as_samples(samples, "other") is samples
