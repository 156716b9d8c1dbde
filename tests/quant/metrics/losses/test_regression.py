"""Losses of numbers against their formulas and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics as reference

from profiler.errors import DataError, UsageError
from quant.metrics.losses import regression

NUMBERS = st.floats(-1e6, 1e6, width=32)
PAIRS = arrays.array_shapes(min_dims=1, max_dims=3, max_side=5).flatmap(
    lambda shape: st.tuples(*[arrays.arrays(np.float32, shape, elements=NUMBERS)] * 2)
)


def by_hand(name, error, at=1.0):
    """The formulas, one number at a time."""
    size = abs(error)
    return {
        "mse": size * size,
        "mae": size,
        "huber": size * size / 2 if size <= at else at * (size - at / 2),
        "smooth_l1": size if at == 0 else size * size / (2 * at) if size < at else size - at / 2,
    }[name]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("mse", {}),
        ("mae", {}),
        ("huber", {}),
        ("huber", {"delta": 0.25}),
        ("smooth_l1", {}),
        ("smooth_l1", {"beta": 3.0}),
        ("smooth_l1", {"beta": 0.0}),
    ],
)
@settings(max_examples=12)
@given(pair=PAIRS)
def test_element_by_element(loss, name, parameters, pair):
    output, target = (x.astype(float) for x in pair)
    errors = (output - target).reshape(-1)
    expected = np.mean([by_hand(name, e, *parameters.values()) for e in errors])
    assert loss(name, *pair, sizes=(2,), **parameters) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@settings(max_examples=12)
@given(pair=PAIRS)
def test_roots_and_determination_equal_scikit_learns(loss, pair):
    output, target = (x.reshape(len(x), -1).astype(float) for x in pair)
    squared = reference.mean_squared_error(target.reshape(-1), output.reshape(-1))
    assert loss("rmse", *pair, sizes=(2,)) == pytest.approx(np.sqrt(squared), rel=1e-9)
    expected = reference.root_mean_squared_error(target, output)
    assert loss("rmse", *pair, sizes=(3, 1), multioutput="uniform_average") == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("average", ["uniform_average", "variance_weighted"])
def test_determination_equals_scikit_learns(loss, rng, average):
    target = rng.normal(size=(30, 3)) * [1, 10, 1000] + [0, 1e6, -5]
    for output in (target, target + rng.normal(size=(30, 3)), np.zeros((30, 3))):
        expected = reference.r2_score(target, output, multioutput=average)
        assert loss("r2", output, target, multioutput=average, sizes=(7,)) == pytest.approx(expected, rel=1e-9)
    flat = np.full((5, 3), 0.1)
    for output in (flat, flat + 1):
        expected = reference.r2_score(flat, output, multioutput=average)
        assert loss("r2", output, flat, multioutput=average) == pytest.approx(expected)


def test_the_determination_of_a_resample_is_that_of_the_samples_drawn(loss, rng):
    target, output = rng.normal(size=(2, 20, 2)) + 100
    metric = regression.FAMILIES["r2"].build()
    records = loss.records(metric, output, target)
    drawn = rng.integers(0, 20, (50, 20))
    weights = np.stack([np.bincount(row, minlength=20) for row in drawn]).astype(float)
    expected = [reference.r2_score(target[row], output[row]) for row in drawn]
    assert metric.resampled(records, weights) == pytest.approx(np.array(expected))


def test_one_output_per_sample_needs_no_axis_of_its_own(loss):
    assert loss("mse", np.array([[1.0], [2.0]]), np.array([0.0, 0.0])) == pytest.approx(2.5)


def test_the_first_models_outputs_can_be_the_target(loss, rng):
    a, b = rng.normal(size=(2, 6, 4)).astype(np.float32)
    assert loss("mae", b, reference=a, target="reference") == pytest.approx(np.abs(a - b).mean(), rel=1e-6)
    assert regression.FAMILIES["mae"].build(target="reference").needs == ()


@pytest.mark.parametrize("name", ["mse", "mae", "rmse", "huber", "smooth_l1", "r2"])
def test_sizes_never_broadcast(loss, name):
    with pytest.raises(DataError, match=r"\(4, 3\).*labels \(4,\)"):
        loss(name, np.zeros((4, 3)), np.zeros(4))
    with pytest.raises(DataError, match="sample 2"):
        loss(name, np.zeros(4), np.array([0, 0, np.nan, 0]))


def test_parameters_out_of_range(loss):
    with pytest.raises(UsageError, match="delta=0"):
        regression.FAMILIES["huber"].build(delta=0.0)
    with pytest.raises(UsageError, match="beta=-1"):
        regression.FAMILIES["smooth_l1"].build(beta=-1.0)
    with pytest.raises(DataError, match="1000 numbers per sample"):
        loss("r2", np.zeros((2, 1001)), np.zeros((2, 1001)))
