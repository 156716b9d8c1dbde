"""Ranges, against NumPy on the whole of the data at once."""

import weakref

import numpy as np
import pytest

from profiler.errors import DataError, UsageError
from quant.calibrate import METHODS, observe


@pytest.fixture
def model(bench):
    nodes = ("Sin", "x", "a"), ("Relu", "x", "b"), ("Add", "a b", "y")
    return bench.prepared(*nodes, x=("N", 4))


@pytest.fixture
def batches(rng):
    return [size * rng.standard_normal((rows, 4)).astype(np.float32) for size, rows in ((1, 5), (3, 2), (0.5, 7))]


def feeds(batches):
    return lambda: [{"x": batch} for batch in batches]


def test_minmax(model, batches):
    ranges = observe(model, feeds(batches), ("x", "a", "b", "y"))
    x = np.concatenate(batches)
    for name, values in {"x": x, "a": np.sin(x), "b": np.maximum(x, 0), "y": np.sin(x) + np.maximum(x, 0)}.items():
        assert ranges[name].low == pytest.approx(min(values.min(), 0), abs=1e-6)
        assert ranges[name].high == pytest.approx(max(values.max(), 0), abs=1e-6)


def test_mean_minmax(model, batches):
    ranges = observe(model, feeds(batches), ("x",), method="mean-minmax")
    assert ranges["x"].low == pytest.approx(np.mean([batch.min() for batch in batches]))
    assert ranges["x"].high == pytest.approx(np.mean([batch.max() for batch in batches]))


def test_mse_is_no_worse_than_minmax_on_the_data(model, rng):
    x = np.append(rng.uniform(-1, 1, 799_999), 2.0).astype(np.float32).reshape(-1, 4)

    def error(values):
        scale = (values.high - values.low) / 255
        zero = round(-values.low / scale)
        integers = np.clip(np.rint(x / scale) + zero, 0, 255)
        return np.square((integers - zero) * scale - x).mean()

    wide, found = (observe(model, feeds([x[:99], x[99:]]), ("x",), method=method)["x"] for method in ("minmax", "mse"))
    assert error(found) < 0.7 * error(wide)
    brute = min(
        error(type(wide)(wide.low * a, wide.high * b)) for a in (0.8, 0.9, 1.0) for b in np.arange(0.3, 1.01, 0.1)
    )
    assert error(found) < 1.05 * brute


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, 2.5, -2.5])
def test_constant_tensors_have_a_range(model, method, value):
    found = observe(model, feeds([np.full((3, 4), value, np.float32)]), ("x",), method=method)["x"]
    assert (found.low, found.high) == (min(value, 0), max(value, 0))


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_values_that_no_grid_holds(model, value, word):
    good, bad = np.ones((2, 4), np.float32), np.ones((2, 4), np.float32)
    bad[1, 2] = value
    with pytest.raises(DataError, match=f"batch 2 gives {word}.*'x'"):
        observe(model, feeds([good, bad]), ("x",))


def test_no_batches(model):
    with pytest.raises(DataError, match="no calibration batches"):
        observe(model, list, ("x",))


def test_unknown_method(model):
    with pytest.raises(UsageError, match="minmax"):
        observe(model, list, ("x",), method="median")


def test_nothing_to_observe(model):
    assert observe(model, list, ()) == {}


def test_batches_are_not_kept(model, batches):
    """Each is gone before the next is asked for."""
    alive = []

    def stream():
        for batch in batches:
            made = batch.copy()
            alive.append(weakref.ref(made))
            assert sum(batch() is not None for batch in alive) <= 2
            yield {"x": made}
            del made

    observe(model, stream, ("x", "a"), method="mse")
