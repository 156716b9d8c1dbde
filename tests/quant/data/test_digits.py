"""The built-in sets: against torch's own enlarging, and a split that never changes."""

import hashlib
import sys

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.datasets import load_digits

from profiler.errors import UnavailableError, UsageError
from quant.data import digits as module
from quant.data.digits import SIZES, digits, digits_ink


@pytest.fixture(scope="module")
def sets():
    return {split: digits(split) for split in SIZES}


def test_sizes_and_types(sets):
    assert {split: len(samples) for split, samples in sets.items()} == {
        "train": 1000,
        "calibration": 297,
        "evaluation": 500,
    }
    for samples in sets.values():
        assert samples.inputs["x"].shape[1:] == (1, 32, 32)
        assert (samples.inputs["x"].dtype, samples.labels.dtype) == (np.float32, np.int64)
        assert samples.inputs["x"].min() == 0
        assert samples.inputs["x"].max() <= 1
        assert samples.task == "classification"


def test_the_splits_share_no_picture_and_leave_none_out():
    classes = load_digits().target
    members = np.concatenate([module._members(split, classes) for split in SIZES])
    assert sorted(members) == list(range(1797))


def test_every_class_has_its_share_of_every_split(sets):
    shares = np.bincount(load_digits().target) / 1797
    for samples in sets.values():
        assert np.abs(np.bincount(samples.labels) - shares * len(samples)).max() < 2


def test_the_split_is_the_one_the_networks_were_trained_on():
    # A changed hash means that training pictures are in the evaluation: the weights under models/ need new training.
    classes = load_digits().target
    members = b"".join(module._members(split, classes).astype("<i8").tobytes() for split in SIZES)
    assert hashlib.sha256(members).hexdigest()[:16] == "e0eea32a529eac49"


def test_enlarged_as_torch_does():
    small = torch.from_numpy(load_digits().images / 16).float().unsqueeze(1)
    expected = torch.nn.functional.interpolate(small, size=(32, 32), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(module._enlarged(small.numpy()), expected.numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("split", SIZES)
def test_ink_is_the_same_pictures_with_noise(sets, split):
    noisy, clean = digits_ink(split), sets[split].inputs["x"]
    assert noisy.task == "segmentation"
    assert np.array_equal(noisy.labels, clean[:, 0] >= 0.5)
    assert noisy.labels.dtype == np.int64
    pictures = noisy.inputs["x"]
    assert pictures.dtype == np.float32
    assert pictures.min() == 0
    assert pictures.max() == 1
    # Around a clean value of 0.5, clipping at 0 and 1 is clipping the noise at -0.5 and 0.5.
    middle = np.abs(clean - 0.5) < 0.02
    expected = scipy.stats.norm(scale=0.3).expect(lambda noise: np.clip(noise, -0.5, 0.5) ** 2) ** 0.5
    assert (pictures - clean)[middle].std() == pytest.approx(expected, abs=0.01)


def test_the_noise_is_the_same_every_time():
    assert np.array_equal(digits_ink("calibration").inputs["x"], digits_ink("calibration").inputs["x"])


@pytest.mark.parametrize("built_in", [digits, digits_ink])
def test_unknown_split(built_in):
    with pytest.raises(UsageError, match="'test'; known are train, calibration, evaluation"):
        built_in("test")


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(UnavailableError, match=r"pip install 'netgauge\[cpu\]'"):
        digits("evaluation")
