"""Losses of embeddings against torch and loops over all pairs and triplets."""

from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.errors import DataError, UsageError
from quant.metrics.base import Draws
from quant.metrics.losses import LOSSES, embeddings, mining

SEEDS = st.integers(0, 10_000)
FEW = settings(max_examples=12)
TIED = st.booleans()


def vectors(seed, n=14, classes=3, tied=False, d=3):
    """Embeddings and classes; tied ones lie on a coarse grid, some of them on each other."""
    r = np.random.default_rng(seed)
    e = r.normal(size=(n, d)).astype(np.float32)
    return (np.round(e) if tied else e), np.append([0, 0, 1], r.integers(0, classes, n - 3))


def distance(a, b, squared=False):
    gap = ((a.astype(float) - b) ** 2).sum()
    return gap if squared else np.sqrt(gap)


@pytest.mark.parametrize("squared", [False, True])
def test_triplets_of_roles_are_torchs(loss, rng, squared):
    a, p, n = rng.normal(size=(3, 11, 4))
    outputs = {"a": a, "p": p, "n": n}
    roles = {"anchor": "a", "positive": "p", "negative": "n"}
    power = 2 if squared else 1
    expected = F.triplet_margin_with_distance_loss(
        *map(torch.from_numpy, (a, p, n)),
        distance_function=lambda x, y: (x - y).norm(dim=1) ** power,
        margin=0.3,
    )
    assert loss("triplet", outputs, margin=0.3, squared=squared, sizes=(4,), **roles) == pytest.approx(float(expected))
    assert LOSSES["triplet"].build(**roles).needs == ()


def triplets_by_hand(e, y, mining_rule, margin, squared):
    """All of the definition's triplets, one at a time."""
    found = []
    for i in range(len(y)):
        near = [distance(e[i], e[j], squared) for j in range(len(y)) if j != i and y[j] == y[i]]
        far = sorted(distance(e[i], e[j], squared) for j in range(len(y)) if y[j] != y[i])
        if not near or not far:
            continue
        if mining_rule == "all":
            found += [max(0, p - n + margin) for p, n in product(near, far)]
        elif mining_rule == "hard":
            found.append(max(0, max(near) - far[0] + margin))
        else:
            found += [max(0, p - next((n for n in far if n > p), far[-1]) + margin) for p in near]
    return np.mean(found)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("rule", ["all", "hard", "semi-hard"])
@FEW
@given(seed=SEEDS, tied=TIED)
def test_mined_triplets_equal_loops(loss, rule, squared, seed, tied):
    e, y = vectors(seed, tied=tied)
    expected = triplets_by_hand(e, y, rule, 0.5, squared)
    found = loss("triplet", e, y, mining=rule, margin=0.5, squared=squared, sizes=(3, 5))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("form", "factor"), [("plain", 1), ("hadsell", 0.5), ("lecun", 0.5)])
def test_contrastive_of_pairs(loss, rng, form, factor):
    a, b = rng.normal(0, 0.4, (2, 12, 3))
    similar = rng.integers(0, 2, 12)
    d = np.array([distance(x, y) for x, y in zip(a, b, strict=True)])
    expected = np.mean([factor * (x**2 if s else max(0, 1.5 - x) ** 2) for x, s in zip(d, similar, strict=True)])
    labels = similar if form == "plain" else 1 - similar
    outputs = {"l": a, "r": b}
    found = loss("contrastive", outputs, labels, first="l", second="1", margin=1.5, form=form, sizes=(5,))
    assert found == pytest.approx(expected)


@FEW
@given(seed=SEEDS, tied=TIED)
def test_contrastive_of_classes_equals_loops(loss, seed, tied):
    e, y = vectors(seed, tied=tied)
    pairs = [(i, j) for i, j in product(range(len(y)), repeat=2) if i < j]
    each = [distance(e[i], e[j]) ** 2 if y[i] == y[j] else max(0, 1 - distance(e[i], e[j])) ** 2 for i, j in pairs]
    assert loss("contrastive", e, y, sizes=(4, 1)) == pytest.approx(np.mean(each))
    assert loss("contrastive", e, y, form="hadsell") == pytest.approx(np.mean(each) / 2)


def unit(x):
    return x.astype(float) / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.07, 1.0])
@pytest.mark.parametrize("normalize", [True, False])
def test_infonce_of_roles_is_a_cross_entropy(loss, rng, temperature, normalize):
    q, k, others = rng.normal(size=(6, 4)), rng.normal(size=(6, 4)), rng.normal(size=(6, 5, 4))
    scale = unit if normalize else np.asarray
    logits = np.stack([[scale(q)[i] @ v / temperature for v in (scale(k)[i], *scale(others)[i])] for i in range(6)])
    expected = np.mean([-np.log(np.exp(row[0] - row.max()) / np.exp(row - row.max()).sum()) for row in logits])
    outputs = {"q": q, "k": k, "n": others}
    options = {"query": "q", "positive": "k", "temperature": temperature, "normalize": normalize}
    assert loss("infonce", outputs, negatives="n", sizes=(2, 3), **options) == pytest.approx(expected)
    shared = F.cross_entropy(torch.from_numpy(scale(q) @ scale(k).T / temperature), torch.arange(6))
    assert loss("infonce", outputs, sizes=(2, 3), **options) == pytest.approx(float(shared), rel=1e-5)


