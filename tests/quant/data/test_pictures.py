"""Folders of pictures: labels, order, what is skipped and what is refused, and decoding ahead."""

import io
import threading

import numpy as np
import pytest
from PIL import Image

from profiler.errors import DataError, RefusedError, UsageError
from quant.data import Options, Samples, data_options, images, open_data

RECIPE = data_options(["resize=8x8", "scale=1"])
STRICT = data_options(["resize=8x8", "scale=1"], strict=True)


def save(path, shade=0, size=(12, 10), **arguments):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, shade, shade)).save(path, **arguments)


@pytest.fixture
def folder(tmp_path):
    """Two classes; the shade of a picture is its place in sorted order."""
    names = ["cat/a.png", "cat/b.PNG", "cat/deep/er/c.bmp", "dog/a.png", "dog/d.tif", "dog/z.webp"]
    for shade, name in enumerate(names):
        save(tmp_path / "set" / name, shade, **({"lossless": True} if name.endswith("webp") else {}))
    (tmp_path / "set" / ".hidden").mkdir()
    save(tmp_path / "set" / ".hidden" / "x.png")
    return tmp_path / "set"


def opened(source, options=RECIPE):
    return open_data(source, split="evaluation", options=options)


def shades(samples, size=4):
    return [int(x[0, 0, 0]) for batch in samples.batches(size) for x in batch.inputs["x"]]


def labels(samples, size=4):
    return [int(y) for batch in samples.batches(size) for y in batch.labels["y"]]


def test_labels_are_the_folders_in_sorted_order(folder):
    samples = opened(folder)
    assert (samples.task, len(samples)) == ("classification", 6)
    assert shades(samples) == [0, 1, 2, 3, 4, 5]
    assert samples.labels.tolist() == labels(samples) == [0, 0, 0, 1, 1, 1]
    assert "2 classes, numbered in the sorted order of their names: cat=0, dog=1" in " ".join(samples.notes)
    assert samples.notes[0] == f"{folder}: pictures prepared as given: {RECIPE.preprocessing[0].described()}"


def test_parts_are_read_when_asked_for(folder):
    samples = opened(folder)
    (folder / "cat" / "a.png").unlink()
    assert shades(samples.take([5, 1, 5])) == [5, 1, 5]
    left, right = samples.take(range(1, 6)).split(2, seed=3)
    assert sorted(shades(left) + shades(right)) == [1, 2, 3, 4, 5]


def test_nothing_said_about_preprocessing(folder):
    with pytest.raises(UsageError, match=r"how the model wants them is not known:\ngive --preprocess KEY=VALUE"):
        opened(folder, Options())


