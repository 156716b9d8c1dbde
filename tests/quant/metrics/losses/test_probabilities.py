"""Cross-entropies and divergences against mpmath, scikit-learn, scipy and torch."""

import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from sklearn import metrics as reference

from profiler.errors import DataError, UsageError
from quant.metrics.losses import LOSSES, cross_entropy, probabilistic

SEEDS = st.integers(0, 10_000)
EXTREMES = [0.0, -0.0, 1e-30, 40.0, -40.0, 800.0, -800.0, 3e38, -3e38]


def exact_bce(logit, y):
    """In eighty digits, of which a float keeps sixteen."""
    with mpmath.workdps(80):
        z = mpmath.mpf(float(logit))
        if abs(z) > 10_000:
            return float(max(z, 0) - z * y)
        return float(y * mpmath.log(1 + mpmath.exp(-z)) + (1 - y) * mpmath.log(1 + mpmath.exp(z)))


@pytest.mark.parametrize("logit", EXTREMES)
@pytest.mark.parametrize("y", [0, 1, 0.25])
def test_bce_of_extreme_logits(loss, logit, y):
    found = loss("bce", np.array([logit]), np.array([y]), from_logits=True)
    assert np.isfinite(found)
    assert found == pytest.approx(exact_bce(logit, y), rel=1e-12)


@settings(max_examples=12)
@given(SEEDS, st.integers(1, 30))
def test_bce_equals_scikit_learns(loss, seed, n):
    r = np.random.default_rng(seed)
    p, y = r.random(n), r.integers(0, 2, n)
    expected = reference.log_loss(y, p, labels=[0, 1])
    assert loss("bce", p, y, from_logits=False, sizes=(4,)) == pytest.approx(expected)
    assert loss("bce", special.logit(p), y, from_logits="true") == pytest.approx(expected)


def test_probabilities_of_zero_are_clamped(loss):
    assert loss("bce", np.array([0.0, 1.0]), np.array([1, 0]), from_logits=False) == pytest.approx(-np.log(1e-7))
    assert loss("bce", np.array([0.0]), np.array([1]), from_logits=False, clamp=1e-3) == pytest.approx(-np.log(1e-3))
    assert loss("bce", np.array([0.0, 1.0]), np.array([0, 1]), from_logits=False) == 0
    assert loss("ce", np.array([[0.0, 1.0]]), np.array([0]), from_logits=False) == pytest.approx(-np.log(1e-7))


@pytest.mark.parametrize("weight", ["3", "0", "0.5,2,7"])
def test_pos_weight_is_torchs(loss, rng, weight):
    z, y = rng.normal(0, 5, (9, 3)), rng.integers(0, 2, (9, 3))
    given_weight = torch.tensor([float(w) for w in weight.split(",")], dtype=torch.float64)
    expected = F.binary_cross_entropy_with_logits(
        torch.from_numpy(z), torch.from_numpy(y).double(), pos_weight=given_weight
    )
    assert loss("bce", z, y, pos_weight=weight, sizes=(2,)) == pytest.approx(float(expected))
    assert loss("bce", special.expit(z), y, from_logits=False, pos_weight=weight) == pytest.approx(
        float(expected), rel=1e-6
    )


def test_bce_refuses(loss):
    with pytest.raises(DataError, match=r"sample 1: 2 is not between 0 and 1"):
        loss("bce", np.zeros(2), np.array([0, 2]))
    with pytest.raises(DataError, match="from_logits=true"):
        loss("bce", np.array([0.5, -3]), np.array([0, 1]), from_logits=False)
    with pytest.raises(DataError, match="2 pos_weight"):
        loss("bce", np.zeros((2, 3)) - 1, np.zeros((2, 3)), pos_weight="1,2")
    with pytest.raises(UsageError, match="pos_weight=a"):
        LOSSES["bce"].build(pos_weight="a")


CE_OPTIONS = [
    {},
    {"label_smoothing": 0.1},
    {"label_smoothing": 1.0},
    {"weight": "1,2,0,0.5"},
    {"weight": "1,2,3,0.5", "label_smoothing": 0.2},
    {"ignore": 2},
    {"ignore": -100, "weight": "4,3,2,1", "label_smoothing": 0.3},
]


@pytest.mark.parametrize("options", CE_OPTIONS)
@pytest.mark.parametrize("shape", [(25, 4), (6, 4, 3), (5, 4, 3, 2)])
def test_ce_of_classes_is_torchs(loss, rng, options, shape):
    z, y = rng.normal(0, 3, shape).astype(np.float32), rng.integers(0, 4, (shape[0], *shape[2:]))
    if options.get("ignore") == -100:
        y[::2] = -100
    torchs = {"ignore_index" if name == "ignore" else name: value for name, value in options.items()}
    if "weight" in options:
        torchs["weight"] = torch.tensor([float(w) for w in options["weight"].split(",")], dtype=torch.float64)
    expected = F.cross_entropy(torch.from_numpy(z).double(), torch.from_numpy(y), **torchs)
    for name in ("ce", "sparse_ce"):
        assert loss(name, z, y, sizes=(3, 1), **options) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_ce_of_distributions_is_torchs(loss, rng, smoothing):
    z, t = rng.normal(0, 3, (8, 5, 2)), np.moveaxis(rng.dirichlet(np.ones(5), (8, 2)), -1, 1)
    expected = F.cross_entropy(torch.from_numpy(z), torch.from_numpy(t), label_smoothing=smoothing)
    assert loss("ce", z, t, label_smoothing=smoothing, sizes=(3,)) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("options", CE_OPTIONS[:5])
