"""Scales of weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quant.correct.weights import WEIGHT_SCALES, max_scale, mse_scale, round_weight

weights = hnp.arrays(np.float32, (4, 3, 2), elements=st.floats(-100, 100, width=32))


def squared_error(weight, scale, axis):
    """Channel by channel, in float64 and with Python's own rounding."""
    errors = []
    for channel, step in zip(np.moveaxis(weight, axis, 0), scale, strict=True):
        rounded = [max(-127, min(127, round(float(np.float32(w / step))))) * float(step) for w in channel.ravel()]
        errors.append(sum((float(w) - r) ** 2 for w, r in zip(channel.ravel(), rounded, strict=True)))
    return np.array(errors)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_max_scale_uses_the_whole_range_of_each_channel(rng, axis):
    weight = rng.standard_normal((4, 3, 2)).astype(np.float32)
    scale = max_scale(weight, axis)
    integers = round_weight(weight, scale, axis)
    assert scale.shape == (weight.shape[axis],)
    assert (np.abs(np.moveaxis(integers, axis, 0).reshape(len(scale), -1)).max(axis=1) == 127).all()


def test_one_scale_for_all(rng):
    weight = rng.standard_normal((4, 3)).astype(np.float32)
    assert max_scale(weight, None) == pytest.approx([np.abs(weight).max() / 127])


@pytest.mark.parametrize("scale", WEIGHT_SCALES.values())
def test_a_channel_of_zeros_gets_scale_one(scale):
    weight = np.float32([[0, 0], [1, -2]])
    assert scale(weight, 0)[0] == 1
    assert round_weight(weight, scale(weight, 0), 0)[0].tolist() == [0, 0]


@given(weights)
def test_the_searched_scale_is_never_worse(weight):
    full, searched = (squared_error(weight, scale(weight, 0), 0) for scale in (max_scale, mse_scale))
    assert (searched <= full * (1 + 1e-5) + 1e-12).all()


def test_the_searched_scale_clips_a_lone_outlier(rng):
    weight = np.append(rng.uniform(-1, 1, 50_000), 1.8).astype(np.float32)[None]
    scale = mse_scale(weight, 0)
    assert scale < 0.9 * max_scale(weight, 0)
    assert squared_error(weight, scale, 0) < 0.9 * squared_error(weight, max_scale(weight, 0), 0)


@given(weights)
def test_rounding_stays_symmetric(weight):
    integers = round_weight(weight, max_scale(weight, 0), 0)
    assert integers.dtype == np.int8
    assert integers.min() >= -127
    assert (round_weight(-weight, max_scale(weight, 0), 0) == -integers).all()
