"""Lp norms (sum |x|^p)^(1/p) of groups of values, and local response normalisation.

L1: one absolute value each and the additions. L2: one square each, the additions, one root. Any other p: absolute
value and power each, the additions, one root.
"""


def lp_norm_flops(outputs: int, inputs: int, p: int = 2) -> int:
    """Norms of `outputs` groups; `inputs` counts the values of all groups together."""
    if p == 1:
        return 2 * inputs - outputs
    return (2 if p == 2 else 3) * inputs


def local_response_flops(elements: int, size: int) -> int:
    """For x / (bias + alpha / size * sum of `size` squares)^beta: size - 1 additions and five operations an element."""
    return elements * (size + 4)
