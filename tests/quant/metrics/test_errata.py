"""Mistakes in documents that these formulas came from: each has a test of the corrected form, by the mistake's name."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import special

from quant.metrics.base import Evaluated
from quant.metrics.losses import LOSSES, focal, regression
from quant.metrics.losses.embeddings import contrastive
from quant.metrics.losses.generative import gaussian_reconstruction
from quant.metrics.losses.margins import hinge
from quant.metrics.losses.probabilistic import bce, kl_divergence


def value(name, output, labels=None, **parameters):
    metric = LOSSES[name].build(**parameters)
    outputs = output if isinstance(output, dict) else {"out": output}
    named = {} if labels is None else {"y": np.asarray(labels)}
    return metric.value(metric.collect(Evaluated({k: np.asarray(v) for k, v in outputs.items()}, named)))


def gradient(function, x, step=1e-6):
    """By central differences."""
    return (function(x + step) - function(x - step)) / (2 * step)


def test_mae_is_not_mse():
    output, target = np.array([[0.0, 4.0]]), np.zeros((1, 2))
    assert regression.mae(output, target) == pytest.approx([2])
    assert regression.mse(output, target) == pytest.approx([8])


def test_the_gradient_of_mse_is_divided_by_the_number_of_samples():
    output, target = np.array([1.0, 5.0, -2.0]), np.array([0.5, 1.0, 1.0])
    for i in range(3):
        found = gradient(lambda v, i=i: value("mse", np.where(np.arange(3) == i, v, output), target), output[i])
        assert found == pytest.approx(2 * (output[i] - target[i]) / 3)


def test_the_worked_example_of_mse_sums_to_006_and_its_mean_is_002():
    output, target = np.array([[0.8, 0.1, 0.1]]), np.array([[1.0, 0.0, 0.0]])
    assert (output - target)[0] ** 2 == pytest.approx([0.04, 0.01, 0.01])
    assert value("mse", output, target) == pytest.approx(0.02)
    assert 3 * value("mse", output, target) == pytest.approx(0.06)


@pytest.mark.parametrize("delta", [0.5, 1.0, 2.0])
def test_huber_is_delta_times_smooth_l1(delta):
    e = np.linspace(-5, 5, 101)[:, None]
    huber, smooth = regression.huber(e, 0 * e, delta), regression.smooth_l1(e, 0 * e, delta)
    assert huber == pytest.approx(delta * smooth)
    inside = np.abs(e[:, 0]) <= delta
    assert huber[inside] == pytest.approx(e[inside, 0] ** 2 / 2)
    assert huber[~inside] == pytest.approx(delta * (np.abs(e[~inside, 0]) - delta / 2))


def test_bce_has_its_minus_sign():
    p, y = np.array([0.9, 0.2, 0.6]), np.array([1, 0, 0])
    assert bce(p, y, from_logits=False) == pytest.approx(-np.log([0.9, 0.8, 0.4]))
    assert (bce(p, y, from_logits=False) > 0).all()


def test_one_hot_and_integer_labels_give_the_same_cross_entropy_in_nats():
    z, y = np.random.default_rng(0).normal(size=(20, 4)), np.arange(20) % 4
    assert value("ce", z, np.eye(4)[y]) == pytest.approx(value("sparse_ce", z, y))
    assert value("ce", np.zeros((1, 4)), [0], weight="none") == pytest.approx(np.log(4))


def test_the_documents_kl_is_minus_kl_in_the_other_direction():
    truth, prediction = np.array([[0.7, 0.2, 0.1]]), np.array([[0.4, 0.4, 0.2]])
    documents = (prediction * np.log(truth / prediction)).sum()
    ours = kl_divergence(truth, prediction, from_logits=False)
    assert documents == pytest.approx(-kl_divergence(prediction, truth, from_logits=False)[0])
    assert documents < 0 < ours[0]
    assert ours == pytest.approx(special.rel_entr(truth, prediction).sum(axis=1))
    assert abs(ours[0] + documents) > 1e-3


def test_kl_is_cross_entropy_only_where_the_reference_is_one_hot():
    z, soft = np.array([[1.0, -1.0, 0.5]]), np.array([[0.7, 0.2, 0.1]])
    one_hot = np.array([[0.0, 1.0, 0.0]])
    assert kl_divergence(one_hot, z)[0] == pytest.approx(value("ce", z, one_hot))
    entropy = special.entr(soft).sum()
    assert kl_divergence(soft, z)[0] == pytest.approx(value("ce", z, soft) - entropy)


def test_hinge_is_convex_and_not_smooth():
    s = np.linspace(-4, 4, 81)
    for y in (-1, 1):
        values = hinge(s, np.full(81, y))
        middle = hinge((s[:, None] + s).reshape(-1) / 2, np.full(81**2, y)).reshape(81, 81)
        assert (middle <= (values[:, None] + values) / 2 + 1e-12).all()
    slopes = [(hinge([1 + h], [1]) - hinge([1.0], [1]))[0] / h for h in (-1e-3, 1e-3)]
    assert slopes == pytest.approx([-1, 0])


def log_sigmoid(z):
    return -np.logaddexp(0, -z)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 0.99])
def test_the_focal_gradient_in_the_logit(p, gamma):
    """(1-p)^gamma [gamma p log p - (1-p)], not -(1-p)^(gamma-1) [(1-p)^2 + gamma p log p]."""
    found = gradient(
        lambda z: value("focal", np.array([z]), [1], gamma=gamma, from_logits=True), special.logit(p), 1e-5
    )
    corrected = (1 - p) ** gamma * (gamma * p * np.log(p) - (1 - p))
    documents = -((1 - p) ** (gamma - 1)) * ((1 - p) ** 2 + gamma * p * np.log(p))
    assert found == pytest.approx(corrected, rel=1e-5)
    assert focal.focal_gradient(np.log(p), gamma) == pytest.approx(corrected)
    assert found != pytest.approx(documents, rel=1e-2)
    logit = torch.tensor(special.logit(p), dtype=torch.float64, requires_grad=True)
    (-((1 - logit.sigmoid()) ** gamma) * F.logsigmoid(logit)).backward()
    assert corrected == pytest.approx(float(logit.grad))


def test_the_ratio_of_focal_to_cross_entropys_gradient():
    """0.5966, 0.2398, 0.02896, 0.000299 at gamma 2, not 0.58, 0.30, 0.06, 0.005."""
    p = np.array([0.5, 0.7, 0.9, 0.99])
    gradients = focal.focal_gradient(np.log(p), 2.0)
    ratio = gradients / (p - 1)
    assert ratio == pytest.approx([0.5966, 0.2398, 0.02896, 0.000299], rel=1e-3)
    assert ratio == pytest.approx((1 - p) ** 2 * (1 - 2 * p * np.log(p) / (1 - p)))
    assert gradients[0] / gradients[3] == pytest.approx(99_800, rel=1e-3)


def test_the_focal_loss_at_gamma_5():
    """1.05e-6 at p = 0.9 and 1.6e-8 at 0.95, not 1e-5 and 1e-7."""
    assert focal.focal(np.log([0.9, 0.95]), 5.0) == pytest.approx([1.05e-6, 1.6e-8], rel=5e-3)


@pytest.mark.parametrize(("gamma", "easy", "hard"), [(1.0, 54.4, 7.0), (2.0, 3.66, 5.03), (5.0, 0.0018, 2.15)])
def test_the_effective_sample_count_is_the_sum_of_the_weights(gamma, easy, hard):
    """Of 990 easy samples (p from 0.9 to 0.99) and 10 hard ones (0.1 to 0.5), evenly spread."""
    p_easy, p_hard = (
        low + (high - low) * (np.arange(n) + 0.5) / n for low, high, n in ((0.9, 0.99, 990), (0.1, 0.5, 10))
    )
    counts = [
        value("focal_effective_samples", special.logit(p), np.ones(len(p), int), gamma=gamma) for p in (p_easy, p_hard)
    ]
    assert counts == pytest.approx([easy, hard], rel=2e-2)
    together = special.logit(np.append(p_easy, p_hard))
    found = value("focal_effective_samples", together, np.ones(1000, int), gamma=gamma)
    assert found == pytest.approx(sum(counts))
    if gamma == 2:
        assert found < (10 + 0.01 * 990) / 2


def test_the_focal_weight_falls_as_a_power_not_exponentially():
    """From p to (1 + p)/2 the distance to 1 halves, and the weight falls by 2^gamma wherever that is."""
    p = np.array([0.5, 0.75, 0.875, 0.9375])
    weights = focal.focal_weights(np.log(p), 2.0)
    assert weights[:-1] / weights[1:] == pytest.approx([4, 4, 4])


def test_alpha_of_the_negative_class_is_one_minus_alpha():
    options = {"alpha": "0.25", "from_logits": False}
    assert value("focal", [0.5], [1], **options) == pytest.approx(0.25 * 0.25 * np.log(2))
    assert value("focal", [0.5], [0], **options) == pytest.approx(0.75 * 0.25 * np.log(2))


def test_lecuns_contrastive_loss_has_the_opposite_label_and_half_the_size():
    a, b = np.array([[0.0], [0.0]]), np.array([[0.5], [0.25]])
    plain = contrastive(a, b, [1, 0])
    assert plain == pytest.approx([0.25, 0.5625])
    for form in ("hadsell", "lecun"):
        assert contrastive(a, b, [0, 1], form=form) == pytest.approx(plain / 2)


def test_triplet_distances_are_euclidean_unless_squared_is_said():
    outputs = {"a": [[0.0, 0.0]], "p": [[3.0, 4.0]], "n": [[6.0, 0.0]]}
    roles = {"anchor": "a", "positive": "p", "negative": "n"}
    assert value("triplet", outputs, margin=2.0, **roles) == pytest.approx(5 - 6 + 2)
    assert value("triplet", outputs, margin=12.0, squared=True, **roles) == pytest.approx(25 - 36 + 12)


def test_the_vaes_loss_is_minus_the_elbo_and_its_squared_error_is_halved():
    """-log N(x; x', 1) grows by half the squared error, and the loss falls as the ELBO rises."""
    x, out = np.array([[0.0, 2.0]]), np.array([[1.0, 1.0]])
    normal = torch.distributions.Normal(torch.from_numpy(out), 1.0)
    exact = torch.distributions.Normal(torch.from_numpy(x), 1.0)
    log_p, best = (float(d.log_prob(torch.from_numpy(x)).sum()) for d in (normal, exact))
    assert gaussian_reconstruction(out, x) == pytest.approx([best - log_p])
    assert gaussian_reconstruction(out, x) == pytest.approx([((x - out) ** 2).sum() / 2])
    outputs = {"out": out, "mean": np.ones((1, 3)), "logvar": np.zeros((1, 3))}
    code = torch.distributions.Normal(1.0, 1.0)
    elbo = log_p - best - 3 * float(torch.distributions.kl_divergence(code, torch.distributions.Normal(0.0, 1.0)))
    assert value("elbo", outputs, x, target="y") == pytest.approx(-elbo)


def test_a_wgan_critic_is_not_kept_1_lipschitz_by_its_loss():
    """Scaled outputs make the loss as low as one likes: it says something of critics that are 1-Lipschitz only."""
    f, y = np.array([1.0, -1.0]), [1, 0]
    assert value("wgan_critic", f, y) == pytest.approx(-2)
    assert value("wgan_critic", 100 * f, y) == pytest.approx(-200)


def test_class_weights_are_n_over_c_times_the_count():
    from quant.metrics.losses.cross_entropy import class_weights

    assert class_weights([0, 0, 0, 1], 2) == pytest.approx([4 / (2 * 3), 4 / (2 * 1)])
