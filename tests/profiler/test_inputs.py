"""Inputs that are found where none are given: what a model says of itself, then what its first layer and names tell."""

import pytest
import torch
from torch import nn

from profiler.errors import ModelError
from profiler.inputs import find_inputs


def found(module):
    example = find_inputs(module, "m")
    return [tuple(t.shape) for t in example.args], {name: tuple(t.shape) for name, t in example.kwargs.items()}


class Says(nn.Module):
    """A model with an attribute that tells what it is called with."""

    def __init__(self, **attributes):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x, y=None, *, z=None):
        return self.layer(x)


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        (torch.zeros(5, 3), ([(5, 3)], {})),
        ((torch.zeros(5, 3), torch.zeros(2)), ([(5, 3), (2,)], {})),
        ({"x": torch.zeros(5, 3), "z": torch.zeros(1)}, ([], {"x": (5, 3), "z": (1,)})),
    ],
)
def test_what_lightning_calls_a_model_with(example, expected):
    module = Says(example_input_array=example)
    assert found(module) == expected
    assert "example_input_array" in find_inputs(module, "m").note


@pytest.mark.parametrize("example", [None, (), {}, "x", {1: torch.zeros(3)}])
def test_an_example_that_is_none(example):
    assert found(Says(example_input_array=example)) == ([(1, 3)], {})


@pytest.mark.parametrize("name", ["default_cfg", "pretrained_cfg"])
def test_timms_configuration(name):
    module = Says(**{name: {"input_size": (2, 7, 3)}})
    assert found(module) == ([(1, 2, 7, 3)], {})
    assert found(Says(**{name: {"input_size": None}})) == ([(1, 3)], {})
    assert found(Says(**{name: "somebody else's"})) == ([(1, 3)], {})


class Config:
    model_type = "mine"
    vocab_size = 40

    def to_dict(self):
        return {}


class Text(nn.Module):
    main_input_name = "input_ids"

    def __init__(self):
        super().__init__()
        self.config, self.embed = Config(), nn.Embedding(40, 4)

    def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None):
        return self.embed(input_ids) * attention_mask[..., None]


def test_a_transformers_model_that_a_factory_made():
    assert found(Text()) == ([], {"input_ids": (1, 16), "attention_mask": (1, 16)})


def layer(**options):
    return nn.TransformerEncoderLayer(12, 2, 16, **options)


FIRST = {
    "picture": (nn.Sequential(nn.Conv2d(5, 4, 3)), [(1, 5, 224, 224)]),
    "sound": (nn.Sequential(nn.Conv1d(5, 4, 3)), [(1, 5, 16)]),
    "features": (nn.Sequential(nn.Linear(5, 4)), [(1, 5)]),
    "encoder, batch first": (nn.TransformerEncoder(layer(batch_first=True), 2), [(1, 16, 12)]),
    "encoder, tokens first": (nn.TransformerEncoder(layer(), 2, enable_nested_tensor=False), [(16, 1, 12)]),
    "decoder": (nn.TransformerDecoder(nn.TransformerDecoderLayer(12, 2, 16), 1), [(16, 1, 12)] * 2),
    "both": (nn.Transformer(12, 2, 1, 1, 16, batch_first=True), [(1, 16, 12)] * 2),
    "attention": (nn.MultiheadAttention(12, 2, batch_first=True), [(1, 16, 12)] * 3),
    "recurrence, batch first": (nn.LSTM(5, 4, batch_first=True), [(1, 16, 5)]),
    "recurrence, steps first": (nn.GRU(5, 4), [(16, 1, 5)]),
}


@pytest.mark.parametrize(("module", "expected"), FIRST.values(), ids=FIRST)
def test_the_first_layer_tells(module, expected):
    assert found(module) == (expected, {})


class Pair(nn.Module):
    """A picture and a text, by names that tell them apart."""

    def __init__(self):
        super().__init__()
        self.embed, self.conv = nn.Embedding(9, 4), nn.Conv2d(3, 4, 3)

    def forward(self, image, tokens, *, attention_mask, scale=1):
        assert not tokens.is_floating_point()
        return self.conv(image).mean((2, 3)) + (self.embed(tokens) * attention_mask[..., None]).sum(1)


class Twins(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, left, right):
        return self.conv(left) - self.conv(right)


class Optional(Twins):
    def forward(self, picture=None, mask=None):
        return self.conv(picture)


class Any(Twins):
    def forward(self, *pictures):
        return self.conv(pictures[0])


def test_several_inputs():
    assert found(Pair()) == ([(1, 3, 224, 224), (1, 16)], {"attention_mask": (1, 16)})
    assert found(Twins()) == ([(1, 3, 224, 224)] * 2, {})
    assert found(Optional()) == ([(1, 3, 224, 224)], {})
    assert found(Any()) == ([(1, 3, 224, 224)], {})


class Unfit(Twins):
    def forward(self, left, tokens):
        raise ValueError("never")


class Many(Twins):
    def forward(self, a, b, c, d, e):
        return self.conv(a)


def test_what_is_not_found_is_asked_for_by_its_flags():
    with pytest.raises(ModelError, match=r"such as --input left=1x3x224x224 --input tokens=1x16:int64$") as error:
        find_inputs(Unfit(), "m")
    assert "left, tokens" in str(error.value)
    assert "1x3x224x224, 1x16:int64 was tried: " in str(error.value)
    with pytest.raises(ModelError, match=r"forward\(a, b, c, d, e\), such as --input a=") as error:
        find_inputs(Many(), "m")
    assert "tried" not in str(error.value)
