"""Hinge, focal and Dice losses against scikit-learn, torch, brute force and finite differences."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from sklearn import metrics as reference

from profiler.errors import DataError, UsageError
from quant.metrics.losses import LOSSES, focal, overlap

SEEDS = st.integers(0, 10_000)


@settings(max_examples=12)
@given(SEEDS, st.integers(0, 20))
def test_hinge_equals_scikit_learns(loss, seed, n):
    r = np.random.default_rng(seed)
    s, y = np.round(r.normal(0, 2, n + 2), 1), np.append([-1, 1], r.choice([-1, 1], n))  # it cannot have one class only
    expected = reference.hinge_loss(y, s, labels=[-1, 1])
    assert loss("hinge", s, y, sizes=(3,)) == pytest.approx(expected)
    assert loss("hinge", s[:, None], (y + 1) // 2, negative=0) == pytest.approx(expected)


def test_squared_hinge_and_margins(loss):
    s, y = np.array([0.5, -2.0, 3.0]), np.array([1, 1, -1])
    assert loss("hinge", s, y, squared=True) == pytest.approx((0.25 + 9 + 16) / 3)
    assert loss("hinge", s, y, margin=2.0) == pytest.approx((1.5 + 4 + 5) / 3)


@settings(max_examples=12)
@given(SEEDS, st.integers(2, 6))
def test_multiclass_hinge_equals_its_references(loss, seed, classes):
    r = np.random.default_rng(seed)
    s, y = np.round(r.normal(0, 1, (12, classes)), 1), r.integers(0, classes, 12)
    if classes > 2:
        expected = reference.hinge_loss(y, s, labels=range(classes))
        assert loss("multiclass_hinge", s, y, sizes=(5,)) == pytest.approx(expected)
    summed = np.mean(
        [
            sum(max(0, 1 - row[k] + row[j]) for j in range(classes) if j != k) / classes
            for row, k in zip(s, y, strict=True)
        ]
    )
    assert loss("multiclass_hinge", s, y, form="weston-watkins") == pytest.approx(summed)


def test_multiclass_hinge_of_maps(loss, rng):
    s, y = rng.normal(size=(3, 4, 2, 2)), rng.integers(0, 4, (3, 2, 2))
    expected = reference.hinge_loss(y.reshape(-1), np.moveaxis(s, 1, -1).reshape(-1, 4), labels=range(4))
    assert loss("multiclass_hinge", s, y) == pytest.approx(expected)


def test_hinge_says_which_labels(loss):
    with pytest.raises(DataError, match=r"sample 1 has the label 0; -1 and 1 are wanted.\s+hinge:negative=0"):
        loss("hinge", np.zeros(3), np.array([1, 0, 1]))
    with pytest.raises(DataError, match="sample 0 has the label -1; 0 and 1"):
        loss("hinge", np.zeros(3), np.array([-1, 0, 1]), negative=0)
    with pytest.raises(UsageError, match="negative=2"):
        LOSSES["hinge"].build(negative=2)
    with pytest.raises(UsageError, match="crammer-singer, weston-watkins"):
        LOSSES["multiclass_hinge"].build(form="other")


def focal_by_hand(p_t, gamma, alpha_t=1.0):
    return -alpha_t * (1 - p_t) ** gamma * np.log(p_t)


@settings(max_examples=12)
@given(SEEDS, st.sampled_from([0.0, 0.5, 2.0, 5.0]), st.sampled_from([None, 0.25, 1.0]))
def test_binary_focal_equals_its_formula(loss, seed, gamma, alpha):
    r = np.random.default_rng(seed)
    z, y = r.normal(0, 3, (10, 2)), r.integers(0, 2, (10, 2))
    p = special.expit(z)
    p_t = np.where(y == 1, p, 1 - p)
    alpha_t = 1.0 if alpha is None else np.where(y == 1, alpha, 1 - alpha)
    options = {} if alpha is None else {"alpha": str(alpha)}
    expected = focal_by_hand(p_t, gamma, alpha_t).mean()
    assert loss("focal", z, y, gamma=gamma, sizes=(4,), **options) == pytest.approx(expected, rel=1e-6)
    assert loss("focal", p, y, gamma=gamma, from_logits=False, **options) == pytest.approx(expected, rel=1e-6)


def test_focal_of_classes_equals_its_formula(loss, rng):
    z, y = rng.normal(0, 3, (9, 4)), rng.integers(0, 4, 9)
    p_t = special.softmax(z, axis=1)[np.arange(9), y]
    alphas = np.array([0.1, 0.2, 0.3, 0.4])
    assert loss("focal", z, y) == pytest.approx(focal_by_hand(p_t, 2).mean())
    found = loss("focal", z, y, alpha="0.1,0.2,0.3,0.4", sizes=(2,))
    assert found == pytest.approx(focal_by_hand(p_t, 2, alphas[y]).mean())
    assert loss("focal", z, y, gamma=0.0) == pytest.approx(loss("ce", z, y))


def test_focal_of_maps(loss, rng):
    z, y = rng.normal(0, 3, (3, 4, 2, 2)), rng.integers(0, 4, (3, 2, 2))
    flat, labels = np.moveaxis(z, 1, -1).reshape(-1, 4), y.reshape(-1)
    assert loss("focal", z, y) == pytest.approx(loss("focal", flat, labels))
    for name in ("focal_effective_samples", "focal_weight_entropy"):
        assert loss(name, z, y) == pytest.approx(loss(name, flat, labels))


def test_focal_of_extreme_logits(loss):
    z = np.array([1e-20, 50.0, -50.0, 1e30, -1e30])
    for name in ("focal", "focal_effective_samples", "focal_weight_entropy"):
        for y in (0, 1):
            assert np.isfinite(loss(name, z, np.full(5, y)))
    with mpmath.workdps(60):
        p = 1 / (1 + mpmath.exp(-mpmath.mpf(50)))
        exact = float(-((1 - p) ** 2) * mpmath.log(p))
    assert loss("focal", z[1:2], np.array([1])) == pytest.approx(exact, rel=1e-12)


@settings(max_examples=12)
@given(SEEDS, st.sampled_from([0.0, 1.0, 2.0, 5.0]))
def test_effective_samples_and_entropy_equal_their_formulas(loss, seed, gamma):
    r = np.random.default_rng(seed)
    z, y = r.normal(0, 3, 15), r.integers(0, 2, 15)
    p = special.expit(z)
    w = (1 - np.where(y == 1, p, 1 - p)) ** gamma
    assert loss("focal_effective_samples", z, y, gamma=gamma, sizes=(4,)) == pytest.approx(w.sum())
    entropy = stats.entropy(w)
    assert loss("focal_weight_entropy", z, y, gamma=gamma, sizes=(4,)) == pytest.approx(entropy, abs=1e-9)


def test_weights_that_are_all_zero_have_no_entropy(loss):
    assert loss("focal_weight_entropy", np.full(3, 1e30), np.ones(3, int)) == 0
    assert loss("focal_effective_samples", np.full(3, 1e30), np.ones(3, int)) == 0


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 5.0])
def test_the_focal_gradient_is_that_of_differences(gamma):
    z, step = np.linspace(-4, 6, 41), 1e-5

    def log_p(logit):
        return -np.logaddexp(0, -logit)

    differences = (focal.focal(log_p(z + step), gamma) - focal.focal(log_p(z - step), gamma)) / (2 * step)
    assert focal.focal_gradient(log_p(z), gamma) == pytest.approx(differences, rel=1e-6, abs=1e-9)


def test_focal_refuses(loss):
    with pytest.raises(DataError, match="sample 1 has the label 2"):
        loss("focal", np.zeros(2), np.array([0, 2]))
    with pytest.raises(DataError, match="2 alphas for 3 classes"):
        loss("focal", np.zeros((2, 3)), np.array([0, 2]), alpha="0.1,0.9")
    for wrong in ({"gamma": -1.0}, {"alpha": "2"}, {"alpha": "x"}):
        with pytest.raises(UsageError):
            LOSSES["focal"].build(**wrong)


@settings(max_examples=12)
@given(SEEDS, st.sampled_from([0.0, 1.0]))
def test_dice_of_hard_maps_is_a_function_of_iou(loss, seed, smooth):
    r = np.random.default_rng(seed)
    p, y = r.integers(0, 2, (4, 3, 3)), r.integers(0, 2, (4, 3, 3))
    found = loss("dice_loss", p, y, from_logits=False, smooth=smooth, sizes=(3,))
    each = []
    for a, b in zip(p.reshape(4, -1), y.reshape(4, -1), strict=True):
        both, either = (a & b).sum(), (a | b).sum()
        iou = both / either if either else 1.0
        each.append(1 - 2 * iou / (1 + iou) if smooth == 0 else 1 - (2 * both + 1) / (a.sum() + b.sum() + 1))
    assert found == pytest.approx(np.mean(each))


def test_dice_of_classes(loss, rng):
    z, y = rng.normal(size=(2, 3, 4, 4)), rng.integers(0, 3, (2, 4, 4))
    p = special.softmax(z, axis=1)
    each = [
        1 - (2 * p[i, c][y[i] == c].sum() + 1) / (p[i, c].sum() + (y[i] == c).sum() + 1)
        for i in range(2)
        for c in range(3)
    ]
    assert loss("dice_loss", z, y) == pytest.approx(np.mean(each))
    for options in ({}, {"from_logits": False}):
        assert loss("dice_loss", p, y, **options) == pytest.approx(np.mean(each))
    binary, truth = rng.normal(size=(2, 1, 4, 4)), rng.integers(0, 2, (2, 4, 4))
    flat = special.expit(binary).reshape(2, -1)
    assert loss("dice_loss", binary, truth) == pytest.approx(overlap.dice_loss(flat, truth.reshape(2, -1)).mean())


@pytest.mark.parametrize("classes", [1, 3])
def test_dice_leaves_positions_out(loss, rng, classes):
    """As if they were not there."""
    z, y = rng.normal(size=(3, classes, 6)), rng.integers(0, max(classes, 2), (3, 6))
    expected = loss("dice_loss", z[:, :, :4], y[:, :4])
    y[:, 4:] = 255
    assert loss("dice_loss", z, y, ignore="255") == pytest.approx(expected)
    more, nothing = np.concatenate([z, z[:1]]), np.concatenate([y, np.full((1, 6), 255)])
    assert loss("dice_loss", more, nothing, ignore=255) == pytest.approx(expected)
    assert loss("dice_loss", more, nothing) == pytest.approx(expected)
    with pytest.raises(DataError, match=r"sample 0 has the label 255; .* ignore=N leaves one label out"):
        loss("dice_loss", z, y, ignore=7)
    with pytest.raises(UsageError, match="one whole number is wanted"):
        LOSSES["dice_loss"].build(ignore="1.5")
