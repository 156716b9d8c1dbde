"""From a tensor's field to the numbers of a report: size, stride, start and status."""

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

from profiler.profile import Phases, ReceptiveField
from profiler.receptive.field import TensorField
from profiler.receptive.layout import Views
from profiler.receptive.view import EXACT, STATUSES, UNKNOWN, AxisView

_STILL = Fraction(0)
_WHOLE_INPUT = STATUSES.index("whole-input")


def summarize(field: TensorField | None) -> ReceptiveField | None:
    """The report of a field; None where the input does not reach the tensor or no axis is followed."""
    if field is None:
        return None
    views = field.views
    if views.report is None and views.extent:
        axes = getattr(views.extent, "axes", ())
        if len(axes) > 1:
            views.report = _of_inputs(views, axes)
        else:
            views.report = _both(views.true, views.local, views.extent)
    return views.report


def _of_inputs(views: Views, axes: Sequence[int]) -> ReceptiveField | None:
    """Of several inputs: the first that is reached, and the others."""
    reports, at = [], 0
    for number, count in enumerate(axes):
        part = slice(at, at + count)
        at += count
        if any(v.sight.sees for v in views.true[part]):
            report = _both(views.true[part], views.local[part], views.extent[part])
            reports.append(report._replace(input=number))
    return reports[0]._replace(others=tuple(reports[1:])) if reports else None


def _both(true: tuple[AxisView, ...], near: tuple[AxisView, ...], extent: tuple[int, ...]) -> ReceptiveField:
    """The true field, with the local one where it differs."""
    report = _summary(true, extent)
    if near is true:
        return report
    local = _summary(near, extent)
    if local is report or (local.size, local.stride, local.start) == (report.size, report.stride, report.start):
        return report
    return ReceptiveField(
        report.size, report.stride, report.start, report.status, local, report.phases, report.aligned, report.reason
    )


@lru_cache(maxsize=1024)
def _whole(extent: tuple[int, ...]) -> ReceptiveField:
    """The report of a tensor whose every element sees the whole input."""
    return ReceptiveField(extent, (_STILL,) * len(extent), (0,) * len(extent), "whole-input")


def _summary(views: Sequence[AxisView], extent: tuple[int, ...]) -> ReceptiveField:
    for view in views:
        if not view.whole:
            break
    else:
        return _whole(extent)
    size, stride, start, phases, status = zip(*[_axis(view) for view in views], strict=True)
    worst = max(status)
    if worst == _WHOLE_INPUT and any([v.sight.gaps for v in views]):  # noqa: C419  # a list is faster than a generator
        worst = EXACT  # elements in padding see nothing
    reason = next((v.why for v, s in zip(views, status, strict=True) if s == worst), "") if worst > 1 else ""
    aligned = all([v.sight.aligned or s == _WHOLE_INPUT for v, s in zip(views, status, strict=True)])  # noqa: C419  # a list is faster than a generator
    return ReceptiveField(size, stride, start, STATUSES[worst], None, phases, aligned, reason)


def _axis(view: AxisView) -> tuple[int, Fraction, int, Phases | None, int]:
    sight, doubt = view.sight, view.doubt
    if doubt == UNKNOWN:
        return sight.extent, _STILL, 0, None, doubt
    if view.whole or (view.mixed and doubt == EXACT and sight.covers):
        return sight.extent, _STILL, 0, None, _WHOLE_INPUT
    return *sight.report, doubt
