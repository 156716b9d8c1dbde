"""Elements that see nothing: padding, gaps, constants put beside, and what is cut, joined or read of them later."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from profiler.analyzer import Subject
from profiler.crosscheck.receptive import verify_receptive_fields
from profiler.receptive.field import TensorField
from profiler.receptive.index_map import window
from profiler.receptive.merge import merged
from profiler.receptive.summary import summarize
from profiler.walk import walk


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def check(function, *sizes):
    """Every field against the probe; the last one's status."""
    checks = verify_receptive_fields(Subject(Function(function), sizes, {}))
    assert [c for c in checks if c.contradicted or c.status == "not probed"] == []
    return checks[-1].reported


def field_of(function, *sizes):
    steps = []
    walk(Function(function), [torch.empty(size) for size in sizes], {}, steps.append)
    return steps[-1].fields[0]


def ones(*size):
    return torch.ones(size)


def tokens(x):
    return x.flatten(2).transpose(1, 2)


SIZE = (1, 2, 6, 5)
EXACT = {
    "only padding along an axis that is reduced": lambda x: F.conv2d(
        x.mean(2, keepdim=True), ones(2, 2, 1, 1), padding=2
    ).narrow(2, 0, 2).relu(),
    "padding beside a global pool": lambda x: F.pad(x.mean((2, 3), keepdim=True), (1, 0, 1, 0))[:, :, :1].relu(),
    "padded channels": lambda x: F.pad(x, (0, 0, 0, 0, 1, 2))[:, 3:].relu(),
    "padded channels and a convolution": lambda x: F.conv2d(F.pad(x, (0, 0, 0, 0, 1, 2)), ones(3, 5, 3, 3)),
    "padded channels joined": lambda x: F.conv2d(
        F.pad(x, (0, 0, 0, 0, 1, 1)), ones(4, 1, 1, 1), groups=4
    )[:, ::3].sum(1),
    "a strided convolution that misses the input": lambda x: F.conv2d(x, ones(2, 2, 1, 1), stride=4, padding=2)
    .flatten(2)[:, :, :2].relu(),
    "dilated taps on both sides of the input": lambda x: F.max_pool2d(x[:, :, 2:3], 2, 1, 1, 2).relu(),
    "gaps of a transposed convolution": lambda x: F.conv2d(
        F.conv_transpose2d(x, ones(2, 1, 1, 1), stride=3), ones(1, 1, 2, 1), stride=(3, 1), padding=(2, 0)
    )[:, :, 1:, :2].relu(),
    "one row of gaps": lambda x: F.conv_transpose2d(x, ones(2, 1, 1, 1), stride=3)[:, :, 1].relu(),
    "nearest neighbours in padding": lambda x: F.interpolate(F.pad(x, (0, 0, 6, 0)), size=(2, 3)).relu(),
    "tokens of a padded picture": lambda x: F.avg_pool1d(tokens(F.pad(x, (2, 0, 1, 1))).transpose(1, 2), 3, 2).relu(),
    "attention over tokens of a padded picture": lambda x: F.scaled_dot_product_attention(
        *[tokens(F.pad(x, (1, 0, 0, 0)))] * 3, is_causal=True
    ),
    "a diagonal through padding": lambda x: F.pad(x, (1, 0)).diagonal(0, 2, 3).relu(),
    "zeros beside rows": lambda x: torch.cat([x, torch.zeros(SIZE)], 2)[:, :, 5:8].relu(),
    "zeros beside channels": lambda x: torch.cat([x, torch.zeros(SIZE)], 1)[:, 2:].relu(),
    "zeros beside a row that was taken": lambda x: torch.cat(
        [F.pad(x, (0, 2)).select(2, 1).unsqueeze(2), torch.zeros(1, 2, 1, 3)], 3
    ).relu(),
    "rows of padding beside others": lambda x: torch.cat(
        [F.layer_norm(F.pad(x, (0, 0, 0, 2)), (5,)), torch.cat([x, x[:, :, :2]], 2)], 3
    )[:, :, 7].relu(),
    "a class token": lambda x: torch.cat([torch.zeros(1, 1, 2), tokens(x)], 1)[:, :3].cumsum(1),
    "both halves of a picture beside zeros": lambda x: torch.cat([torch.zeros(1, 1, 2), tokens(x)], 1)[:, 1:16].relu(),
    "relative positions": lambda x: F.pad(F.pad(x, (0, 1)).flatten(2), (0, 4)).reshape(1, 2, 5, 8)[:, :, :4, 3:].relu(),
    "softmax over padded rows": lambda x: F.pad(x, (0, 0, 2, 0)).softmax(2)[:, :, :1].relu(),
    "a picture and its transpose, padded": lambda x: F.pad(x, (2, 0, 1, 0)) + F.pad(x, (2, 0, 1, 0)).transpose(2, 3),
    "a residual of zero-padded channels": lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1))
    + F.conv2d(x, ones(4, 2, 3, 3), stride=2, padding=1),
    "every row of a matrix looked up at its own place": lambda x: (x @ x.transpose(2, 3)).diagonal(1, 2, 3).relu(),
    "group norm of channels that differ": lambda x: F.group_norm(F.pixel_unshuffle(x[:, :, :, :4], 2), 8),
    "group norm of two channels each": lambda x: F.group_norm(F.pixel_unshuffle(x[:, :, :, :4], 2), 4),
    "axes of size one among those that a reshape joins": lambda x: x.narrow(3, 2, 1).reshape(1, 3, 4, 1).relu(),
    "kinds of channels beside a constant": lambda x: torch.cat(
        [torch.zeros(1, 3, 6, 2), torch.cat([x, F.avg_pool2d(x, 3, 1, 1)[:, :1]], 1)], 3
    ).sum(1),
    "queries without a batch": lambda x: F.scaled_dot_product_attention(x[0], x, x),
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_is_exact(name):
    assert check(EXACT[name], SIZE) in ("exact", "whole-input")