def test_one_hot_and_classes_agree_with_weights_too(loss, rng, options):
    z, y = rng.normal(0, 3, (20, 4)), rng.integers(0, 4, 20)
    assert loss("ce", z, np.eye(4)[y], **options) == pytest.approx(loss("sparse_ce", z, y, **options), rel=1e-12)


@settings(max_examples=12)
@given(SEEDS, st.integers(2, 5), st.integers(2, 30))
def test_balanced_weights_are_the_formulas(loss, seed, classes, n):
    """w_c = n/(C n_c), from all labels, given to torch as numbers; absent classes weigh nothing there."""
    r = np.random.default_rng(seed)
    z, y = r.normal(0, 3, (n, classes)), r.integers(0, classes, n)
    w = cross_entropy.class_weights(y, classes)
    present = np.isfinite(w)
    assert w[present] == pytest.approx(n / (classes * np.bincount(y, minlength=classes)[present]))
    numbers = torch.from_numpy(np.where(present, w, 0))
    expected = F.cross_entropy(torch.from_numpy(z), torch.from_numpy(y), weight=numbers)
    assert loss("ce", z, y, weight="balanced", sizes=(3, 2)) == pytest.approx(float(expected), rel=1e-9)


def test_balanced_weights_of_maps_and_ignored_positions(loss, rng):
    z, y = rng.normal(0, 3, (6, 3, 4, 2)), rng.integers(0, 3, (6, 4, 2))
    y[0], y[1, 0] = 2, 255
    w = torch.from_numpy(cross_entropy.class_weights(y[y < 255], 3))
    expected = F.cross_entropy(torch.from_numpy(z), torch.from_numpy(y), weight=w, ignore_index=255)
    assert loss("ce", z, y, weight="balanced", ignore="255", sizes=(4,)) == pytest.approx(float(expected))
    assert loss("ce", z, y, weight="balanced") == pytest.approx(float(expected))
    flat, labels = np.moveaxis(z, 1, -1).reshape(-1, 3), y.reshape(-1)
    with pytest.raises(DataError, match=r"has the label 255; .* ignore=N leaves one label out"):
        loss("ce", flat, labels)
    assert loss("ce", flat, labels, weight="balanced", ignore=255) == pytest.approx(float(expected))


def test_a_resample_with_balanced_weights_is_that_of_the_samples_drawn(loss, rng):
    z, y = rng.normal(size=(12, 3)), np.array([0] * 8 + [1] * 3 + [2])
    metric = LOSSES["ce"].build(weight="balanced")
    drawn = rng.integers(0, 12, (40, 12))
    weights = np.stack([np.bincount(row, minlength=12) for row in drawn]).astype(float)
    expected = [loss("ce", z[row], y[row], weight="balanced") for row in drawn]
    assert metric.resampled(loss.records(metric, z, y), weights) == pytest.approx(np.array(expected))


@pytest.mark.parametrize("name", ["ce", "sparse_ce"])
def test_ce_of_extreme_logits_is_finite(loss, name):
    z = np.array([EXTREMES, EXTREMES[::-1]], dtype=np.float32)
    for y in range(len(EXTREMES)):
        found = loss(name, z, np.array([y, y]), label_smoothing=0.1)
        assert np.isfinite(found)
        assert found >= 0


def test_ce_refuses(loss):
    z = np.zeros((4, 3))
    with pytest.raises(DataError, match="sample 2 has the label 3; the model's classes run from 0 to 2"):
        loss("ce", z, np.array([0, 1, 3, 5]))
    with pytest.raises(DataError, match="sample 1 are no whole numbers"):
        loss("ce", z, np.array([0, 0.5, 1, 2]))
    with pytest.raises(DataError, match=r"\(4,\)"):
        loss("sparse_ce", z, np.eye(4)[:, :3])
    with pytest.raises(DataError, match="sample 3 do not have the sum 1"):
        loss("ce", z, np.array([[1, 0, 0]] * 3 + [[1, 1, 0]]))
    with pytest.raises(DataError, match="sample 1: -1 is not between 0 and 1; these are no probabilities"):
        loss("ce", np.array([[0, 1], [-1, 0]]), np.array([0, 1]), from_logits="false")
    with pytest.raises(DataError, match="2 weights for 3 classes"):
        loss("ce", z, np.zeros(4, int), weight="1,2")
    with pytest.raises(DataError, match="two classes or more"):
        loss("ce", z[:, :1], np.zeros(4, int))
    with pytest.raises(UsageError, match="labels 'y' are needed, and the data has 'other'"):
        loss("ce", z, {"other": np.zeros(4)})
    with pytest.raises(UsageError, match="no output 'b'; there is 'out'"):
        loss("ce", z, np.zeros(4, int), output="b")
    with pytest.raises(DataError, match="sample 3 has the label 5"):
        loss("ce", z, np.array([0, 1, 2, 5]), sizes=(2,))
    for wrong in (
        {"from_logits": "maybe"},
        {"label_smoothing": 2.0},
        {"weight": "balanced", "label_smoothing": 0.1},
        {"weight": "-1,2"},
    ):
        with pytest.raises(UsageError):
            LOSSES["ce"].build(**wrong)


