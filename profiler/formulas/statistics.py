"""Norms of vectors, log-sum-exp, Fourier transforms and losses.

Each is written out in the operations it takes for a group of n values; the constants beside them are in one table.
"""

from math import ceil, inf, log2

# Per element of the prediction, the reduction to one number included.
LOSS_PER_ELEMENT: dict[str, int] = {
    "mse": 3,  # difference, square, sum
    "l1": 3,  # difference, magnitude, sum
    "smooth_l1": 6,  # difference, magnitude, comparison, two branches, sum
    "huber": 6,  # the same
    "bce": 8,  # y log p + (1 - y) log(1 - p): two logarithms, two differences, two products, two sums
    "bce_with_logits": 9,  # max(x, 0) - x y + log(1 + exp(-|x|)), sum
    "kl_div": 4,  # t (log t - x), sum
    "nll": 1,  # the sum of the chosen entries
    "cross_entropy": 1,  # the same, after a log-softmax
    "soft_margin": 5,
    "hinge": 4,
}


def logsumexp_flops(groups: int, size: int) -> int:
    """Per group of n: maximum (n - 1), differences (n), exponentials (n), sum (n - 1), logarithm and addition (2)."""
    return groups * 4 * size


def vector_norm_flops(groups: int, size: int, order: float = 2) -> int:
    """The p-norm of each group of n.

    p = 2: squares (n), sum (n - 1), root (1). p = 1 and infinity: magnitudes (n), sum or maximum (n - 1). Other p:
    magnitudes (n), powers (n), sum (n - 1), root (1).
    """
    if order in (1, inf, -inf, 0):
        return groups * (2 * size - 1)
    return groups * (2 * size if order == 2 else 3 * size)


def fft_flops(transforms: int, points: int, *, real: bool = False) -> int:
    """Fast Fourier transforms of n points: 5 n log2 n each, half of that for real data.

    The customary count of the radix-2 algorithm (Cooley and Tukey 1965), whatever the algorithm used.
    """
    if points < 2:
        return 0
    whole = 5 * points * log2(points)
    return transforms * ceil(whole / 2 if real else whole)


def weight_norm_flops(rows: int, size: int) -> int:
    """A weight as direction times length, per row of n: the norm (2n), one division (1), one product an element (n)."""
    return rows * (3 * size + 1)


def grid_sample_flops(coordinates: int, outputs: int, per_element: int) -> int:
    """Sampling at given places: three operations turn a coordinate into pixels, then one interpolation an output."""
    return 3 * coordinates + per_element * outputs
