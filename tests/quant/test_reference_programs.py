"""torch.export programs on their way to ONNX: a free batch stays free, a fixed one is kept and said.

The reference is the module that the program was exported from, run by torch.
"""

import importlib

import numpy as np
import pytest
import torch
from torch import nn

from profiler import open_model
from profiler.errors import DataError, ModelError
from quant.data import Samples
from quant.graph import to_bytes
from quant.reference import float_reference
from quant.runtime import open_session

pytestmark = pytest.mark.filterwarnings("default")  # torch's exporter warns of itself

REFERENCE = ("cnn", "lstm", "mobile", "resnet", "unet", "vit")
ANY = torch.export.Dim("batch")


class Sizes(nn.Module):
    """Every kind of arithmetic on a free size that leaves a program for any batch."""

    def forward(self, x):
        rows = x.shape[0]
        weights = torch.arange(rows * 2 - rows)[:, None] / torch.sym_float(rows)
        ones = torch.ones(torch.sym_max(rows, 3) + 1)[:1] * (rows % 7)
        return x.reshape(rows * 2, -1).reshape(rows, -1) * weights + ones


class Two(nn.Module):
    def forward(self, first, second):
        return first @ second.mT


def written(path, module, *examples, dynamic=None):
    torch.export.save(torch.export.export(module.eval(), examples, dynamic_shapes=dynamic), path)
    return path


def samples(*arrays, names=("x",), count=6):
    generator = np.random.default_rng(0)
    sized = zip(names, arrays, strict=True)
    return Samples({n: generator.standard_normal((count, *s)).astype(np.float32) for n, s in sized}, None, "made here")


def assert_computes(reference, module, data, batch):
    session = open_session(to_bytes(reference.model))
    arrays = [array[:batch] for array in data.inputs.values()]
    (found,) = session.run(dict(zip(session.input_names, arrays, strict=True)))
    with torch.no_grad():
        expected = module(*map(torch.from_numpy, arrays)).numpy()
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", REFERENCE)
def test_a_free_batch_stays_free(name, tmp_path):
    module = getattr(importlib.import_module(f"models.digits_{name}"), f"digits_{name}")()
    free = ({0: ANY},)
    path = written(tmp_path / "m.pt2", module, torch.zeros(2, 1, 32, 32), dynamic=free)
    data = samples((1, 32, 32))
    reference = float_reference(path, data)
    assert not [note for note in reference.notes if "batch" in note]
    for batch in (1, 2, 5):
        assert_computes(reference, module, data, batch)


@pytest.mark.parametrize("batch", [1, 2, 4])
@pytest.mark.parametrize("count", [1, 6])
def test_a_fixed_batch_is_kept_and_said(batch, count, tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    path = written(tmp_path / "m.pt2", module, torch.zeros(batch, 3, 8, 8))
    reference = float_reference(path, samples((3, 8, 8), count=count))
    (note,) = (n for n in reference.notes if "batch" in n)
    assert f"for a batch of exactly {batch}, because a batch of any size failed: {path}: axis 0 of input was" in note
    assert "ModelError" not in note
    assert_computes(reference, module, samples((3, 8, 8)), batch)


def test_arithmetic_on_a_free_size_stays_free(tmp_path):
    data = samples((4,))
    path = written(tmp_path / "m.pt2", Sizes(), torch.zeros(4, 4), dynamic=({0: ANY},))
    reference = float_reference(path, data)
    assert not [note for note in reference.notes if "batch" in note]
    for batch in (1, 3, 6):
        assert_computes(reference, Sizes(), data, batch)


@pytest.mark.parametrize("least", [2, 3])
def test_a_free_batch_that_begins_above_one(least, tmp_path):
    module, data = nn.Linear(3, 2), samples((3,))
    several = torch.export.Dim("batch", min=least, max=9)
    path = written(tmp_path / "m.pt2", module, torch.zeros(4, 3), dynamic=({0: several},))
    reference = float_reference(path, data)
    (note,) = (n for n in reference.notes if "batch" in n)
    assert "takes no batch of 1 here" in note
    for batch in (1, least, 6):
        assert_computes(reference, module, data, batch)


def test_two_inputs_of_one_batch(tmp_path):
    data = samples((2, 5), (3, 5), names=("first", "second"))
    x, y = (torch.zeros(2, n, 5) for n in (2, 3))
    path = written(tmp_path / "m.pt2", Two(), x, y, dynamic=({0: ANY}, {0: ANY}))
    reference = float_reference(path, data)
    assert_computes(reference, Two(), data, 6)


def test_a_program_opened_before(tmp_path):
    module = nn.Linear(3, 2)
    opened = open_model(written(tmp_path / "m.pt2", module, torch.zeros(4, 3)))
    assert_computes(float_reference(opened, samples((3,))), module, samples((3,)), 4)


def test_samples_that_a_program_does_not_take(tmp_path):
    path = written(tmp_path / "m.pt2", nn.Linear(3, 2), torch.zeros(4, 3))
    with pytest.raises(DataError, match=r"fails on these samples \(x \(5,\) float32\): .*axis 1 of input was exported"):
        float_reference(path, samples((5,)))


def test_a_free_size_where_the_program_has_none_is_an_error(tmp_path):
    """What the exporter asks of the program, and what it is told."""
    module = open_model(written(tmp_path / "m.pt2", nn.Linear(3, 2), torch.zeros(4, 3))).module
    with pytest.raises(ModelError, match="axis 0 of input was exported as 4, got any"):
        torch.export.export(module, (torch.zeros(4, 3),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
