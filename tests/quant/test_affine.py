"""The integer grid, against the formula written out with Python's exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.affine import Range, activation_grid, dequantize, quantize

finite = st.floats(-1e6, 1e6, width=32)


def exact(x, scale, zero_point, low, high):
    """clip(round(x / scale) + zero_point); Python rounds fractions half to even."""
    return min(max(round(Fraction(x) / Fraction(scale)) + zero_point, low), high)


@pytest.mark.parametrize(
    ("x", "q"),
    [(0.25, 128), (0.75, 130), (1.25, 130), (-0.25, 128), (-0.75, 126), (1e9, 255), (-1e9, 0), (0.0, 128)],
)
def test_rounds_half_to_even_and_clips(x, q):
    assert quantize(np.float32([x]), 0.5, 128, np.uint8) == q


@given(st.lists(st.integers(-2000, 2000), min_size=1), st.sampled_from([0.25, 0.5, 2.0, 8.0]), st.integers(0, 255))
def test_quantize_is_the_formula(quarters, scale, zero_point):
    x = np.float32(quarters) / 4  # exact in float32, and so is the division by a power of two
    expected = [exact(float(v), scale, zero_point, 0, 255) for v in x]
    assert quantize(x, np.float32(scale), zero_point, np.uint8).tolist() == expected


def test_one_scale_per_channel():
    x = np.float32([[1, 2], [10, 20]])
    q = quantize(x, np.float32([1, 10]), [0, 5], np.int8, axis=0)
    assert q.tolist() == [[1, 2], [6, 7]]
    assert dequantize(q, np.float32([1, 10]), [0, 5], axis=0).tolist() == x.tolist()


@given(finite, finite)
def test_a_grid_covers_its_range_and_holds_zero(a, b):
    values = Range.around(min(a, b), max(a, b))
    grid = activation_grid(values)
    assert 0 <= grid.zero_point <= 255
    slack = grid.scale * (0.5 + 1e-3)  # the zero point is rounded to an integer
    assert grid.range.low <= values.low + slack
    assert grid.range.high >= values.high - slack
    assert dequantize(np.uint8([grid.zero_point]), grid.scale, grid.zero_point) == 0


@given(finite, finite, st.floats(0, 1), st.data())
def test_round_trip_is_within_half_a_step(a, b, fraction, data):
    values = Range.around(min(a, b), max(a, b))
    grid = activation_grid(values)
    x = np.float32(values.low + fraction * (values.high - values.low))
    inside = np.clip(x, np.float32(grid.range.low), np.float32(grid.range.high))
    integers = quantize(np.float32([inside]), grid.scale, grid.zero_point, np.uint8)
    back = dequantize(integers, grid.scale, grid.zero_point)
    assert abs(float(back[0]) - float(inside)) <= grid.scale * 0.501


@given(st.floats(-100, 0), st.floats(0.01, 100), st.floats(-50, 0), st.floats(0.01, 50))
def test_limits_are_never_exceeded_and_cost_at_most_two_steps(low, high, least, most):
    grid = activation_grid(Range(low, high), Range(least, most))
    low, high = max(low, least), min(high, most)
    step = (high - low) / 255
    assert low * (1 + 1e-6) <= grid.range.low <= low + 2.01 * step
    assert high - 2.01 * step <= grid.range.high <= high * (1 + 1e-6)


@pytest.mark.parametrize(
    ("values", "scale", "zero_point"),
    [
        (Range(0.0, 0.0), 1.0, 0),
        (Range(0.0, 255.0), 1.0, 0),
        (Range(-255.0, 0.0), 1.0, 255),
        (Range(-128.0, 127.0), 1.0, 128),
    ],
)
def test_known_grids(values, scale, zero_point):
    grid = activation_grid(values)
    assert (grid.scale, grid.zero_point) == (scale, zero_point)


def test_the_smallest_range_has_a_normal_scale():
    grid = activation_grid(Range(0.0, 1e-44))
    assert np.isfinite(np.float32(1) / np.float32(grid.scale))
