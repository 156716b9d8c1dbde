"""Every metric by its name, in one table.

A metric compares two models on the same samples and gives a `MetricResult`. `needs_labels` says which of the two kinds
it is: accuracy against the truth, or fidelity of the second model to the first.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import UsageError
from quant.metrics import confusion, statistics
from quant.metrics.statistics import Interval

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from quant.metrics.confusion import PairedCounts, Statistic
    from quant.metrics.fidelity import Fidelity


Number = float  # the name that a field of the class below takes for itself


@dataclass(frozen=True)
class MetricResult:
    """One metric of both models.

    Attributes:
        name: in the registry.
        float: value of the first model; None where it has none (a model's fidelity to itself may be infinite).
        int8: value of the second model.
        drop: how much worse the second model is: positive is worse, whichever direction is better.
        interval: of the drop, at 95 %.
        verdict: "lost", "gained", "within LIMIT", "cannot tell", or "" where there is none to give.
        n: units that were compared.
        higher_is_better: the direction.
        method: how the interval was made.
    """

    name: str
    float: Number | None
    int8: Number
    drop: Number | None
    interval: Interval | None
    verdict: str
    n: int
    higher_is_better: bool
    method: str


@dataclass(frozen=True)
class Evidence:
    """What metrics are computed from: counts where there are labels, fidelity always."""

    counts: PairedCounts | None
    fidelity: Fidelity
    seed: int
    limit: float


@dataclass(frozen=True)
class Metric:
    """An entry of the registry.

    Attributes:
        compute: from the evidence to the result; the name is filled in.
        needs_labels: whether it compares with the truth.
        higher_is_better: the direction.
        tasks: where it belongs to the default set.
    """

    compute: Callable[[str, Metric, Evidence], MetricResult]
    needs_labels: bool
    higher_is_better: bool = True
    tasks: tuple[str, ...] = ()


def _accuracy(name: str, metric: Metric, evidence: Evidence) -> MetricResult:
    counts = _counts(evidence)
    if counts.truth.ndim > 1:  # the pixels of a map depend on each other: maps are drawn, not pixels
        return _from_counts(confusion.accuracy)(name, metric, evidence)
    first, second = (float((p == counts.truth).mean()) for p in (counts.first, counts.second))
    interval = statistics.tango_interval(*counts.discordant, counts.units)
    words = statistics.verdict(interval, evidence.limit)
    return _result(name, metric, (first, second, first - second), interval, words, counts.units, "Tango score interval")


def _counts(evidence: Evidence) -> PairedCounts:
    if evidence.counts is None:
        raise UsageError("this metric needs labels, and the data has none")
    return evidence.counts


def _from_counts(statistic: Statistic) -> Callable[[str, Metric, Evidence], MetricResult]:
    def compute(name: str, metric: Metric, evidence: Evidence) -> MetricResult:
        counts = _counts(evidence)
        first, second = (float(statistic(counts.counts(p))) for p in (counts.first, counts.second))
        interval, method = counts.interval(statistic, evidence.seed)
        words = statistics.verdict(interval, evidence.limit)
        return _result(name, metric, (first, second, first - second), interval, words, counts.units, method)

    return compute


def _agreement(name: str, metric: Metric, evidence: Evidence) -> MetricResult:
    values = evidence.fidelity.agreement
    mean, n = float(values.mean()), len(values)
    if np.isin(values, (0.0, 1.0)).all():
        low, high = statistics.wilson_interval(int(values.sum()), n)
        interval, method = Interval(1 - high, 1 - low), "Wilson score interval"
    else:
        inner = statistics.mean_interval(1 - values, evidence.seed)
        interval, method = inner, f"bootstrap over samples, seed {evidence.seed}"
    words = statistics.verdict(interval, evidence.limit, one_sided=True)
    return _result(name, metric, (1.0, mean, 1.0 - mean), interval, words, n, method)


def _kl(name: str, metric: Metric, evidence: Evidence) -> MetricResult:
    values = evidence.fidelity.kl
    interval = statistics.mean_interval(values, evidence.seed)
    mean, method = float(values.mean()), f"bootstrap over samples, seed {evidence.seed}"
    # No verdict: the limit is a part of the samples, and this is in nats.
    return _result(name, metric, (0.0, mean, mean), interval, "", len(values), method)


def _summary(pick: Callable[[Fidelity], float], ideal: float | None) -> Callable[[str, Metric, Evidence], MetricResult]:
    """A figure without an interval."""

    def compute(name: str, metric: Metric, evidence: Evidence) -> MetricResult:
        value = pick(evidence.fidelity)
        drop = None if ideal is None else (ideal - value if metric.higher_is_better else value - ideal)
        return _result(name, metric, (ideal, value, drop), None, "", len(evidence.fidelity.cosine), "")

    return compute


def _result(
    name: str,
    metric: Metric,
    values: tuple[float | None, float, float | None],
    interval: Interval | None,
    words: str,
    n: int,
    method: str,
) -> MetricResult:
    first, second, drop = values
    return MetricResult(name, first, second, drop, interval, words, n, metric.higher_is_better, method)


def _labelled(statistic: Statistic, *tasks: str) -> Metric:
    return Metric(_from_counts(statistic), needs_labels=True, tasks=tasks)


_RATIOS = {
    "precision": confusion.precision_parts,
    "recall": confusion.recall_parts,
    "f1": confusion.f1_parts,
}
_BOTH = ("classification", "segmentation")

METRICS: Mapping[str, Metric] = {
    "accuracy": Metric(_accuracy, needs_labels=True, tasks=_BOTH),
    **{name: _labelled(confusion.averaged(parts, "macro"), *_BOTH) for name, parts in _RATIOS.items()},
    **{
        f"{name}:average={average}": _labelled(confusion.averaged(parts, average))
        for name, parts in _RATIOS.items()
        for average in ("macro", "micro", "weighted")
    },
    "iou": _labelled(confusion.averaged(confusion.iou_parts, "macro"), "segmentation"),
    "agreement": Metric(_agreement, needs_labels=False, tasks=("fidelity",)),
    "sqnr": Metric(_summary(lambda f: float(np.median(f.sqnr_db)), None), needs_labels=False, tasks=("fidelity",)),
    "kl": Metric(_kl, needs_labels=False, higher_is_better=False, tasks=("fidelity",)),
    "cosine": Metric(_summary(lambda f: float(f.cosine.mean()), 1.0), needs_labels=False, tasks=("fidelity",)),
    "max_error": Metric(
        _summary(lambda f: float(f.largest.max()), 0.0), needs_labels=False, higher_is_better=False, tasks=("fidelity",)
    ),
}


def find(name: str) -> Metric:
    """The metric of that name.

    Raises:
        UsageError: there is none; close names are listed.
    """
    if name not in METRICS:
        close = difflib.get_close_matches(name, METRICS, n=3) or sorted(METRICS)
        raise UsageError(f"no metric named {name!r}; there is {', '.join(close)}")
    return METRICS[name]


def default_metrics(task: str) -> tuple[str, ...]:
    """The names that a task reports when none are asked for."""
    return tuple(name for name, metric in METRICS.items() if task in metric.tasks)
