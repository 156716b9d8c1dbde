"""Rotary position embedding (Su et al. 2021): pairs of values are turned by an angle of their position."""

FLOPS_PER_ELEMENT = 3  # x cos - y sin and x sin + y cos: six operations for two values


def rotary_flops(elements: int) -> int:
    """Turning `elements` values; sines and cosines are looked up."""
    return FLOPS_PER_ELEMENT * elements
