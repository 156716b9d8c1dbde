"""Operators that read where values point: grids, offsets, regions of interest.

Along the image any position may be read; of the values that point, an output sees those at its own place.
"""

from collections.abc import Sequence

from profiler.aten.call import Call
from profiler.receptive.field import TensorField
from profiler.receptive.merge import merged
from profiler.receptive.pick import anywhere
from profiler.receptive.reshape import expanded_to
from profiler.receptive.rules.base import Fields, Result, Rule, drawn
from profiler.receptive.view import DEPENDENT

WHY = "values say which positions are read"


def _anywhere(field: TensorField, sizes: Sequence[int]) -> TensorField:
    rank = len(field.layout)
    for axis, size in zip(range(rank - len(sizes), rank), sizes, strict=True):
        field = anywhere(field, axis, size, DEPENDENT, WHY)
    return field


def _grid_sampler(call: Call, fields: Fields) -> Result:
    """(N, C, H, W) at the places (N, H', W', 2)."""
    image, grid = (fields(t) for t in call.tensors[:2])
    out = call.out
    parts = [] if image is None else [_anywhere(image, out[2:])]
    if grid is not None:
        rank = len(grid.layout)
        at = grid.reduced([rank - 1], keep=True).permuted([0, rank - 1, *range(1, rank - 1)])
        parts.append(expanded_to(at, out))
    return [merged(parts, out) if parts else None]


def _deformed(call: Call, fields: Fields) -> Result:
    """Deformable convolution: image, weight, offset, mask, bias; offsets and mask lie at the outputs' places."""
    out = call.out
    image, weight, *rest = (fields(t) for t in call.tensors)
    if weight is not None:
        return drawn("a weight computed from the input")(call, fields)
    parts = []
    if image is not None:
        image = image.reduced([1], keep=True)
        parts.append(expanded_to(_anywhere(image, out[2:]), out))
    at = [f.reduced([1], keep=True) for f in rest if f is not None and len(f.layout) == len(out)]
    parts += [expanded_to(f, out) for f in at]
    return [merged(parts, out) if parts else None]


TABLE: dict[str, Rule] = {
    **{f"aten.{name}": _grid_sampler for name in ("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")},
    "torchvision.deform_conv2d": _deformed,
    **{f"torchvision.{name}": drawn(WHY) for name in ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "nms")},
}
