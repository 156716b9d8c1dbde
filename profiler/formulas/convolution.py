r"""Convolutions and transposed convolutions of any dimension.

Output size of a convolution (Dumoulin and Visin 2016, relationship 6, extended by dilation):

    o = floor((i + 2p - d(k - 1) - 1) / s) + 1

Transposed convolution (relationship 14, with dilation and output padding):

    o = (i - 1)s - 2p + d(k - 1) + output_padding + 1

Multiply-accumulates: every output element of a convolution reads C_in / groups channels of one window; in a transposed
convolution it is every *input* element that is spread over one window, so the input size takes the output's place.
"""

from collections.abc import Sequence
from math import prod


def conv_output_size(i: int, k: int, s: int = 1, p: tuple[int, int] = (0, 0), d: int = 1) -> int:
    """Positions that a window takes along one axis.

    Args:
        i: input size in elements.
        k: kernel size.
        s: stride.
        p: zeros added before and after the axis.
        d: dilation.

    Returns:
        The number of outputs; zero or less where the window does not fit.
    """
    return (i + p[0] + p[1] - d * (k - 1) - 1) // s + 1


def same_padding(k: int, d: int = 1) -> tuple[int, int]:
    """Zeros before and after an axis for `padding="same"` at stride 1: d(k - 1) in all, the odd one after."""
    total = d * (k - 1)
    return total // 2, total - total // 2


def conv_transpose_output_size(i: int, k: int, s: int = 1, p: int = 0, output_padding: int = 0, d: int = 1) -> int:
    """Output size of a transposed convolution along one axis; arguments as in `conv_output_size`."""
    return (i - 1) * s - 2 * p + d * (k - 1) + output_padding + 1


def conv_params(kernel: Sequence[int], c_in: int, c_out: int, groups: int = 1, *, bias: bool) -> int:
    """Weights, k_h k_w C_in C_out / groups, and C_out biases."""
    return prod(kernel) * c_in * c_out // groups + (c_out if bias else 0)


def conv_macs(
    batch: int, positions: Sequence[int], kernel: Sequence[int], c_in: int, c_out: int, groups: int = 1
) -> int:
    """Multiply-accumulates of a convolution.

    Args:
        batch: samples.
        positions: output size per axis; for a transposed convolution the *input* size per axis.
        kernel: kernel size per axis.
        c_in: input channels, of all groups together.
        c_out: output channels, of all groups together.
        groups: number of groups.
    """
    return batch * prod(positions) * prod(kernel) * c_in * c_out // groups
