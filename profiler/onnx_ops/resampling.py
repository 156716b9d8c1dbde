"""Resizing in all its modes, and sampling at computed places."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor

import numpy as np

from profiler.formulas.resampling import CUBIC_STEP, LINEAR_STEP
from profiler.formulas.statistics import grid_sample_flops
from profiler.onnx_ops.call import Cost, Fields, NodeCall, Operator, UncountedError, UnknownValueError
from profiler.onnx_ops.fields import looked_up, unary, unknown
from profiler.onnx_ops.value import Shape
from profiler.receptive.field import TensorField
from profiler.receptive.index_map import IndexMap

MOST_PHASES = 4096


def _inputs(call: NodeCall) -> tuple[int, int]:
    """At which inputs the scales and the sizes are: resize had no region of interest before opset 11."""
    return (1, -1) if call.op == "Upsample" or (call.op == "Resize" and call.opset < 11) else (2, 3)


def _axes(call: NodeCall) -> tuple[int, ...]:
    rank = len(call.shape())
    axes = call.attr("axes")
    return tuple(range(rank)) if axes is None else tuple(a % rank for a in axes)


def scales(call: NodeCall) -> tuple[float, ...] | None:
    """Outputs per input of each axis; None where sizes are given instead."""
    at, _ = _inputs(call)
    given = call.attr("scales") if "scales" in call.attributes else None
    if given is None and call.has(at) and call.shape(at) != (0,):
        given = tuple(float(s) for s in np.ravel(call.array(at)))
    if given is None:
        return None
    full = [1.0] * len(call.shape())
    for axis, scale in zip(_axes(call), given, strict=True):
        full[axis] = scale
    return tuple(full)


def _from_sizes(call: NodeCall) -> Shape:
    x, (_, at) = list(call.shape()), _inputs(call)
    sizes, axes = call.integers(at), _axes(call)
    policy = call.attr("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":
        choose = min if policy == "not_larger" else max
        scale = choose(Fraction(n, x[axis]) for n, axis in zip(sizes, axes, strict=True))
        sizes = tuple(floor(scale * x[axis] + Fraction(1, 2)) for axis in axes)
    for n, axis in zip(sizes, axes, strict=True):
        x[axis] = n
    return tuple(x)


def _shape(call: NodeCall) -> Sequence[Shape]:
    """The standard would also shrink by the share that a region of interest takes; no implementation does."""
    factors = scales(call)
    if factors is None:
        return [_from_sizes(call)]
    per = zip(call.shape(), factors, strict=True)
    return [tuple(floor(i * float(np.float32(s))) for i, s in per)]


def _mode(call: NodeCall) -> str:
    return str(call.attr("mode", "nearest")).lower().removeprefix("bi")


def _resized_axes(call: NodeCall) -> tuple[int, ...]:
    """Axes that are interpolated: the spatial ones, unless batch or channels change as well."""
    x, out = call.shape(), call.out
    changed = tuple(n for n, (i, o) in enumerate(zip(x, out, strict=True)) if i != o)
    if len(x) > 2 and all(n >= 2 for n in changed):
        return tuple(range(2, len(x)))
    return changed


def interpolation_flops(mode: str, axes: int) -> int:
    """Per output: along each axis in turn, one step between neighbours for every neighbour along the axes before."""
    if mode == "linear":
        return ((1 << axes) - 1) * LINEAR_STEP
    return ((1 << 2 * axes) - 1) // 3 * CUBIC_STEP if mode == "cubic" else 0


def _cost(call: NodeCall) -> Cost:
    if call.attr("antialias", 0):
        raise UncountedError("antialias=1 widens the filter with the scale")
    return 0, interpolation_flops(_mode(call), len(_resized_axes(call))) * call.out_elements


def _affine(call: NodeCall, i: int, o: int, scale: float | None) -> tuple[Fraction, Fraction]:
    """Slope and offset of the source coordinate along one axis, in input elements."""
    mode = call.attr("coordinate_transformation_mode", "half_pixel" if call.op == "Resize" else "asymmetric")
    if call.op == "Resize" and call.opset < 11:
        mode = "asymmetric"
    slope = Fraction(i, o) if scale is None else 1 / Fraction(scale).limit_denominator(1 << 16)
    if mode == "align_corners":
        return (Fraction(i - 1, o - 1) if o > 1 else Fraction(0)), Fraction(0)
    if mode == "asymmetric":
        return slope, Fraction(0)
    if mode == "tf_half_pixel_for_nn":
        return slope, slope / 2
    if mode == "pytorch_half_pixel" and o == 1:
        return Fraction(0), Fraction(0)
    half = slope / 2 - Fraction(1, 2)
    if mode == "half_pixel_symmetric":
        exact = i / slope
        return slope, half + Fraction(i, 2) * (1 - o / exact)
    return slope, half


def _way(call: NodeCall) -> str:
    """How a coordinate becomes inputs: a mode of interpolation or, for nearest, a way to round."""
    mode = _mode(call)
    rounding = "round_prefer_floor" if call.op == "Resize" and call.opset >= 11 else "floor"
    return str(call.attr("nearest_mode", rounding)) if mode == "nearest" else mode


_HALF = Fraction(1, 2)
_READ: dict[str, Callable[[Fraction], tuple[int, ...]]] = {
    "floor": lambda at: (floor(at),),
    "ceil": lambda at: (ceil(at),),
    "round_prefer_floor": lambda at: (ceil(at - _HALF),),
    "round_prefer_ceil": lambda at: (floor(at + _HALF),),
    "linear": lambda at: (floor(at), floor(at) + 1),
    "cubic": lambda at: (floor(at) - 1, floor(at), floor(at) + 1, floor(at) + 2),
}


@lru_cache(maxsize=4096)
def _index_map(slope: Fraction, offset: Fraction, way: str, outputs: int) -> IndexMap:
    """Inputs that each output reads; neighbours that weigh nothing do not count."""
    period = min(slope.denominator, outputs)
    places = [slope * v + offset for v in range(period)]
    exact = way in ("linear", "cubic")
    taps = tuple((int(at),) if exact and at == floor(at) else _READ[way](at) for at in places)
    return IndexMap(period, slope.numerator if period == slope.denominator else 0, taps, "clamp")


def _field(call: NodeCall, field: TensorField) -> TensorField:
    factors = scales(call) or (None,) * len(call.out)
    for axis, (i, o, scale) in enumerate(zip(call.shape(), call.out, factors, strict=True)):
        if i != o or (scale or 1) != 1 or axis in _resized_axes(call):
            slope, offset = _affine(call, i, o, scale)
            field = field.moved(axis, _index_map(slope, offset, _way(call), o), o)
    return field


def _resize_field(call: NodeCall) -> Fields:
    follows = call.attr("coordinate_transformation_mode") != "tf_crop_and_resize" and not call.attr("antialias", 0)
    try:
        return unary(_field)(call) if follows else unknown(call)
    except UnknownValueError:
        return unknown(call)


def _grid_shape(call: NodeCall) -> Sequence[Shape]:
    x, grid = call.shape(), call.shape(1)
    return [(*x[:2], *grid[1:-1])]


def _grid_cost(call: NodeCall) -> Cost:
    mode = str(call.attr("mode", "linear")).removeprefix("bi")
    each = interpolation_flops(mode, len(call.shape()) - 2)
    return 0, grid_sample_flops(call.input(1).elements, call.out_elements, each)


RESIZE = Operator("interpolation", "Interpolation", _cost, _shape, _resize_field)

TABLE = {
    "Resize": RESIZE,
    "Upsample": RESIZE,
    "GridSample": Operator("grid sample", "Sampling", _grid_cost, _grid_shape, looked_up),
}
