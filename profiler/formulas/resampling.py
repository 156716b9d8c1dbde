"""Interpolation: output sizes, source coordinates and FLOPs.

Linear interpolation of two neighbours is a w + b (1 - w): two multiplications and one addition. Bilinear is two such
steps along x and one along y, trilinear four, two and one. A cubic step weighs four neighbours: four multiplications
and three additions; bicubic is four steps along x and one along y. Nearest copies.
"""

from fractions import Fraction
from math import floor

LINEAR_STEP = 3
CUBIC_STEP = 7
FLOPS_PER_ELEMENT = {
    "nearest": 0,
    "linear": LINEAR_STEP,
    "bilinear": 3 * LINEAR_STEP,
    "trilinear": 7 * LINEAR_STEP,
    "bicubic": 5 * CUBIC_STEP,
}


def resized(i: int, scale: float) -> int:
    """Output size along one axis for a scale factor: floor(i * scale), the product taken in double precision."""
    return floor(float(i) * scale)


def source_coordinate(v: int, ratio: Fraction, mode: str, *, align_corners: bool) -> Fraction:
    """Where output `v` lies on the input axis, in input elements.

    Args:
        v: index of the output element.
        ratio: input elements per output element: (i - 1)/(o - 1) with `align_corners`, else i/o or 1/scale.
        mode: "nearest", "nearest-exact", or any linear or cubic mode.
        align_corners: whether the outermost elements' centres are kept in place.
    """
    if mode == "nearest" or align_corners:
        return v * ratio
    if mode == "nearest-exact":
        return (v + Fraction(1, 2)) * ratio
    return (v + Fraction(1, 2)) * ratio - Fraction(1, 2)