# Which elements see nothing is more than the views can tell: then they bound what the rest sees.
BOUNDED = {
    "rows where one of two branches ends in padding": lambda x: (
        F.pad(F.avg_pool2d(x, 3, 1, 1), (0, 0, 1, 1)) + F.interpolate(x, size=(8, 5))
    )[:, :, :1].relu(),
    "the same rows flattened": lambda x: (F.pad(F.avg_pool2d(x, 3, 1, 1), (0, 0, 1, 1)) + F.interpolate(x, size=(8, 5)))
    .flatten(2)[:, :, 2:9].relu(),
}  # fmt: skip


@pytest.mark.parametrize("name", BOUNDED)
def test_is_a_bound(name):
    assert check(BOUNDED[name], SIZE) == "bounded"


def test_what_reads_only_padding_sees_nothing_along_every_axis():
    field = field_of(lambda x: F.pad(x.mean(2, keepdim=True), (0, 0, 2, 0))[:, :, :2].relu(), SIZE)
    assert [view.sight.sees for view in field.true] == [False, False]


def test_padding_is_known_to_one_view_and_forgotten_by_a_window_that_reads_beyond_it():
    pooled = TensorField.of_input((1, 1, 4, 4), (2, 3)).reduced([2], keep=True)
    padded = pooled.moved(2, window(1, 1, 2), 5)
    rows, columns = (view.span for view in padded.true)
    assert (rows.last < rows.first).tolist() == [True, True, False, True, True]
    assert columns.first.tolist() == [0, 1, 2, 3]
    everywhere = padded.moved(2, window(3, 2, 0), 2)
    assert everywhere.true[0].atoms == ()
    assert summarize(everywhere) == summarize(pooled)


def test_one_input_may_be_seen_where_the_other_is_not():
    def both(x, y):
        return torch.cat([F.pad(x, (0, 0, 3, 0)), y], 2) * 1

    assert check(both, SIZE, SIZE) == "exact"
    rows = [view.span for view in field_of(both, SIZE, SIZE).true]
    assert np.flatnonzero(rows[0].last >= rows[0].first).tolist() == list(range(3, 9))
    assert np.flatnonzero(rows[2].last >= rows[2].first).tolist() == list(range(9, 15))


def test_a_union_is_what_either_sees_where_the_other_sees_nothing():
    image = TensorField.of_input((1, 1, 4, 6), (2, 3))
    wide = image.moved(3, window(3, 1, 1), 6)
    padded = wide.moved(2, window(1, 1, 1), 6)
    plain = image.moved(2, window(1, 1, 0), 4).moved(2, window(3, 1, 2), 6)
    union = merged([padded, plain], padded.shape)
    # In the first and the last row only the second is seen, which is narrower.
    assert union.uneven == {union.layout[2][0].uid}
    assert union.selected(2, 0).true[1].doubt > 0
    assert union.selected(2, 3).true[0].exact


class Both(nn.Module):
    def __init__(self, layers=1):
        super().__init__()
        self.lstm = nn.LSTM(8, 3, layers, batch_first=True, bidirectional=True)

    def forward(self, x):
        return self.lstm(x.squeeze(1))


def test_each_direction_of_a_recurrence_sees_its_side():
    steps = []
    walk(Both(), [(1, 1, 6, 8)], {}, steps.append)
    out, hidden, cell = next(s for s in steps if s.call.packet == "aten.lstm").fields
    span = out.true[0].span.reshape((2, 6))
    assert span.first.tolist() == [[0] * 6, list(range(6))]
    assert span.last.tolist() == [list(range(6)), [5] * 6]
    assert all(view.whole for state in (hidden, cell) for view in state.true)


def test_the_second_layer_of_two_directions_sees_everything():
    steps = []
    walk(Both(2), [(1, 1, 6, 8)], {}, steps.append)
    out = next(s for s in steps if s.call.packet == "aten.lstm").fields[0]
    assert all(view.whole for view in out.true)
    assert check(Both(2), (1, 1, 6, 8)) == "whole-input"