@settings(max_examples=12)
@given(SEEDS, st.integers(2, 6))
def test_kl_equals_scipys(loss, seed, classes):
    r = np.random.default_rng(seed)
    p, z = r.dirichlet(np.ones(classes), 7), r.normal(0, 4, (7, classes))
    p[0] = np.eye(classes)[0]
    q = special.softmax(z, axis=1)
    expected = special.rel_entr(p, q).sum(axis=1).mean()
    assert loss("kl_divergence", z, p, target="y", sizes=(2,)) == pytest.approx(expected, rel=1e-7)
    assert loss("kl_divergence", q, p, target="y", from_logits=False, clamp=1e-30) == pytest.approx(expected, rel=1e-6)
    first = r.normal(size=(7, classes))
    expected = special.rel_entr(special.softmax(first, axis=1), q).sum(axis=1).mean()
    assert loss("kl_divergence", z, reference=first) == pytest.approx(expected, rel=1e-7)


def test_kl_against_itself_is_nothing_and_extremes_are_finite(loss):
    z = np.array([EXTREMES], dtype=np.float32)
    assert loss("kl_divergence", z, reference=z) == 0
    several = np.random.default_rng(0).normal(0, 5, (50, 7)).astype(np.float32)
    assert loss("kl_divergence", several, reference=several) == 0
    p = special.softmax(several.astype(float), axis=1)
    assert loss("kl_divergence", p, reference=p) == 0
    assert np.isfinite(loss("kl_divergence", z, reference=z[:, ::-1]))
    zero = np.array([[0.0, 1.0]])
    assert loss("kl_divergence", zero, reference=zero[:, ::-1], from_logits=False) == pytest.approx(-np.log(1e-7))


def test_kl_refuses(loss):
    p = np.full((3, 2), 0.5)
    with pytest.raises(DataError, match="from_logits=true"):
        loss("kl_divergence", -p, reference=p, from_logits=False)
    with pytest.raises(DataError, match="sample 0 do not have the sum 1"):
        loss("kl_divergence", np.zeros((3, 2)), p / 2, target="y")
    with pytest.raises(DataError, match="two classes or more"):
        loss("kl_divergence", p[:, 0], reference=p[:, 0])
    with pytest.raises(UsageError, match="no reference output"):
        loss("kl_divergence", np.zeros((3, 2)))


@pytest.mark.parametrize(("name", "wide"), [("ce", True), ("kl_divergence", True), ("focal", True), ("bce", False)])
def test_probabilities_are_told_from_logits_by_all_batches(loss, rng, name, wide):
    z = rng.normal(0, 2, (20, 4) if wide else 20)
    y = rng.integers(0, 4 if wide else 2, 20)
    p = special.softmax(z, axis=1) if wide else special.expit(z)
    about = {"reference": z} if name == "kl_divergence" else {}
    like = {"reference": p} if about else {}
    labels = None if about else y
    expected = loss(name, z, labels, from_logits=True, **about)
    assert loss(name, z, labels, sizes=(1,), **about) == pytest.approx(expected)
    assert loss(name, p, labels, sizes=(1,), **like) == pytest.approx(expected, rel=1e-6)


def test_several_numbers_of_a_sample_between_0_and_1_are_asked_about(loss, rng):
    p, y = rng.random((6, 3)), rng.integers(0, 2, (6, 3))
    for name in ("bce", "focal", "dice_loss"):
        with pytest.raises(DataError, match="say from_logits=false if these are probabilities"):
            loss(name, p, y)
        assert loss(name, p, y, from_logits=False) != loss(name, p, y, from_logits=True)


def test_functions_take_lists():
    assert probabilistic.bce([0.0], [1.0]) == pytest.approx([np.log(2)])
    assert probabilistic.kl_divergence([[1.0, 0.0]], [[0.0, 0.0]]) == pytest.approx([np.log(2)])
    losses, weights = cross_entropy.sparse_cross_entropy([[0.0, 0.0]], [1])
    assert losses == pytest.approx([np.log(2)])
    assert weights == pytest.approx([1.0])
