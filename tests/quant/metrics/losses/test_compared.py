"""Losses by their names in the registry, over models and data as they come."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from profiler.errors import DataError, UsageError
from quant import evaluate
from quant.graph import to_bytes
from quant.metrics import METRICS, compare_outputs
from quant.metrics.losses import LOSSES
from quant.metrics.registry import find, parse


def test_every_loss_is_in_the_registry():
    assert {name: METRICS[name] for name in LOSSES} == dict(LOSSES)
    assert parse("ce:weight=1,2:label_smoothing=0.1").title == "ce:label_smoothing=0.1:weight=1,2"
    assert find("weighted:losses=ce/weight=balanced+huber/output=box/delta=2:weights=1,0.5").needs == ("y",)


def test_a_loss_that_got_worse_is_lost(rng):
    z, y = rng.normal(size=(400, 4)), rng.integers(0, 4, 400)
    z[np.arange(400), y] += 2
    noisy = z + rng.normal(size=z.shape)
    names = ["ce", "ce:weight=balanced", "focal:gamma=1", "multiclass_hinge", "weighted:losses=ce+focal"]
    for name, found in compare_outputs(z, noisy, y, metrics=names).metrics.items():
        assert (found.verdict, found.higher_is_better, found.n) == ("lost", False, 400), name
        assert found.interval.low < found.drop < found.interval.high
    cross = compare_outputs(z, noisy, y, metrics=["ce"]).metrics["ce"]
    assert cross.int8 == pytest.approx(float(F.cross_entropy(torch.from_numpy(noisy), torch.from_numpy(y))))


def test_distances_from_the_first_model_are_nothing_for_itself_and_have_no_verdict(rng):
    z = rng.normal(size=(60, 4))
    names = ["kl_divergence", "mse:target=reference", "perceptual", "rmse:target=reference"]
    for found in compare_outputs(z, z + 0.1 * rng.normal(size=z.shape), None, metrics=names).metrics.values():
        assert (found.float, found.verdict) == (0, "")
        assert found.interval.low > 0


def test_labels_of_the_outputs_size_are_a_regression(rng):
    z, y = rng.normal(size=(2, 50, 3))
    found = compare_outputs(z, z, y)
    assert (found.task, set(found.metrics)) == ("regression", {"mse", "mae", "rmse", "r2"})


def test_samples_are_named_by_their_number_among_all(rng, monkeypatch):
    monkeypatch.setattr("quant.metrics.evaluate.HELD_AT_ONCE", 40)  # ten samples at a time
    z, y = rng.normal(size=(30, 4)), np.arange(30) % 4
    y[23] = 9
    for name in ("ce", "ce:weight=balanced", "multiclass_hinge", "weighted:losses=mae/target=z+focal"):
        with pytest.raises(DataError, match="sample 23 has the label 9"):
            compare_outputs(z, z, {"y": y, "z": z}, metrics=[name], task="classification")
    with pytest.raises(DataError, match="sample 12 has the label 2"):
        compare_outputs(z[:, 0], z[:, 0], {"d": np.where(np.arange(30) == 12, 2, 1)}, metrics=["wgan_critic:target=d"])
    with pytest.raises(UsageError, match="needs labels 'targets', 'lengths'"):
        compare_outputs(z, z, y, metrics=["ctc"])


def test_models_of_several_outputs(build, tmp_path, rng):
    nodes = [("Relu", "x", "a", {}), ("Flatten", "x", "m", {}), ("Tanh", "m", "v", {})]
    model = to_bytes(build(*nodes, x=("N", 2, 3), outputs=("a", "m", "v")))
    x = rng.normal(size=(20, 2, 3)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x)
    found = evaluate(model, model, str(tmp_path / "data.npz"), metrics=["elbo:beta=0.5"]).metrics["elbo:beta=0.5"]
    mu = x.reshape(20, 6).astype(float)
    lv = np.tanh(mu)
    kl = 0.5 * (mu**2 + np.exp(lv) - 1 - lv).sum(axis=1)
    expected = (0.5 * ((np.maximum(x, 0) - x) ** 2).sum(axis=(1, 2)) + 0.5 * kl).mean()
    assert found.float == pytest.approx(expected, rel=1e-5)
    assert found.drop == 0


def test_label_sequences_come_under_names_of_their_own(rng):
    x, targets = rng.normal(size=(12, 6, 4)), rng.integers(1, 4, (12, 2))
    lengths = rng.integers(0, 3, 12)
    torchs = F.ctc_loss(
        torch.from_numpy(x).log_softmax(2).transpose(0, 1),
        torch.from_numpy(targets),
        torch.full((12,), 6),
        torch.from_numpy(lengths),
    )
    found = compare_outputs(x, x, {"targets": targets, "lengths": lengths}, metrics=["ctc"]).metrics["ctc"]
    assert found.int8 == pytest.approx(float(torchs))


def test_labels_that_go_with_no_task_are_no_matter_where_a_metric_is_named(rng):
    z, y = rng.normal(size=(40, 6, 5)), rng.integers(1, 5, (40, 3))
    with pytest.raises(DataError, match="do not go with outputs"):
        compare_outputs(z, z, y)
    lengths = np.full(40, 3)
    found = compare_outputs(z, z, {"y": y, "targets": y, "lengths": lengths}, metrics=["ctc"])
    assert (found.task, set(found.metrics)) == ("other", {"ctc"})


def test_labels_that_are_no_numbers_are_said(rng):
    with pytest.raises(DataError, match="labels hold <U3; expected numbers"):
        compare_outputs(rng.normal(size=(3, 2)), rng.normal(size=(3, 2)), np.array(["cat"] * 3))
