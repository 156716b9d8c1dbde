"""Normalisation layers. They have no multiply-accumulates by convention; their work is in the FLOPs.

With fixed statistics a batch norm is one scale and one shift an element. A layer that takes its own statistics over a
group of n values needs, per group: the mean (n), the differences (n), their squares (n), the mean of those (n), the
addition of epsilon and the square root (2), and one division an element (n); then one operation an element for each of
weight and bias. RMS norm leaves out the mean and the differences.
"""


def batch_norm_flops(elements: int) -> int:
    """A batch norm with fixed statistics: the scale and the shift of each element."""
    return 2 * elements


def statistics_norm_flops(groups: int, group_size: int, *, weight: bool, bias: bool) -> int:
    """Layer, group and instance norm, and batch norm in training.

    Args:
        groups: number of groups that take statistics of their own.
        group_size: values in each.
        weight: whether each element is scaled afterwards.
        bias: whether each element is shifted afterwards.
    """
    return groups * (5 * group_size + 2) + groups * group_size * (weight + bias)


def rms_norm_flops(groups: int, group_size: int, *, weight: bool) -> int:
    """RMS norm: squares (n), their mean (n), epsilon and root (2), one division an element (n), the weight (n)."""
    return groups * (3 * group_size + 2) + groups * group_size * weight


def local_response_flops(elements: int, size: int) -> int:
    """Local response norm, x / (bias + alpha / size * sum of `size` squares)^beta.

    Per element: size - 1 additions, square, scale, bias, power, division.
    """
    return elements * (size + 4)
