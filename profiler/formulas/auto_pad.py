"""Padding that follows from a wish for the output's size, and windows whose padding differs on the two sides.

ONNX' `auto_pad` wants ceil(i / s) outputs of a convolution or pool, and i * s of a transposed convolution (or as many
as its kernels reach, where they leave gaps). What that takes in all is split in halves; the odd one comes after
(`SAME_UPPER`) or before (`SAME_LOWER`).
"""

from profiler.formulas.convolution import conv_output_size

Pads = tuple[int, int]


def halves(total: int, *, upper: bool) -> Pads:
    """A total split into before and after, the odd one after (`upper`) or before."""
    return (total // 2, total - total // 2) if upper else (total - total // 2, total // 2)


def same_size_padding(i: int, k: int, s: int, d: int = 1, *, upper: bool) -> Pads:
    """Zeros before and after an axis so that ceil(i / s) windows fit."""
    return halves(max((-(-i // s) - 1) * s + d * (k - 1) + 1 - i, 0), upper=upper)


def conv_transpose_padding(i: int, k: int, s: int, o: int, output_padding: int = 0, d: int = 1, *, upper: bool) -> Pads:
    """What a transposed convolution cuts off (negative: adds) before and after so that `o` outputs are left."""
    return halves((i - 1) * s + output_padding + d * (k - 1) + 1 - o, upper=upper)


def padded_pool_size(i: int, k: int, s: int, p: Pads, d: int = 1, *, ceil_mode: bool = False) -> int:
    """Outputs of a pool whose padding differs on the two sides; else as `pooling.pool_output_size`."""
    if not ceil_mode:
        return conv_output_size(i, k, s, p, d)
    outputs = -(-(i + p[0] + p[1] - d * (k - 1) - 1) // s) + 1
    return outputs - 1 if (outputs - 1) * s >= i + p[0] else outputs
