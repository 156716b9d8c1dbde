"""The float graph of a target: arguments for what builds it, and modules that cannot be exported as they are."""

import numpy as np
import pytest
from torch import nn

from profiler.errors import ModelError
from quant.data import open_data
from quant.graph import to_bytes
from quant.reference import float_reference
from quant.runtime import open_session

FACTORY = """
import torch
from torch import nn

def net(width=4, half=False, device=None):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, width, device=device), nn.ReLU())
    return module.bfloat16() if half else module
"""


@pytest.fixture
def target(tmp_path):
    (tmp_path / "net.py").write_text(FACTORY)
    return f"{tmp_path}/net.py:net"


@pytest.fixture
def samples(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32))
    return open_data(str(tmp_path / "x.npz"), split="calibration")


def outputs(reference, samples):
    session = open_session(to_bytes(reference.model))
    return np.asarray(session.run({session.input_names[0]: samples.inputs["x"]})[0])


def test_arguments_reach_the_factory(target, samples):
    reference = float_reference(target, samples, kwargs={"width": 6})
    assert outputs(reference, samples).shape == (8, 6)
    assert reference.notes == ()


def test_a_module_in_half_precision_is_brought_to_single_and_said(target, samples):
    reference = float_reference(target, samples, kwargs={"half": True})
    assert "brought from bfloat16 to float32" in reference.notes
    whole = float_reference(target, samples)
    assert np.allclose(outputs(reference, samples), outputs(whole, samples), atol=0.02)
    assert not np.array_equal(outputs(reference, samples), outputs(whole, samples))


def test_a_module_without_storage_is_said(target, samples):
    with pytest.raises(ModelError, match=r"0\.weight has no storage"):
        float_reference(target, samples, kwargs={"device": "meta"})


def test_a_users_module_is_left_as_it_is(samples):
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    before = module[0].weight
    float_reference(module, samples)
    assert module[0].weight is before
