"""Every formula against torch itself: sizes against its kernels, counts against its own counter on meta tensors."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from profiler.formulas import convolution, dense, movement, pooling, recurrent, resampling

small = st.integers(1, 5)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 40), small, small, st.integers(0, 4), small)
def test_convolution_size(i, k, s, p, d):
    x, w = torch.empty(1, 1, i, device="meta"), torch.empty(1, 1, k, device="meta")
    expected = convolution.conv_output_size(i, k, s, (p, p), d)
    if i + 2 * p < d * (k - 1) + 1:
        assert expected < 1
    else:
        assert F.conv1d(x, w, stride=s, padding=p, dilation=d).shape[-1] == expected


def test_the_size_without_floor_is_wrong_where_the_stride_does_not_divide():
    # (i - k + 2p)/s + 1 as one source states it, with i = 8, k = 3, s = 2: 3.5 positions.
    assert convolution.conv_output_size(8, 3, 2) == 3


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 30), st.integers(1, 7), small)
def test_same_padding_keeps_the_size(i, k, d):
    x, w = torch.empty(1, 1, i, device="meta"), torch.empty(1, 1, k, device="meta")
    padding = convolution.same_padding(k, d)
    assert convolution.conv_output_size(i, k, 1, padding, d) == i
    assert F.conv1d(F.pad(x, padding), w, dilation=d).shape[-1] == i
    assert padding[1] - padding[0] in (0, 1)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 20), small, small, st.integers(0, 3), st.integers(0, 4), small)
def test_transposed_convolution_size(i, k, s, p, extra, d):
    size = convolution.conv_transpose_output_size(i, k, s, p, extra, d)
    if extra >= max(s, d) or size < 1:
        return
    x, w = torch.empty(1, 1, i, device="meta"), torch.empty(1, 1, k, device="meta")
    out = F.conv_transpose1d(x, w, stride=s, padding=p, output_padding=extra, dilation=d)
    assert out.shape[-1] == size


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 40), small, small, st.integers(0, 2), st.integers(1, 3), st.booleans())
def test_pool_size(i, k, s, p, d, ceil_mode):
    if 2 * p > k or i + 2 * p < d * (k - 1) + 1:
        return
    out = F.max_pool1d(torch.empty(1, 1, i, device="meta"), k, s, p, d, ceil_mode)
    assert out.shape[-1] == pooling.pool_output_size(i, k, s, p, d, ceil_mode=ceil_mode)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30))
def test_adaptive_windows_are_those_that_torch_averages(i, o):
    x = torch.arange(i, dtype=torch.float64).reshape(1, 1, i)
    out = F.adaptive_avg_pool1d(x, o)[0, 0]
    windows = [pooling.adaptive_window(u, i, o) for u in range(o)]
    assert torch.allclose(out, torch.stack([x[0, 0, a:b].mean() for a, b in windows]))
    assert pooling.adaptive_window_total(i, o) == sum(b - a for a, b in windows)


MODULES = {
    "conv": (nn.Conv2d(4, 6, 3, padding=1), (2, 4, 9, 7)),
    "conv grouped dilated": (nn.Conv2d(4, 8, 3, stride=2, dilation=2, groups=2), (2, 4, 19, 17)),
    "conv same": (nn.Conv2d(4, 8, (3, 5), padding="same"), (2, 4, 9, 7)),
    "conv unbatched": (nn.Conv1d(4, 8, 3), (4, 20)),
    "conv 3d": (nn.Conv3d(2, 4, 3), (1, 2, 6, 7, 8)),
    "transposed": (nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1), (2, 4, 5, 6)),
    "transposed grouped": (nn.ConvTranspose2d(4, 6, 4, stride=2, groups=2), (2, 4, 5, 6)),
    "linear": (nn.Linear(8, 5), (2, 3, 8)),
    "lstm": (nn.LSTM(8, 16, 2, bidirectional=True), (5, 2, 8)),
    "lstm projected": (nn.LSTM(8, 16, proj_size=4), (5, 2, 8)),
    "gru": (nn.GRU(8, 16, 2), (5, 2, 8)),
    "rnn": (nn.RNN(8, 16), (5, 2, 8)),
    "encoder": (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (2, 6, 8)),
}


@pytest.mark.parametrize("name", MODULES)
def test_macs_are_half_of_what_torch_counts_on_meta(name):
    from profiler import analyze

    module, shape = MODULES[name]
    module = module.eval()
    with FlopCounterMode(display=False) as counter:
        module.to("meta")(torch.empty(shape, device="meta"))
    assert 2 * analyze(module, shape).totals.macs == counter.get_total_flops()


@pytest.mark.parametrize(
    ("a", "b"), [((4, 8), (3, 8, 5)), ((2, 1, 4, 8), (3, 8, 5)), ((8,), (8,)), ((8,), (3, 8, 5)), ((4, 8), (8,))]
)
def test_matrix_products(a, b):
    assert dense.matmul_shape(a, b) == tuple((torch.empty(a) @ torch.empty(b)).shape)
    # One multiplication per output element and inner index, counted by hand over the broadcast operands.
    assert dense.matmul_macs(a, b) == (torch.ones(a) @ torch.ones(b)).sum().item()


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(3, 4), (4, 5)]),
        ("bij,bjk", [(2, 3, 4), (2, 4, 5)]),
        ("...ij,...kj->...ik", [(2, 3, 4), (5, 4)]),
        ("bhid,bhjd->bhij", [(2, 3, 4, 5), (2, 3, 6, 5)]),
    ],
)
def test_einsum(equation, shapes):
    tensors = [torch.ones(s) for s in shapes]
    out = torch.einsum(equation, *tensors)
    assert dense.einsum_shape(equation, shapes) == tuple(out.shape)
    assert dense.einsum_cost(equation, shapes) == (out.sum().item(), 2 * out.sum().item())


def test_an_einsum_without_a_sum_has_no_macs():
    assert dense.einsum_cost("ij,ij->ij", [(4, 8), (4, 8)]) == (0, 32)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.floats(0.2, 4.0))
def test_resized(i, scale):
    if int(i * scale) < 1:
        return
    out = F.interpolate(torch.empty(1, 1, i), scale_factor=scale, mode="nearest")
    assert out.shape[-1] == resampling.resized(i, scale)


def test_recurrent_flops_include_biases():
    with_bias = recurrent.Recurrence("lstm", 10, 8, 16)
    without = recurrent.Recurrence("lstm", 10, 8, 16, bias=False)
    assert with_bias.flops() - without.flops() == 10 * 2 * 4 * 16


@given(st.integers(0, 20), st.one_of(st.none(), st.integers(-25, 25)), st.one_of(st.none(), st.integers(-25, 25)))
def test_slice_length(size, start, end):
    assert movement.slice_length(size, start, end, 1) == torch.empty(size)[start:end].shape[0]
