"""Data that do not fit the model, and data through the whole of `evaluate`, `compare` and `quantize`."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from profiler.errors import DataError
from quant import data_options, evaluate, open_data, quantize
from quant.data import npz
from quant.data.checks import layout_problem
from quant.graph import to_bytes
from quant.inference import feeds
from quant.runtime import open_session

LAYOUTS = {
    "fits": ((9, 3, 8, 8), ("N", 3, 8, 8), None),
    "free": ((9, 5, 7), ("N", None, "T"), None),
    "not said": ((9, 5), (), None),
    "NHWC": (
        (9, 8, 6, 3),
        ("N", 3, 8, 6),
        r"has 8 along axis 1, where the model takes 3 \(3x8x6 a sample\): it looks like NHWC",
    ),
    "NCHW": (
        (9, 3, 8, 6),
        ("N", 8, 6, 3),
        "has 3 along axis 1, where the model takes 8 .*looks like NCHW.*layout=NHWC",
    ),
    "NHWC, free sides": (
        (9, 8, 6, 3),
        ("N", 3, None, None),
        r"takes 3 \(3x\?x\? a sample\): .*transpose\(0, 3, 1, 2\)",
    ),
    "a side": ((9, 3, 8, 7), ("N", 3, 8, 8), r"has 7 along axis 3, where the model takes 8 \(3x8x8 a sample\)$"),
    "no channel": ((9, 8, 8), ("N", 1, 8, 8), "has 3 axes, 8x8 for each sample; the model takes 4, 1x8x8 for each"),
    "scalars": ((9,), ("N", 4), "has 1 axes, one number for each sample; the model takes 2, 4 for each"),
}


@pytest.mark.parametrize(("shape", "wanted", "message"), LAYOUTS.values(), ids=LAYOUTS)
def test_layouts(shape, wanted, message):
    found = layout_problem(shape, wanted)
    if message is None:
        assert found is None
    else:
        with pytest.raises(DataError, match=message):
            raise DataError(found)


@given(st.lists(st.integers(1, 9), min_size=3, max_size=3))
def test_a_transposed_layout_is_told(sizes):
    channels, height, width = sizes
    found = layout_problem((5, height, width, channels), ("N", channels, height, width))
    assert (found is None) == ((channels, height, width) == (height, width, channels))
    assert found is None or "NHWC" in found


@pytest.fixture
def models(build):
    def model(scale):
        weights = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32) * np.float32(scale)
        return to_bytes(
            build(
                ("GlobalAveragePool", "x", "p"),
                ("Flatten", "p", "f"),
                ("Gemm", "f w", "y", {"transB": 1}),
                constants={"w": weights},
                x=("N", 3, 8, 8),
            )
        )

    return model(1.0), model(-1.0)


def test_a_wrong_layout_is_said_before_anything_runs(models):
    session = open_session(models[0])
    with pytest.raises(DataError, match=r"^the data given: input 'x' has 8 along axis 1.*NHWC"):
        evaluate(session, session, np.ones((4, 8, 8, 3), np.float32))


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    for number in range(20):
        path = tmp_path / "set" / f"class{number % 2}" / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (9, 11, 3), np.uint8)).save(path)
    (tmp_path / "set" / "class1" / "07.png").write_bytes(b"no picture")
    return tmp_path / "set"


OPTIONS = data_options(["resize=8", "crop=8", "mean=0.5"])


def test_both_models_see_the_same_pictures(models, folder):
    found = evaluate(*models, folder, options=OPTIONS)
    metric = found.metrics["accuracy"]
    assert metric.n == 19
    assert metric.float + metric.int8 == pytest.approx(1)  # the second model names the other class
    expected = []
    for path in sorted(folder.rglob("*.png")):
        if path.name != "07.png":
            pixels = OPTIONS.preprocessing[0].apply(Image.open(path))
            scores = open_session(models[0]).run({"x": pixels[None]})[0][0]
            expected.append(scores.argmax() == int(path.parent.name[-1]))
    assert metric.float == pytest.approx(np.mean(expected))
    assert any("skipped 1 of 20 samples: class1/07.png: cannot identify" in note for note in found.notes)


def test_classes_that_were_counted_here_are_the_models(models, folder, tmp_path):
    (folder / "class2").mkdir()
    (folder / "class0" / "00.png").rename(folder / "class2" / "00.png")
    with pytest.raises(
        DataError, match="has 3 classes, numbered in the order of their names, and the model tells 2 apart"
    ):
        evaluate(*models, folder, options=OPTIONS)
    with pytest.raises(DataError, match=r"3 classes, .* give --classes FILE"):
        quantize_pictures(tmp_path, models[0], folder)
    (folder / "classes.txt").write_text("class0\nclass1\nclass2\n")
    with pytest.raises(DataError, match=r"label|class"):  # of the metrics: a class that the model does not know
        evaluate(*models, folder, options=OPTIONS)
    (folder / "class2" / "00.png").rename(folder / "class0" / "00.png")
    assert evaluate(*models, folder, options=OPTIONS).metrics["accuracy"].n == 19


def quantize_pictures(tmp_path, model, folder):
    path = tmp_path / "model.onnx"
    path.write_bytes(model)
    return quantize(path, folder, folder, options=OPTIONS, seconds=0.2)


def test_quantizing_on_pictures(build, folder, tmp_path, rng):
    weights = {"w": rng.normal(size=(8, 3, 3, 3)).astype(np.float32), "v": rng.normal(size=(2, 8)).astype(np.float32)}
    nodes = [("Conv", "x w", "c"), ("Relu", "c", "r"), ("GlobalAveragePool", "r", "p"), ("Flatten", "p", "f")]
    model = build(*nodes, ("Gemm", "f v", "y", {"transB": 1}), constants=weights)
    path = tmp_path / "net.onnx"
    path.write_bytes(to_bytes(model))
    said = []
    result = quantize(
        path, folder, folder, options=OPTIONS, seconds=0.2, progress=lambda stage, part: said.append((stage, part))
    )
    assert result.metrics["accuracy"].n == 19
    assert sum("skipped 1 of 20" in note for note in result.notes) == 1
    assert sum("pictures prepared as given: resize=shorter:8" in note for note in result.notes) == 1
    assert any(stage == "calibrate" and part for stage, part in said)


def test_memory_is_that_of_a_batch(tmp_path, models, monkeypatch):
    monkeypatch.setattr(npz, "SMALL", 1 << 20)
    monkeypatch.setattr("quant.data.columns.SMALL", 1 << 20)
    x = np.random.default_rng(0).random((40_000, 3, 8, 8), dtype=np.float32)  # 30 MB
    np.savez(tmp_path / "data.npz", x=x, y=np.zeros(len(x), np.int64))
    del x
    tracemalloc.start()
    try:
        evaluate(*models, tmp_path / "data.npz", metrics=("accuracy",))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12e6


def test_a_fixed_batch_is_filled_where_a_picture_is_missing(build, folder):
    model = build(("Identity", "x", "y"), x=(4, 3, 8, 8))
    session = open_session(to_bytes(model))
    samples = open_data(folder, split="evaluation", options=OPTIONS)
    counts = [count for feed, count in feeds(session, samples) if len(feed["x"]) == 4]
    assert sum(counts) == 19
    assert counts.count(4) == 4
