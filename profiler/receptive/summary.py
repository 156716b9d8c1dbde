"""From a tensor's field to the numbers of a report: size, stride, start and status."""

from fractions import Fraction

from profiler.profile import ReceptiveField
from profiler.receptive.field import TensorField
from profiler.receptive.view import AxisView

# From best to worst; a field is no better than its worst axis.
STATUSES = ("exact", "whole-input", "bounded", "data-dependent", "unknown")


def summarize(field: TensorField | None) -> ReceptiveField | None:
    """The report of a field; None where the input does not reach the tensor or no axis is followed."""
    if field is None or not field.extent:
        return None
    true = _summary(field.true, field.extent)
    local = _summary(field.local, field.extent)
    if (local.size, local.stride, local.start) == (true.size, true.stride, true.start):
        return true
    return ReceptiveField(true.size, true.stride, true.start, true.status, local)


def _summary(views: tuple[AxisView, ...], extent: tuple[int, ...]) -> ReceptiveField:
    rows = [_axis(view, n) for view, n in zip(views, extent, strict=True)]
    status = max((row[3] for row in rows), key=STATUSES.index)
    return ReceptiveField(tuple(r[0] for r in rows), tuple(r[1] for r in rows), tuple(r[2] for r in rows), status)


def _axis(view: AxisView, extent: int) -> tuple[int, Fraction, int, str]:
    if not view.known:
        return extent, Fraction(0), 0, "unknown"
    if view.mixed and view.span.covers(extent):
        return extent, Fraction(0), 0, "whole-input"
    status = "exact" if view.exact else "bounded"
    if view.lattice is not None:
        return view.lattice.size, view.lattice.stride, view.lattice.start, status
    seen = view.span.first[view.span.last >= view.span.first]
    if len(seen) == 0:
        return 0, Fraction(0), 0, status
    stride = Fraction(int(seen[-1] - seen[0]), len(seen) - 1) if len(seen) > 1 else Fraction(0)
    return view.span.widest(), stride, int(seen[0]), status