def test_infonce_with_negatives_for_all(rng):
    q, k, others = rng.normal(size=(6, 4)), rng.normal(size=(6, 4)), rng.normal(size=(5, 4))
    each = embeddings.infonce(q, k, np.broadcast_to(others, (6, 5, 4)))
    assert embeddings.infonce(q, k, others) == pytest.approx(each)


@FEW
@given(seed=SEEDS)
def test_infonce_of_classes_equals_loops(loss, seed):
    e, y = vectors(seed)
    s = np.exp(unit(e) @ unit(e).T / 0.5)
    each = [
        -np.log(s[i, j] / (s[i, j] + s[i, y != y[i]].sum()))
        for i, j in product(range(len(y)), repeat=2)
        if i != j and y[i] == y[j] and (y != y[i]).any()
    ]
    assert loss("infonce", e, y, temperature=0.5, sizes=(4,)) == pytest.approx(np.mean(each), rel=1e-6)


def test_infonce_at_a_low_temperature_is_finite(loss):
    e, y = vectors(1)
    assert np.isfinite(loss("infonce", e, y, temperature=1e-5))
    assert np.isfinite(loss("infonce", {"q": e, "k": e[::-1]}, query="q", positive="k", temperature=1e-5))


@pytest.mark.parametrize("name", ["triplet", "contrastive", "infonce"])
def test_resamples_draw_anchors_and_intervals_agree(loss, name):
    """The metric of a draw is the mean over the anchors drawn, and `interval` is the bootstrap of that."""
    (a, y), (b, _) = vectors(3, n=30), vectors(4, n=30)
    metric = LOSSES[name].build()
    first, second = (loss.records(metric, x, y) for x in (a, b))
    draws = Draws(30, seed=1, resamples=200)
    interval, method = metric.interval(first, second, draws)
    top, bottom = metric.anchors(first)
    weights = next(iter(draws.weights()))
    expected = (weights * top).sum(axis=1) / (weights * bottom).sum(axis=1)
    assert metric.resampled(first, weights) == pytest.approx(expected)
    by_default = super(mining._Gallery, metric).interval(first, second, draws)[0]
    assert interval == pytest.approx(by_default)
    assert interval.low < metric.value(second) - metric.value(first) < interval.high
    assert method == "paired bootstrap of 30 samples, seed 1, each against all others as they are"


def test_pairs_are_compared_once_for_value_and_interval(loss, monkeypatch):
    (a, y), (b, _) = vectors(3, n=30), vectors(4, n=30)
    calls = []
    whole = mining.ClassTriplet.anchors
    monkeypatch.setattr(mining.ClassTriplet, "anchors", lambda self, records: calls.append(1) or whole(self, records))
    metric = LOSSES["triplet"].build()
    first, second = (loss.records(metric, x, y) for x in (a, b))
    assert metric.value(first) != metric.value(second)
    metric.interval(first, second, Draws(30, seed=1, resamples=20))
    assert len(calls) == 2
    assert metric.value((first[0].copy(), y)) == metric.value(first)
    assert metric.value((first[0], np.roll(y, 1))) != metric.value(first)


def test_records_are_small(loss):
    e, y = vectors(5)
    first, second = loss.records(LOSSES["triplet"].build(), e.astype(np.float64), y)
    assert (first.dtype, second.shape) == (np.float32, y.shape)


def test_what_cannot_be_compared_is_said(loss, monkeypatch):
    e, _ = vectors(6)
    for labels in (np.zeros(14, int), np.arange(14)):
        for name in ("triplet", "infonce"):
            with pytest.raises(DataError, match="two samples of one class"):
                loss(name, e, labels)
    with pytest.raises(DataError, match="two are wanted"):
        loss("contrastive", e[:1], np.array([0]))
    with pytest.raises(DataError, match=r"\(n, d\) are wanted, got output \(14, 3, 1\)"):
        loss("triplet", e[:, :, None], np.zeros(14))
    with pytest.raises(DataError, match=r"anchor \(14, 3\), positive \(14, 2\)"):
        loss("triplet", {"a": e, "p": e[:, :2]}, anchor="a", positive="p", negative="a")
    with pytest.raises(UsageError, match="negative= is missing"):
        LOSSES["triplet"].build(anchor="a", positive="p")
    with pytest.raises(UsageError, match="mining=hard"):
        LOSSES["triplet"].build(anchor="a", positive="p", negative="n", mining="hard")
    with pytest.raises(DataError, match="sample 2 has the label 3"):
        loss("contrastive", {"a": e, "b": e}, np.array([0, 1, 3] + [0] * 11), first="a", second="b")
    with pytest.raises(DataError, match=r"\(14, K, 3\)"):
        loss("infonce", {"q": e, "k": e, "n": e}, query="q", positive="k", negatives="n")
    for wrong in ({"mining": "x"}, {"margin": -1.0}):
        with pytest.raises(UsageError):
            LOSSES["triplet"].build(**wrong)
    with pytest.raises(UsageError, match="temperature=0"):
        LOSSES["infonce"].build(temperature=0.0)
    monkeypatch.setattr(mining, "MOST", 13)
    with pytest.raises(DataError, match="14 samples are too many: this loss takes 13"):
        loss("triplet", e, np.zeros(14))
