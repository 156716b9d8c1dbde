"""From both models' records to values, intervals and verdicts.

The first metric is the primary one: its verdict is drawn at 95 %. Every further verdict is one more chance to be wrong,
so the m others share another 5 %: each is drawn from its interval stretched to the confidence 1 - 0.05 / m
(Bonferroni). The intervals that a report shows are the plain ones, at 95 %.
"""

from __future__ import annotations

from dataclasses import replace
from math import isfinite, isnan
from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import DataError
from quant.metrics.base import Draws, Metric
from quant.metrics.results import Comparison, MetricResult
from quant.metrics.statistics import CONFIDENCE, Interval, stretched, verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from quant.metrics.gather import Gathered

UNITS = {"segmentation": "map", "detection": "image"}  # by task; "sample" in others


def compared(
    first: Gathered, second: Gathered, *, task: str, seed: int, limit: float, asked: bool, notes: Sequence[str] = ()
) -> Comparison:
    """Two models' records as results.

    Args:
        first: of the model that the second is judged against.
        second: of the same samples.
        task: what labels and outputs are.
        seed: of every bootstrap.
        limit: the drop that verdicts speak of.
        asked: the metrics were named, so that one without a value is an error.
        notes: what is known already.

    Raises:
        DataError: a metric was asked for that these samples give no value to.
    """
    told = list(notes)
    without = {**first.unfit, **second.unfit}
    plain = {}
    for name, metric in first.metrics.items():
        if name in without:
            continue
        result = _result(name, metric, first, second, UNITS.get(task, metric.unit), seed)
        if isnan(result.int8) or (result.float is None and metric.bounds == (-1.0, 1.0)):
            without[name] = "is undefined where the labels are of one class"
            if asked:
                raise DataError(f"{name}: {without[name]}")
            continue
        plain[name] = result
    told += [
        f"without {' and '.join(name for name in without if without[name] == reason)}: {reason}"
        for reason in dict.fromkeys(without.values())
    ]
    results, shared = _judged(plain, first.metrics, limit)
    matrices = None
    if first.answers is not None and second.answers is not None:
        if first.answers.matrix is not None and second.answers.matrix is not None:
            matrices = first.answers.matrix, second.answers.matrix
        told += [*first.answers.notes("first"), *second.answers.notes("second")]
    return Comparison(results, matrices, second.fidelity, task, (*told, *shared), seed, limit)


def _result(name: str, metric: Metric, first: Gathered, second: Gathered, unit: str, seed: int) -> MetricResult:
    ours, theirs = first.records(name), second.records(name)
    groups = np.concatenate(first.groups) if first.groups else None
    if groups is not None and groups.shape != ours[0].shape[:1]:
        raise DataError(
            f"`groups` has the size {groups.shape}; {name} wants one number for each of {len(ours[0])} {unit}s"
        )
    draws = Draws(len(ours[0]), seed, groups, unit=unit if groups is None else "group")
    if not metric.count(ours):
        raise DataError(f"{name}: every label is ignored; there is nothing to compare")
    before, after = metric.value(ours), metric.value(theirs)
    drop = (before - after) if metric.higher_is_better else (after - before)
    interval, method = metric.interval(ours, theirs, draws) if isfinite(drop) else (None, "")
    return MetricResult(
        name,
        before if isfinite(before) else None,
        after,
        drop if isfinite(drop) else None,
        interval,
        "",
        metric.count(ours),
        metric.higher_is_better,
        method,
        unit,
        metric.p_value(ours, theirs, draws),
        None if interval is None else metric.detectable(ours, interval, drop),
        None,
        {"float": metric.details(ours), "int8": metric.details(theirs)},
    )


def _judged(
    plain: Mapping[str, MetricResult], metrics: Mapping[str, Metric], limit: float
) -> tuple[dict[str, MetricResult], list[str]]:
    """The results with verdicts, and a note on how many were drawn."""
    judged = [name for name, result in plain.items() if result.interval is not None and _can_judge(metrics[name])]
    others = len(judged) - 1
    results = dict(plain)
    for name in judged:
        level = CONFIDENCE if name == judged[0] else 1 - (1 - CONFIDENCE) / others
        interval = _at(plain[name], metrics[name], level)
        bounds = metrics[name].bounds
        words = verdict(interval, limit if np.isfinite(bounds).all() else None, one_sided=bounds[0] == 0)
        results[name] = replace(results[name], verdict=words, adjusted=None if level == CONFIDENCE else level)
    if others < 1:
        return results, []
    level = 1 - (1 - CONFIDENCE) / others
    each = f"the other {others} at {level:.2%} each" if others > 1 else "the other at 95 %"
    note = f"{len(judged)} verdicts: {judged[0]}'s is drawn at 95 %, {each}"
    more = ", so that one of these is wrong in 5 % of such evaluations at most (Bonferroni)" if others > 1 else ""
    return results, [note + more]


def _at(result: MetricResult, metric: Metric, level: float) -> Interval | None:
    if result.interval is None or result.drop is None:
        return None
    low, high = stretched(result.interval, result.drop, 1 - level)
    return Interval(max(low, metric.bounds[0]), min(high, metric.bounds[1]))


def _can_judge(metric: Metric) -> bool:
    """A distance in no known unit is above zero always, and there is no limit to hold it to."""
    return metric.bounds[0] != 0 or bool(np.isfinite(metric.bounds[1]))
