"""Modules brought to ONNX."""

import numpy as np
import pytest
import torch
from torch import nn

from profiler.errors import ModelError
from quant.data.samples import Samples
from quant.export import export_onnx
from quant.reference import float_reference


class Branching(nn.Module):
    def forward(self, x):
        return x + 1 if x.sum() > 0 else x - 1


class Pairs(nn.Module):
    """Wants exactly two samples."""

    def forward(self, x):
        return x.view(2, 2, 4).sum(0)


class Random(nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x)


class ManyOutputs(nn.Module):
    def forward(self, x):
        return {"embedding": 2 * x, "others": (x + 1, x)}


def rows(count):
    return torch.linspace(-1, 1, count * 4).reshape(count, 4)


def small():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3))


def test_any_batch_size_and_nothing_else_changed(bench, capfd, recwarn):
    torch.manual_seed(0)
    module = small().train()
    module[2].eval()
    before = [part.training for part in module.modules()]
    exported = export_onnx(module, (rows(1),))
    assert exported.dynamic_batch
    assert exported.notes == ()
    assert exported.error < 1e-5
    assert [part.training for part in module.modules()] == before
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
    with torch.no_grad():
        expected = module.eval()(rows(5)).numpy()
    assert bench.run(exported.model, rows(5).numpy())[0] == pytest.approx(expected, abs=1e-5)


def test_a_fixed_batch_where_no_other_works():
    exported = export_onnx(Pairs(), (torch.ones(2, 8),))
    assert not exported.dynamic_batch
    assert exported.model.graph.inputs[0].shape == (2, 8)
    assert "exactly 2" in exported.notes[0]


def test_names_of_inputs_and_outputs(bench):
    exported = export_onnx(nn.Linear(4, 2), (rows(2),), input_names=["pixels"], output_names=["weight"])
    assert [value.name for value in exported.model.graph.inputs] == ["pixels"]
    assert bench.run(exported.model, rows(3).numpy())[0].shape == (3, 2)


def test_several_outputs(bench):
    exported = export_onnx(ManyOutputs(), (rows(2),))
    x = rows(3).numpy()
    for got, expected in zip(bench.run(exported.model, x), (2 * x, x + 1, x), strict=True):
        assert np.allclose(got, expected)


@pytest.mark.parametrize(
    ("module", "message"),
    [(Branching(), "GuardOnDataDependent.*\n.*torch.export"), (Random(), "differs from torch.*\n.*random")],
)
def test_what_cannot_be_exported(module, message, capfd):
    with pytest.raises(ModelError, match=message) as caught:
        export_onnx(module, (rows(2),))
    assert len(str(caught.value).splitlines()) == 2
    assert capfd.readouterr() == ("", "")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_is_not_exported():
    traced = torch.jit.trace(nn.Linear(4, 3), rows(2))
    with pytest.raises(ModelError, match="TorchScript"):
        float_reference(traced, Samples({"x": rows(4).numpy()}, None, "rows"))
