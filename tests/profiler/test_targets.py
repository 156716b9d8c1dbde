"""From what the user wrote to what the model is run on."""

import numpy as np
import pytest
import torch
from torch import nn

from profiler.analyzer import analyze
from profiler.errors import ModelError, UsageError
from profiler.sources.opened import OpenedModel
from profiler.targets import Request, given_inputs, profile_of


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(8, 4)

    def forward(self, ids, scale=None):
        return self.embed(ids) * (1 if scale is None else scale)


class Open(Two):
    def forward(self, ids, **others):
        return self.embed(ids) + others["scale"]


def found(module=None, **request):
    return profile_of(OpenedModel("two", "module", module=module or Two()), Request(**request))


def test_inputs_by_position_and_by_name():
    profile, notes = found(sizes=("1x3:int64", "scale=1x3x4"))
    assert profile.inputs == ((1, 3), (1, 3, 4))
    assert notes == []
    assert found(sizes=("ids=2x3:int64",))[0].inputs == ((2, 3),)
    assert found(Open(), sizes=("1x3:int64", "scale=1"))[0].inputs == ((1, 3), (1,))


def test_names_may_hold_what_onnx_allows():
    args, named = given_inputs(Request(sizes=("past.0=key=1x2", "1x3")))
    assert tuple(named["past.0=key"].shape) == (1, 2)
    assert tuple(args[0].shape) == (1, 3)


def test_arrays_and_sizes_together(tmp_path):
    np.savez(tmp_path / "x.npz", ids=np.zeros((1, 3), np.int64))
    profile, _ = found(arrays=str(tmp_path / "x.npz"), sizes=("scale=1x3x4",))
    assert profile.inputs == ((1, 3), (1, 3, 4))
    with pytest.raises(UsageError, match="ids is given twice"):
        found(arrays=str(tmp_path / "x.npz"), sizes=("ids=1x3:int64",))


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"sizes": ("mask=1x3",)}, "no input named 'mask'; forward takes ids, scale"),
        ({"sizes": ("=1x3",)}, "no name before ="),
        ({"sizes": ("ids=1x3:int64", "ids=1x3:int64")}, "given twice"),
        ({"sizes": ("ids=",)}, "1x3x224x224"),
        ({"dims": {"batch": 2}}, "ONNX"),
    ],
)
def test_what_cannot_be_meant_is_refused(request_, words):
    with pytest.raises(UsageError, match=words):
        found(**request_)


def test_an_input_is_found_where_none_is_given():
    profile, notes = found()
    assert profile.inputs == ((1, 16),)
    assert "assumed" in notes[0]


def opened(module):
    return OpenedModel("m", "module", module=module)


def test_where_no_input_is_found_the_error_of_the_first_try_is_told():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.head = nn.Linear(4, 5), nn.Linear(99, 2)

        def forward(self, x):
            return self.head(self.layer(x))

    with pytest.raises(ModelError, match=r"1x4 was tried: .* head \(Linear\).*one --input for each of forward\(x\)"):
        profile_of(opened(Broken()), Request())


def test_integers_given_by_size_are_said_to_be_zeros():
    class Lengths(nn.Module):
        def forward(self, lengths):
            return torch.ones(3)[: int(lengths.max())].reshape(1)

    with pytest.raises(ModelError, match="were zeros here; pass real ones with --inputs"):
        profile_of(opened(Lengths()), Request(sizes=("3:int64",)))


@pytest.mark.parametrize("train", [False, True])
def test_the_mode_is_the_one_asked_for(train):
    profile, _ = profile_of(opened(nn.BatchNorm2d(4)), Request(sizes=("2x4x3x3",), train=train))
    assert (profile.totals.flops == 2 * 2 * 4 * 9) is not train


def test_work_outside_torch_is_said_not_to_be_counted():
    class Other(nn.Module):
        def forward(self, x):
            return float(sum(x.shape))

    assert "no operator of torch" in analyze(Other(), (2, 3)).notes[0]


def test_a_model_that_exits_is_an_error():
    class Exits(nn.Module):
        def forward(self, x):
            raise SystemExit(3)

    with pytest.raises(ModelError, match="SystemExit"):
        analyze(Exits(), (2, 3))


def test_tensors_without_an_architecture_have_no_profile():
    assert profile_of(OpenedModel("w", "weights"), Request()) == (None, [])


def test_shapes_have_no_storage():
    args, _ = given_inputs(Request(sizes=("1x100000x100000",)))
    assert args[0].is_meta
    assert args[0].dtype is torch.float32