def test_the_zoo_of_the_model_is_asked(folder, monkeypatch):
    class Timm:
        class models:
            @staticmethod
            def get_pretrained_cfg(name):
                assert name == "net.tag"
                return type("", (), {"to_dict": lambda self: {"input_size": (3, 16, 16), "crop_pct": 1.0}})()

    monkeypatch.setattr("profiler.sources.named.package", lambda name, target: Timm)
    samples = opened(folder, Options(model="timm:net.tag"))
    assert samples.inputs["x"].shape == (6, 3, 16, 16)
    assert "prepared by timm:net.tag" in samples.notes[0]
    Timm.models.get_pretrained_cfg = staticmethod(lambda name: None)
    with pytest.raises(DataError, match="timm has no configuration of that name"):
        opened(folder, Options(model="timm:other"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "mouse\ndog\ncat\n\n"),
        ("names.txt", "\ufeffmouse\r\ndog\r\ncat\r\n"),
        ("map.json", '{"dog": 1, "cat": 2}'),
        ("list.json", '["mouse", "dog", "cat"]'),
        ("id2label.json", '{"0": "mouse", "1": "dog", "2": "cat"}'),
    ],
)
def test_numbers_of_classes_from_a_file(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8")
    found = name == "classes.txt"  # it is taken where it lies in the folder
    samples = opened(folder, RECIPE if found else data_options(RECIPE.preprocessing[0], classes=folder / name))
    assert samples.labels.tolist() == [2, 2, 2, 1, 1, 1]
    assert "numbered as given: cat=2, dog=1" in " ".join(samples.notes)


CLASSES = {
    "unknown": ("cat", r"the class 'dog' is not among the 1"),
    "twice": ("cat\ndog\ncat", "gives the name 'cat' 2 times"),
    "empty": ("\n", "names no class"),
    "binary": (b"\xff\xfe\x00", "cannot be read"),
}


@pytest.mark.parametrize(("text", "message"), CLASSES.values(), ids=CLASSES)
def test_files_of_classes_that_do_not_do(folder, text, message):
    (folder / "classes.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        opened(folder)


@pytest.mark.parametrize("text", ["[1]", "3", '{"a": -1}', '{"a": "b"}', "{", '{"a": 0, "b": 0}'])
def test_json_of_classes_that_does_not_do(folder, text):
    (folder / "c.json").write_text(text)
    with pytest.raises(DataError, match=r"c\.json"):
        opened(folder, data_options(RECIPE.preprocessing[0], classes=folder / "c.json"))


def test_pictures_without_folders_have_no_labels(folder):
    samples = opened(folder / "dog")
    assert samples.labels is None
    assert shades(samples) == [3, 4, 5]
    assert "samples without labels" in samples.notes[-1]


def test_pictures_beside_the_folders(folder):
    save(folder / "stray.png")
    with pytest.raises(DataError, match=r"1 pictures, such as stray\.png, lie beside the folders"):
        opened(folder)


def test_no_pictures(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match=r"no pictures in this folder \(endings read: \.avif"):
        opened(tmp_path)


def test_other_files_are_counted(folder):
    (folder / "cat" / "Thumbs.db").touch()
    (folder / "cat" / "README").touch()
    assert any("left out 2 files" in note and ".db (1)" in note for note in opened(folder).notes)


def test_one_picture_is_no_data(folder):
    with pytest.raises(DataError, match="is one picture; name the folder"):
        opened(folder / "cat" / "a.png")


def cut(path):
    path.write_bytes(path.read_bytes()[:50])


def lie(path):
    path.write_bytes(b"no picture at all")


def pdf(path):
    """A format that Pillow knows and hands to another program."""
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")


DAMAGE = {
    "cut short": (cut, "."),
    "no picture": (lie, "cannot identify image file 'cat/b.PNG'"),
    "empty": (lambda path: path.write_bytes(b""), "cannot identify"),
    "EPS": (pdf, "cannot identify"),
    "gone": (lambda path: path.unlink(), "No such file"),
    "sixteen bits": (lambda path: Image.fromarray(np.ones((4, 4), np.uint16)).save(path), "more than 8 bits"),
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("size", [1, 2, 6])
def test_one_that_cannot_be_read_is_skipped_and_named(folder, damage, reason, size):
    samples = opened(folder)
    damage(folder / "cat" / "b.PNG")
    assert samples.skipped == ()
    for _ in range(2):  # the second model gets the same samples
        assert shades(samples, size) == [0, 2, 3, 4, 5]
        assert labels(samples, size) == [0, 0, 1, 1, 1]
        assert [p for b in samples.batches(size) for p in b.positions] == [0, 2, 3, 4, 5]
    assert samples.read_labels().tolist() == [0, 0, 1, 1, 1]
    (named,) = samples.skipped
    assert named.startswith("cat/b.PNG: ")
    assert reason in named
    assert samples.remarks()[-1] == f"{folder}: skipped 1 of 6 samples: {named}"
    part = samples.take([4, 1, 0])
    assert (shades(part), part.skipped) == ([4, 0], (named,))
    assert samples.take([0]).remarks() == samples.notes
    with pytest.raises(DataError, match=r"cat/b\.PNG: "):
        _ = samples.inputs["x"][:]


def test_strict_stops(folder):
    lie(folder / "cat" / "b.PNG")
    with pytest.raises(DataError, match=r"cat/b\.PNG: .*leave --strict out"):
        list(opened(folder, STRICT).batches(2))


def test_more_than_a_few_unreadable_ones_are_an_error(folder):
    samples = opened(folder)
    for name in ("cat/a.png", "dog/a.png"):
        lie(folder / name)
    with pytest.raises(DataError, match=r"2 of 6 pictures cannot be read, .*cat/a\.png.*dog/a\.png"):
        list(samples.batches(3))


def test_nothing_can_be_read(folder):
    samples = opened(folder)
    lie(folder / "cat" / "a.png")
    with pytest.raises(DataError, match=r"none of the 1 samples can be read; the first: cat/a\.png"):
        list(samples.take([0]).batches(1))


def test_the_first_that_can_be_read(folder):
    samples = opened(folder)
    lie(folder / "cat" / "a.png")
    first = samples.first(3)
    assert first.positions.tolist() == [1, 2, 3]
    assert first.inputs["x"][:, 0, 0, 0].tolist() == [1, 2, 3]
    assert len(samples.first(99)) == 5


def test_sizes_that_differ_where_none_is_given(folder):
    save(folder / "cat" / "b.PNG", size=(12, 11))
    with pytest.raises(DataError, match=r"cat/b\.PNG becomes 3x11x12, others 3x10x12; give --preprocess resize="):
        list(opened(folder, data_options("scale=1")).batches(2))


def test_one_size_needs_no_resizing(folder):
    lie(folder / "cat" / "a.png")
    samples = opened(folder, data_options("scale=1"))
    assert samples.inputs["x"].shape == (6, 3, 10, 12)
    assert shades(samples) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("most", [30, 100])
def test_pillows_limit_is_an_error(folder, monkeypatch, most):
    """At more than the limit Pillow warns, at twice that it raises."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
    with pytest.raises(DataError, match=rf"cat/a\.png has more pixels than Pillow takes .*\({most}\)"):
        list(opened(folder, data_options(["crop=4"])).batches(2))


def test_links_that_lead_out(folder, tmp_path):
    save(tmp_path / "elsewhere" / "secret.png", 99)
    (folder / "cat" / "zz.png").symlink_to(tmp_path / "elsewhere" / "secret.png")
    with pytest.raises(RefusedError, match=r"zz\.png is a link that leads out .*--trust follows it"):
        opened(folder)
    trusted = Options(RECIPE.preprocessing, trust=True)
    assert shades(opened(folder, trusted)) == [0, 1, 2, 99, 3, 4, 5]


def test_links_to_folders(folder, tmp_path):
    save(tmp_path / "elsewhere" / "a.png", 99)
    (folder / "mouse").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RefusedError, match="leads out"):
        opened(folder)
    (folder / "mouse").unlink()
    (folder / "mouse").symlink_to(folder / "cat")
    with pytest.raises(RefusedError, match="is a link to a folder"):
        opened(folder)


def test_links_inside_are_followed(folder):
    (folder / "cat" / "zz.png").symlink_to(folder / "dog" / "a.png")
    assert shades(opened(folder)) == [0, 1, 2, 3, 3, 4, 5]


def test_a_link_that_is_made_later(folder, tmp_path):
    save(tmp_path / "secret.png", 99)
    samples = opened(folder)
    (folder / "cat" / "a.png").unlink()
    (folder / "cat" / "a.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(RefusedError, match="leads out"):
        list(samples.batches(2))


def test_the_folder_itself_may_be_a_link(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    assert shades(opened(tmp_path / "link")) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("threads", [1, 7])
def test_decoding_ahead_is_bounded_and_in_order(tmp_path, monkeypatch, threads):
    for shade in range(60):
        save(tmp_path / "a" / f"{shade:03}.png", shade)
    monkeypatch.setattr(images, "_MOST_THREADS", threads)
    monkeypatch.setattr(images, "_AHEAD_BYTES", 3 * 8 * 8 * 3 * 4)  # three pictures
    samples = opened(tmp_path)
    pictures = samples.inputs["x"]
    begun, lock, plain = [], threading.Lock(), pictures._decoded

    def counted(picture):
        with lock:
            begun.append(1)
        return plain(picture)

    monkeypatch.setattr(pictures, "_decoded", counted)
    used = 0
    for batch in samples.batches(5):
        used += len(batch)
        assert len(begun) <= used + threads + 3
        assert batch.inputs["x"][:, 0, 0, 0].tolist() == list(range(used - len(batch), used))
    assert used == 60


def test_leaving_early_ends_the_threads(folder):
    batches = opened(folder).batches(1)
    next(batches)
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


def test_values_do_not_depend_on_the_batch(tmp_path):
    generator = np.random.default_rng(0)
    for i in range(9):
        (tmp_path / "a").mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (20 + i, 30, 3), np.uint8)).save(tmp_path / "a" / f"{i}.jpg")
    samples = opened(tmp_path, data_options(["resize=9", "crop=7"]))
    whole = np.concatenate([b.inputs["x"] for b in samples.batches(9)])
    for size in (1, 2, 4):
        assert np.array_equal(whole, np.concatenate([b.inputs["x"] for b in samples.batches(size)]))
    assert np.array_equal(whole[[8, 0, 3]], samples.take([8, 0, 3]).inputs["x"][:])


def test_arrays_are_not_prepared(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones((2, 3)))
    assert "--preprocess is for pictures" in opened(tmp_path / "a.npz").notes[0]
    assert isinstance(opened(tmp_path / "a.npz", Options()), Samples)


def test_without_pillow(folder, monkeypatch):
    import sys

    from profiler.errors import UnavailableError

    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UnavailableError, match=r"pip install 'netgauge\[images\]'"):
        opened(folder)


def test_progress_while_a_large_folder_is_listed(folder, monkeypatch):
    monkeypatch.setattr("quant.data.folders._EVERY", 2)
    said = []
    opened(folder, Options(RECIPE.preprocessing, progress=lambda stage, part: said.append(stage)))
    assert said == [f"listing {folder}"] * 3


def test_pictures_with_odd_metadata_do_not_print(folder, recwarn):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "tiff")
    data = bytearray(buffer.getvalue())
    (folder / "cat" / "b.PNG").write_bytes(data[:-1])
    list(opened(folder).batches(3))
    assert not recwarn.list
