"""Pooling: output sizes and operations. Pools have no parameters and no multiply-accumulates.

A maximum over a window of n values takes n - 1 comparisons; an average takes n - 1 additions and one division.
"""

from math import prod

from profiler.formulas.convolution import conv_output_size


def pool_output_size(i: int, k: int, s: int, p: int = 0, d: int = 1, *, ceil_mode: bool = False) -> int:
    """Output size of a pooling window along one axis.

    With `ceil_mode` the quotient is rounded up, but a last window that would begin inside the right-hand padding is
    dropped (the rule that PyTorch documents for its pools).
    """
    if not ceil_mode:
        return conv_output_size(i, k, s, (p, p), d)
    outputs = -(-(i + 2 * p - d * (k - 1) - 1) // s) + 1
    if (outputs - 1) * s >= i + p:
        outputs -= 1
    return outputs


def adaptive_window(u: int, i: int, o: int) -> tuple[int, int]:
    """First and past-the-last input of output `u` of an adaptive pool from `i` inputs to `o` outputs."""
    return u * i // o, -(-(u + 1) * i // o)


def adaptive_window_total(i: int, o: int) -> int:
    """Sum of the window lengths along one axis of an adaptive pool: windows overlap where o does not divide i."""
    return sum(end - begin for begin, end in (adaptive_window(u, i, o) for u in range(o)))


def max_pool_flops(output_elements: int, window: tuple[int, ...]) -> int:
    """Comparisons of a max pool: window - 1 per output element."""
    return output_elements * (prod(window) - 1)


def average_pool_flops(output_elements: int, window: tuple[int, ...]) -> int:
    """Additions and the division of an average pool: window operations per output element."""
    return output_elements * prod(window)


def adaptive_average_pool_flops(channels: int, sizes: tuple[tuple[int, int], ...]) -> int:
    """Operations of an adaptive average pool: as many per output element as its own window has values.

    Args:
        channels: batch times channels.
        sizes: (input size, output size) per axis.
    """
    return channels * prod(adaptive_window_total(i, o) for i, o in sizes)


def adaptive_max_pool_flops(channels: int, sizes: tuple[tuple[int, int], ...]) -> int:
    """Comparisons of an adaptive max pool: one less per output element than its own window has values."""
    return adaptive_average_pool_flops(channels, sizes) - channels * prod(o for _, o in sizes)
