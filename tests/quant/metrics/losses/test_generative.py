"""Losses of generative networks, of angles and of several tasks against torch's distributions and hand computation."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special
from torch import distributions

from profiler.errors import DataError, UsageError
from quant.metrics.losses import LOSSES, combined, generative, multibin

SEEDS = st.integers(0, 10_000)
FEW = settings(max_examples=12)


@FEW
@given(SEEDS, st.sampled_from([0.0, 1.0, 4.0]))
def test_the_elbo_is_that_of_torchs_distributions(loss, seed, beta):
    r = np.random.default_rng(seed)
    x, out = r.random((5, 2, 3)), r.normal(size=(5, 2, 3))
    mu, lv = r.normal(size=(2, 5, 4))
    code = distributions.Normal(torch.from_numpy(mu), torch.from_numpy(np.exp(lv / 2)))
    kl = distributions.kl_divergence(code, distributions.Normal(0.0, 1.0)).sum(dim=1)
    normal = -distributions.Normal(torch.from_numpy(out), 1.0).log_prob(torch.from_numpy(x)).sum(dim=(1, 2))
    constant = 6 * np.log(2 * np.pi) / 2
    outputs = {"out": out, "mu": mu, "lv": lv}
    expected = float((normal - constant + beta * kl).mean())
    assert loss("elbo", outputs, inputs=x, beta=beta, sizes=(2,)) == pytest.approx(expected)
    bits = distributions.Bernoulli(logits=torch.from_numpy(out), validate_args=False)
    expected = float((-bits.log_prob(torch.from_numpy(x)).sum(dim=(1, 2)) + beta * kl).mean())
    options = {"likelihood": "bernoulli", "beta": beta, "target": "t"}
    named = {"reconstruction": "out", "mean": "mu", "logvar": "lv"}
    assert loss("elbo", outputs, {"t": x}, **named, **options) == pytest.approx(expected)
    outputs["out"] = special.expit(out)
    assert loss("elbo", outputs, {"t": x}, from_logits=False, **options) == pytest.approx(expected)


def test_a_code_that_is_the_prior_costs_nothing():
    assert generative.gaussian_kl(np.zeros((3, 2)), np.zeros((3, 2))) == pytest.approx([0, 0, 0])
    assert (generative.gaussian_kl(np.zeros((1, 1)), [[1e-9]]) >= 0).all()


def test_the_elbo_refuses(loss):
    x = np.zeros((3, 2))
    with pytest.raises(UsageError, match="no output '2'"):
        loss("elbo", {"out": x, "mu": x}, inputs=x)
    with pytest.raises(DataError, match=r"mean \(3, 2\), logvar \(3, 1\)"):
        loss("elbo", {"out": x, "mu": x, "lv": x[:, :1]}, inputs=x)
    with pytest.raises(DataError, match="likelihood=gaussian"):
        loss("elbo", {"out": x, "mu": x, "lv": x}, inputs=x - 1, likelihood="bernoulli")
    with pytest.raises(DataError, match=r"data to reconstruct \(3, 1\)"):
        loss("elbo", {"out": x, "mu": x, "lv": x}, inputs=x[:, :1])


GAN = {
    "gan_discriminator": lambda d_real, d_fake: np.mean(-np.log(d_real)) + np.mean(-np.log(1 - d_fake)),
    "gan_generator": lambda d_real, d_fake: np.mean(np.log(1 - d_fake)),
    "gan_non_saturating": lambda d_real, d_fake: np.mean(-np.log(d_fake)),
    "wgan_critic": lambda f_real, f_fake: np.mean(f_fake) - np.mean(f_real),
    "wgan_generator": lambda f_real, f_fake: -np.mean(f_fake),
}


@pytest.mark.parametrize("name", GAN)
@FEW
@given(seed=SEEDS)
def test_adversarial_losses_are_their_expectations(loss, name, seed):
    r = np.random.default_rng(seed)
    z, y = r.normal(0, 3, (9, 1)), np.append([0, 1], r.integers(0, 2, 7))
    shown = z if name.startswith("wgan") else special.expit(z)
    expected = GAN[name](shown[y == 1], shown[y == 0])
    assert loss(name, z, y, sizes=(2, 3)) == pytest.approx(expected)
    options = {} if name.startswith("wgan") else {"from_logits": False}
    assert loss(name, shown, y, **options) == pytest.approx(expected)
    named = {"fake": "f"} if "generator" in name or "non" in name else {"fake": "f", "real": "r"}
    other = r.normal(0, 3, 9)
    expected = GAN[name](*(v if name.startswith("wgan") else special.expit(v) for v in (other, z[:, 0])))
    assert loss(name, {"f": z, "r": other}, sizes=(4,), **named) == pytest.approx(expected)
    assert LOSSES[name].build(**named).needs == ()


@pytest.mark.parametrize("name", GAN)
def test_adversarial_losses_of_a_draw(loss, name):
    z, y = np.arange(6.0), np.array([0, 0, 1, 1, 1, 0])
    metric = LOSSES[name].build()
    records = loss.records(metric, z, y)
    row = np.array([0, 0, 3, 3, 4, 5])
    weights = np.bincount(row, minlength=6)[None].astype(float)
    assert metric.resampled(records, weights)[0] == pytest.approx(loss(name, z[row], y[row]))
    assert np.isfinite(metric.resampled(records, np.eye(6))).all()


@pytest.mark.parametrize("name", [name for name in GAN if name.startswith("gan")])
def test_a_sure_discriminator_gives_finite_losses(loss, name):
    z = np.array([1e30, -1e30, 800, -800])
    assert np.isfinite(loss(name, z, np.array([0, 1, 1, 0])))
    assert np.isfinite(loss(name, np.array([0.0, 1.0, 0.0, 1.0]), np.array([0, 1, 1, 0]), from_logits=False))


def test_adversarial_losses_refuse(loss):
    with pytest.raises(DataError, match="no sample is real"):
        loss("wgan_critic", np.zeros(3), np.zeros(3, int))
    with pytest.raises(DataError, match="no sample is fake"):
        loss("wgan_generator", np.zeros(3), np.ones(3, int))
    with pytest.raises(DataError, match="sample 2 has the label 2; fake and real run from 0 to 1"):
        loss("gan_generator", np.zeros(3), np.arange(3))
    with pytest.raises(DataError, match="from_logits=true"):
        loss("gan_generator", np.full(3, 2.0), np.zeros(3, int), from_logits=False)
    with pytest.raises(UsageError, match="fake= goes with real="):
        LOSSES["wgan_critic"].build(fake="f")


def test_perceptual_is_the_weighted_sum_of_mean_squares(loss, rng):
    a, b = ({"f1": rng.normal(size=(4, 3, 2)), "f2": rng.normal(size=(4, 5))} for _ in range(2))
    one, two = (np.mean((a[name] - b[name]) ** 2) for name in ("f1", "f2"))
    assert loss("perceptual", b, reference=a, sizes=(3,)) == pytest.approx(one + two)
    assert loss("perceptual", b, reference=a, features="f2,f1", weights="0.5,2") == pytest.approx(0.5 * two + 2 * one)
    assert loss("perceptual", b, reference=a, features="f2", weights=3.0) == pytest.approx(3 * two)
    assert loss("perceptual", a, reference=a) == 0
    assert LOSSES["perceptual"].build().needs == ()
    with pytest.raises(UsageError, match="no output 'f3'"):
        loss("perceptual", b, reference=a, features="f3")
    with pytest.raises(UsageError, match="2 weights for 1 features"):
        LOSSES["perceptual"].build(features="f1", weights="1,2")


def multibin_by_hand(scores, turns, angle, weight, overlap):
    bins = len(scores)
    centres = [(i + 0.5) * 2 * np.pi / bins for i in range(bins)]

    def apart(c):
        return np.arccos(np.clip(np.cos(angle - c), -1, 1))

    nearest = min(range(bins), key=lambda i: apart(centres[i]))
    covering = [i for i in range(bins) if apart(centres[i]) <= np.pi / bins + overlap]
    cosines = [np.cos(angle - centres[i] - turns[i]) for i in covering]
    return -np.log(special.softmax(scores)[nearest]) - weight * sum(cosines) / len(cosines)


@FEW
@given(SEEDS, st.integers(2, 6), st.sampled_from([0.0, 0.1, 0.5]))
def test_multibin_equals_its_formula(loss, seed, bins, overlap):
    r = np.random.default_rng(seed)
    scores, turns = r.normal(size=(8, bins)), r.normal(size=(8, bins))
    angles = r.uniform(-20, 20, 8)
    expected = np.mean([multibin_by_hand(s, t, a, 0.4, overlap) for s, t, a in zip(scores, turns, angles, strict=True)])
    options = {"weight": 0.4, "overlap": overlap}
    assert loss("multibin", {"c": scores, "t": turns}, angles, sizes=(3,), **options) == pytest.approx(expected)
    length = r.uniform(0.5, 2, (8, bins, 1))
    sides = np.stack([np.cos(turns), np.sin(turns)], axis=-1) * length
    found = loss("multibin", {"t": sides, "c": scores}, angles, confidence="c", residual="t", **options)
    assert found == pytest.approx(expected)


def test_the_best_multibin_localization_is_minus_one():
    angles = np.linspace(0, 6, 7)
    turns = angles[:, None] - multibin.bin_centres(4)
    sure = np.where(np.cos(turns) == np.cos(turns).max(axis=1, keepdims=True), 1e3, 0.0)
    assert multibin.multibin(sure, turns, angles, weight=2.0) == pytest.approx(np.full(7, -2.0))


def test_multibin_refuses(loss):
    good = np.zeros((3, 2))
    with pytest.raises(DataError, match=r"\(3, 2, 2\)"):
        loss("multibin", {"c": good, "t": np.zeros((3, 2, 3))}, np.zeros(3))
    with pytest.raises(DataError, match="two bins or more"):
        loss("multibin", {"c": good[:, :1], "t": good[:, :1]}, np.zeros(3))
    with pytest.raises(DataError, match="one angle per sample"):
        loss("multibin", {"c": good, "t": good}, np.zeros((3, 2)))


def test_several_tasks(loss, rng):
    outputs = {"class": rng.normal(size=(9, 3)), "box": rng.normal(size=(9, 4))}
    labels = {"y": rng.integers(0, 3, 9), "boxes": rng.normal(size=(9, 4))}
    ce = loss("ce", outputs, labels, label_smoothing=0.1, output="class")
    huber = loss("huber", outputs, labels, output="box", target="boxes", delta=1e-1)
    text = "ce/label_smoothing=0.1/output=class+huber/output=box/target=boxes/delta=1e-1"
    found = loss("weighted", outputs, labels, losses=text, weights="0.7,30", sizes=(2, 3))
    assert found == pytest.approx(0.7 * ce + 30 * huber)
    assert loss("weighted", outputs, labels, losses=text) == pytest.approx(ce + huber)
    found = loss("uncertainty", outputs, labels, losses=text, sigmas="0.5,2")
    assert found == pytest.approx(ce / 0.5 + np.log(0.5) + huber / 8 + np.log(2))
    metric = LOSSES["weighted"].build(losses=text)
    assert metric.needs == ("y", "boxes")
    drawn = rng.integers(0, 9, (5, 9))
    weights = np.stack([np.bincount(row, minlength=9) for row in drawn]).astype(float)
    expected = [
        loss("weighted", {k: v[i] for k, v in outputs.items()}, {k: v[i] for k, v in labels.items()}, losses=text)
        for i in drawn
    ]
    assert metric.resampled(loss.records(metric, outputs, labels), weights) == pytest.approx(np.array(expected))


def test_losses_of_every_kind_of_record_add_up(loss, rng):
    e, y = rng.normal(size=(8, 3)), np.arange(8) % 2
    parts = [
        "triplet/mining=hard",
        "ce/weight=balanced/from_logits=true",
        "gan_discriminator/output=s/from_logits=true",
        "mse/target=e",
    ]
    parts.append("rmse/multioutput=uniform_average/target=e")
    outputs, labels = {"e": e, "s": e[:, 0]}, {"y": y, "e": e + 1}
    alone = [loss("weighted", outputs, labels, losses=part, sizes=(3,)) for part in parts]
    assert loss("weighted", outputs, labels, losses="+".join(parts), sizes=(3,)) == pytest.approx(sum(alone))
    assert alone[3:] == pytest.approx([1, 1])


def test_names_of_outputs_may_hold_a_slash(loss, rng):
    a, b = rng.normal(size=(2, 5, 2))
    found = loss("weighted", {"/head/box": a, "other": b}, b, losses="mse/output=/head/box+mae/output=/head/box")
    assert found == pytest.approx(((a - b) ** 2).mean() + np.abs(a - b).mean())


def test_the_best_sigma_is_the_root_of_the_loss():
    best = optimize.minimize_scalar(lambda s: float(combined.uncertainty([2.5], [s])), bounds=(0.1, 10)).x
    assert best**2 == pytest.approx(2.5, rel=1e-3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"losses": "ce+nothing"}, "no metric named 'nothing'"),
        ({"losses": ""}, "name the losses to add up"),
        ({"losses": "ce/gama=2"}, "ce has no parameter 'gama'"),
        ({"losses": "ce/label_smoothing"}, "no metric named 'ce/label_smoothing'"),
        ({"losses": "ce/label_smoothing=a"}, "'a' is no number"),
        ({"losses": "ce/from_logits=maybe"}, "there is auto, true, false"),
        ({"losses": "triplet/squared=maybe"}, "is no yes or no"),
        ({"losses": "triplet/mining=soft"}, "all, hard, semi-hard"),
        ({"losses": "mse+r2"}, "r2 is better the higher"),
        ({"losses": "mse+mae", "weights": "1,2,3"}, "3 numbers for 2 losses"),
    ],
)
def test_sums_that_cannot_be(options, words):
    with pytest.raises(UsageError, match=words):
        LOSSES["weighted"].build(**options)
    with pytest.raises(UsageError, match="sigmas=0"):
        LOSSES["uncertainty"].build(losses="mse", sigmas="0")
