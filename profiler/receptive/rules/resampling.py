"""Interpolation of every mode: which inputs an output reads, with weights that are zero left out."""

from fractions import Fraction
from functools import lru_cache
from math import floor

import numpy as np

from profiler.aten import elementwise
from profiler.aten.call import Call
from profiler.receptive.field import TensorField
from profiler.receptive.index_map import IndexMap, resampled
from profiler.receptive.rules.base import Rule, unary
from profiler.receptive.rules.windows import slid

_MODES = {"nearest_exact": "nearest-exact", "nearest": "nearest", "cubic": "cubic", "linear": "linear"}
# Half the width of the filter that antialiasing stretches, and the distances at which its weight is zero.
_FILTERS = {"linear": (1, ()), "cubic": (2, (1,))}


def _interpolation(call: Call, field: TensorField) -> TensorField:
    mode = next(mode for key, mode in _MODES.items() if key in call.packet)
    align = bool(call.get("align_corners"))
    out = call.out[2:]
    maps = []
    for axis, (inputs, outputs) in enumerate(zip(field.shape[2:], out, strict=True)):
        scale = _scale(call, axis, len(out))
        if call.packet.endswith("_aa"):
            maps.append(_antialiased(outputs, _ratio(inputs, outputs, scale, align=align), mode))
        elif mode in ("nearest", "nearest-exact"):
            maps.append(_nearest(inputs, outputs, scale, mode))
        else:
            maps.append(resampled(outputs, _ratio(inputs, outputs, scale, align=align), mode, align_corners=align))
    return slid(field, maps, out)


def _scale(call: Call, axis: int, axes: int) -> float | None:
    """The scale factor, where the call was given one to compute with."""
    factors = call.get("scale_factors")
    if factors:
        return float(factors[axis])
    names = ("scales_d", "scales_h", "scales_w")[-axes:] if axes > 1 else ("scales",)
    value = call.get(names[axis])
    return None if value is None else float(value)


def _ratio(inputs: int, outputs: int, scale: float | None, *, align: bool) -> Fraction:
    if align:
        return Fraction(inputs - 1, outputs - 1) if outputs > 1 else Fraction(0)
    return 1 / Fraction(scale).limit_denominator(1 << 16) if scale else Fraction(inputs, outputs)


@lru_cache(maxsize=4096)
def _nearest(inputs: int, outputs: int, scale: float | None, mode: str) -> IndexMap:
    """Torch multiplies in single precision: where that rounds to another input, its choice is the truth."""
    exact = resampled(outputs, _ratio(inputs, outputs, scale, align=False), mode, align_corners=False)
    if outputs == inputs or (mode == "nearest" and outputs == 2 * inputs):
        return resampled(outputs, Fraction(inputs, outputs), mode, align_corners=False)
    ratio = np.float32(1.0 / scale) if scale else np.float32(inputs) / np.float32(outputs)
    offset = np.float32(0.5 if mode == "nearest-exact" else 0.0)
    at = np.floor((np.arange(outputs, dtype=np.float32) + offset) * ratio).astype(np.int64)
    places, _ = exact.indices(outputs, inputs)
    found = np.minimum(at, inputs - 1)
    if np.array_equal(found, places[:, 0]):
        return exact
    return IndexMap(outputs, 0, tuple((int(p),) for p in found))


@lru_cache(maxsize=4096)
def _antialiased(outputs: int, ratio: Fraction, mode: str) -> IndexMap:
    """The filter is as wide as an output is, in inputs, and at least as wide as without antialiasing.

    `aten/src/ATen/native/cpu/UpSampleKernel.cpp`, `_compute_indices_min_size_weights_aa`.
    """
    half, zeros = _FILTERS[mode]
    stretch = max(ratio, Fraction(1))
    support = half * stretch
    period = min(ratio.denominator, outputs)
    taps = []
    for v in range(period):
        centre = ratio * (v + Fraction(1, 2))
        first, end = floor(centre - support + Fraction(1, 2)), floor(centre + support + Fraction(1, 2))
        apart = {t: abs(t + Fraction(1, 2) - centre) / stretch for t in range(first, end)}
        taps.append(tuple(t for t, x in apart.items() if x < half and x not in zeros))
    advance = ratio.numerator if period == ratio.denominator else 0
    return IndexMap(period, advance, tuple(taps))


_NAMES = (
    *(name for name in elementwise.TABLE if "upsample" in name),
    "aten._upsample_bilinear2d_aa", "aten._upsample_bicubic2d_aa",
)  # fmt: skip
TABLE: dict[str, Rule] = {name: unary(_interpolation) for name in _NAMES}
