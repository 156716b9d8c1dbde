"""What the labels mean, from their sizes and those of the outputs, and the metrics that such a task reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import DataError, UsageError
from quant.metrics.registry import default_metrics, parse, tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from quant.metrics.base import Metric

    Shape = tuple[int, ...]

FIDELITY = "fidelity"
OTHER = "other"  # labels that go with no task; metrics are named for them
MOST_OUTPUTS = 8  # of which fidelity is reported one by one
_NOT_ABOUT_SAMPLES = ("groups",)  # further labels that say nothing about the task


def guessed(outputs: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]) -> tuple[str, str]:
    """The task, and what it was taken from, in words.

    Args:
        outputs: of the first samples.
        labels: of the same samples, by name.

    Raises:
        DataError: labels that go with no task known.
    """
    first = next(iter(outputs.values()))
    if "boxes" in labels:
        return "detection", "the labels hold boxes"
    if "y" not in labels:
        others = [name for name in labels if name not in _NOT_ABOUT_SAMPLES]
        return FIDELITY, f"no labels `y`, only {', '.join(others)}" if others else ""
    y = labels["y"]
    seen = f"outputs {_each(first)}, labels {_each(y)} of {y.dtype}"
    for task, fits in _SHAPES.items():
        if fits(first.shape[1:], y.shape[1:], y):
            return task, seen
    raise DataError(
        f"labels of {_each(y)} for a sample do not go with outputs of {_each(first)}: expected is one class for "
        "outputs of (C,), a map of classes for (C, H, W), or as many values as the model gives"
    )


def _each(array: np.ndarray) -> str:
    return str(tuple(array.shape[1:])) if array.ndim > 1 else "()"


def _whole(y: np.ndarray) -> bool:
    return np.issubdtype(y.dtype, np.integer) or y.dtype == bool or bool((y == np.floor(y)).all())


def _yes_or_no(y: np.ndarray) -> bool:
    return bool(np.isin(y[np.isfinite(y)] if y.dtype.kind == "f" else y, (0, 1)).all())


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=int))


# Task -> whether one sample's output and label of these shapes speak of it; the first that does.
_SHAPES: dict[str, Callable[[Shape, Shape, np.ndarray], bool]] = {
    "classification": lambda out, label, y: (
        _size(label) == 1
        and ((_size(out) > 1 and _size(out) == out[0]) or (_size(out) == 1 and y.dtype.kind in "iub" and _yes_or_no(y)))
    ),
    "segmentation": lambda out, label, y: (
        len(out) > 1 and _whole(y) and label in (out[1:], (1, *out[1:])) and not (out[0] == 1 and not _yes_or_no(y))
    ),
    "multilabel": lambda out, label, y: out == label and y.dtype.kind in "iub" and _yes_or_no(y) and _size(out) > 1,
    "regression": lambda out, label, _y: _size(out) == _size(label),
}


def chosen(
    task: str, asked: Sequence[str] | None, outputs: Mapping[str, np.ndarray], labels: Sequence[str]
) -> dict[str, Metric]:
    """The metrics to report, by name: those asked for, or the task's default set.

    Args:
        task: what labels and outputs are.
        asked: texts that `parse` reads; None for the default set.
        outputs: of the first samples.
        labels: names of the labels that the data has.

    Raises:
        UsageError: an unknown metric, one that lacks its labels, or a task without metrics.
    """
    metrics = {}
    for text in asked or _default_set(task, outputs):
        spec = parse(text)
        metric = metrics[spec.title] = spec.build()
        if missing := [name for name in metric.needs if name not in labels]:
            have = f"it has {', '.join(map(repr, labels))}" if labels else "the data has none"
            raise UsageError(f"the metric {spec.title} needs labels {', '.join(map(repr, missing))}; {have}")
    return metrics


def _default_set(task: str, outputs: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    names = default_metrics(task)
    if not names:
        raise UsageError(f"no metrics belong to the task {task!r}; name some, or a task of {', '.join(tasks())}")
    first = next(iter(outputs.values()))
    if task == "classification" and (first.ndim < 2 or first[0].size <= 2):
        return (*names, *default_metrics("binary"))
    if task == FIDELITY and len(outputs) > 1:
        further = list(outputs)[1:MOST_OUTPUTS]
        return (*names, *(f"{name}:output={key}" for key in further for name in ("sqnr", "cosine", "max_error")))
    return names
