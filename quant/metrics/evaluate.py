"""Two models' outputs on the same samples, as metrics with intervals and verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import DataError, UsageError
from quant.metrics.base import Evaluated
from quant.metrics.gather import Gathered
from quant.metrics.registry import tasks
from quant.metrics.scores import LOGITS, PROBABILITIES, are_probabilities
from quant.metrics.tasks import FIDELITY, OTHER, chosen, guessed
from quant.metrics.verdicts import compared

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from quant.metrics.results import Comparison

LIMIT = 0.01
HELD_AT_ONCE = 4_000_000  # numbers of a model's outputs


def compare_outputs(
    first: np.ndarray | Mapping[str, np.ndarray],
    second: np.ndarray | Mapping[str, np.ndarray],
    labels: np.ndarray | Mapping[str, np.ndarray] | None,
    *,
    task: str | None = None,
    metrics: Sequence[str] | None = None,
    seed: int = 0,
    limit: float = LIMIT,
) -> Comparison:
    """Compare two models' outputs that are in memory.

    Args:
        first: scores of the first model, (n, C) or (n, C, ...) with one set of scores per position; (n,) or (n, 1) of
            a model that says yes or no; or several outputs by name.
        second: of the second model, alike.
        labels: classes, (n,) or (n, ...); or several by name, the classes as `y`; None compares the outputs with each
            other.
        task: "classification", "segmentation", or another that metrics belong to; guessed from the shapes where None.
        metrics: as for `quant.metrics.registry.parse`; the task's default set where None.
        seed: of every bootstrap.
        limit: the drop that verdicts speak of.

    Raises:
        DataError: shapes that do not go together, labels out of range, outputs that are not finite.
        UsageError: an unknown metric, or one that needs labels where there are none.
    """
    ours, theirs = (dict(x) if not isinstance(x, np.ndarray) else {"output": x} for x in (first, second))
    truths = {} if labels is None else {"y": labels} if isinstance(labels, np.ndarray) else dict(labels)
    count = len(next(iter(ours.values())))
    if not count or not next(iter(ours.values())).size:
        raise DataError(f"there is nothing to compare: the outputs have the size {next(iter(ours.values())).shape}")
    for array in truths.values():
        if len(array) != count:
            raise DataError(f"labels have the size {array.shape}; outputs of {count} samples call for as many")
        if array.dtype.kind not in "fiub":
            raise DataError(f"labels hold {array.dtype}; expected numbers, such as classes from 0")
    task, notes = settled_task(task, ours, truths, asked=metrics is not None)
    check_alike(ours, theirs, task)
    kinds = {name: kind_of(array) for name, array in ours.items()}
    notes += probability_notes(ours, kinds)
    several = chosen(task, metrics, ours, tuple(truths))
    gathered = [Gathered(several, lenient=metrics is None) for _ in range(2)]
    rows = max(1, HELD_AT_ONCE // max(1, *(array[:1].size for array in ours.values())))
    for start in range(0, count, rows):
        part = slice(start, start + rows)
        reference, other = ({name: array[part] for name, array in outputs.items()} for outputs in (ours, theirs))
        positions = np.arange(start, min(start + rows, count))
        for into, outputs, which in zip(gathered, (reference, other), ("first", "second"), strict=True):
            check_finite(outputs, which, positions)
            known = {name: array[part] for name, array in truths.items()}
            into.add(Evaluated(outputs, known, reference=reference, kinds=kinds, positions=positions))
    return compared(*gathered, task=task, seed=seed, limit=limit, asked=metrics is not None, notes=notes)


def settled_task(
    task: str | None, outputs: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray], *, asked: bool = False
) -> tuple[str, list[str]]:
    """The task that was given, or the one guessed and a note that says so.

    Args:
        task: None for a guess.
        outputs: of the first samples.
        labels: of the same samples, by name.
        asked: metrics are named: labels that go with no task, such as sequences, are "other".

    Raises:
        UsageError: a task that no metric belongs to.
        DataError: labels that go with no task.
    """
    if task is None:
        try:
            guess, seen = guessed(outputs, labels)
        except DataError:
            if asked:
                return OTHER, []
            raise
        return guess, [f"taken as {guess}: {seen}"] if seen else []
    if task not in tasks():
        raise UsageError(f"no task {task!r}; there is {', '.join(tasks())}")
    if not labels:
        return FIDELITY, []
    if task in ("classification", "segmentation") and "y" in labels:
        guess, seen = guessed(outputs, labels)
        if {guess, task} == {"classification", "segmentation"}:
            raise DataError(f"{seen} are {guess}, not {task}")
    return task, []


def kind_of(array: np.ndarray) -> str:
    """Whether scores are probabilities or logits."""
    return PROBABILITIES if are_probabilities(array) else LOGITS


def probability_notes(outputs: Mapping[str, np.ndarray], kinds: Mapping[str, str]) -> list[str]:
    """That no softmax is taken of the first output, where none is."""
    name, array = next(iter(outputs.items()))
    several = array.ndim > 1 and array.shape[1] > 1
    known = several and kinds[name] == PROBABILITIES
    return ["the outputs are probabilities; KL is taken of them as they are"] if known else []


def check_alike(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray], task: str) -> None:
    """Refuse outputs of unequal shape; detectors may find another number of things.

    Raises:
        DataError: they are.
    """
    if list(first) != list(second):
        raise DataError(f"the two models' outputs differ in name: {', '.join(first)} and {', '.join(second)}")
    for name in first:
        if first[name].shape != second[name].shape and task != "detection":
            raise DataError(f"the two models' outputs differ in size: {first[name].shape} and {second[name].shape}")


def check_finite(outputs: Mapping[str, np.ndarray], which: str, positions: np.ndarray) -> None:
    """Refuse NaN and infinity.

    Raises:
        DataError: there is some; the sample is named.
    """
    for array in outputs.values():
        if array.dtype.kind == "f" and not (fine := np.isfinite(array.reshape(len(array), -1)).all(axis=1)).all():
            raise DataError(
                f"the {which} model gives infinite or undefined outputs for {int((~fine).sum())} samples, "
                f"the first of them sample {int(positions[fine.argmin()])}"
            )
