"""Inputs of three axes: (batch, channels, positions) or (batch, tokens, features), as the first layer takes them."""

import pytest
import torch
from torch import nn

from profiler import analyze
from profiler.analyzer import Subject
from profiler.crosscheck.receptive import verify_receptive_fields


class Turned(nn.Module):
    """Tokens whose features become channels, behind an optional layer that takes them as they come."""

    def __init__(self, first=None):
        super().__init__()
        self.first, self.conv = first or nn.Identity(), nn.Conv1d(8, 8, 3)

    def forward(self, x):
        return self.conv(self.first(x).transpose(1, 2))


class Placed(nn.Module):
    """Positions are added before the first layer that tells features apart."""

    def __init__(self):
        super().__init__()
        self.places = nn.Parameter(torch.zeros(1, 10, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x):
        return self.block(x + self.places)


TOKENS, SIGNAL = (1, 10, 8), (1, 8, 20)
CASES = {
    "each token by itself": (lambda: nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8)), TOKENS, 1, "exact"),
    "three tokens": (lambda: Turned(nn.Linear(8, 8)), TOKENS, 3, "exact"),
    "three tokens at once": (Turned, TOKENS, 3, "exact"),
    "attention": (Placed, TOKENS, 10, "whole-input"),
    "recurrence": (lambda: nn.LSTM(8, 4, batch_first=True), TOKENS, 10, "exact"),
    "recurrence, steps first": (lambda: nn.GRU(8, 4), (10, 2, 8), 10, "exact"),
    "signal": (lambda: nn.Sequential(nn.BatchNorm1d(8).eval(), nn.Conv1d(8, 4, 3)), SIGNAL, 3, "exact"),
    "pooled signal": (lambda: nn.Sequential(nn.MaxPool1d(2), nn.Conv1d(8, 4, 3)), SIGNAL, 6, "exact"),
    "features of a signal": (lambda: nn.Linear(20, 4), SIGNAL, 1, "exact"),
    "no layer that tells": (lambda: nn.Softmax(2), SIGNAL, 20, "whole-input"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_axis_is_that_of_positions_or_tokens(name):
    make, shape, size, status = CASES[name]
    model = make()
    field = analyze(model, shape).layers[-1].receptive_field
    assert (field.size, field.status) == ((size,), status)
    assert not [check.detail for check in verify_receptive_fields(Subject(model, (shape,), {})) if check.contradicted]


def test_the_question_leaves_the_model_as_it_was():
    model = Placed()
    model.calls = []
    model.register_forward_pre_hook(lambda module, _: module.calls.append(1))
    profile = analyze(model, TOKENS)
    assert model.calls == []
    assert {layer.call for layer in profile.layers} == {0}
