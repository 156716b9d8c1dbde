"""Collecting one model's records batch by batch, and what else the report tells of its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import UsageError
from quant.metrics.base import Evaluated, Metric, UnfitError
from quant.metrics.class_counts import ClassRatio, Right
from quant.metrics.fidelity import Fidelity
from quant.metrics.scores import IGNORED, class_scores, predicted, truth

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quant.metrics.base import Records

MOST_CLASSES = 2000  # of a confusion matrix: 32 MB for each model
MOST_LISTED = 5


class Gathered:
    """The records of one model.

    Args:
        metrics: by name.
        lenient: leave out a metric that the outputs are not fit for; an error where it was asked for.
    """

    def __init__(self, metrics: Mapping[str, Metric], *, lenient: bool) -> None:
        self.metrics = metrics
        self.unfit: dict[str, str] = {}
        self.groups: list[np.ndarray] = []
        self.count = 0
        self._lenient = lenient
        self._parts: dict[str, list[Records]] = {name: [] for name in metrics}
        self._fidelity: list[Fidelity] = []
        classed = [m for m in metrics.values() if isinstance(m, Right | ClassRatio)]
        self.answers = Answers(classed[0].ignore, classed[0].output) if classed else None

    def add(self, batch: Evaluated) -> None:
        """Take what one batch gives.

        Raises:
            DataError: outputs or labels that a metric cannot take.
            UsageError: a metric was asked for that these outputs are not fit for.
        """
        for name, metric in self.metrics.items():
            if name in self.unfit:
                continue
            try:
                self._parts[name].append(metric.collect(batch))
            except UnfitError as error:
                if not self._lenient:
                    raise UsageError(f"{name}: {error}") from error
                self.unfit[name] = str(error)
        if self.answers is not None:
            self.answers.add(batch)
        if ("fidelity", "") in batch.memo:
            self._fidelity.append(batch.memo["fidelity", ""])
        if "groups" in batch.labels:
            self.groups.append(batch.labels["groups"])
        self.count += len(batch.output)

    def records(self, name: str) -> Records:
        """A metric's records of all batches."""
        parts = self._parts[name]
        joined = tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        self._parts[name] = [joined]
        return joined

    @property
    def fidelity(self) -> Fidelity | None:
        """Per-sample closeness of the first output to the reference's, where a metric asked for it."""
        if not self._fidelity:
            return None
        columns = zip(*(vars(part).values() for part in self._fidelity), strict=True)
        return Fidelity(*(np.concatenate(arrays) for arrays in columns))


class Answers:
    """A classifier's confusion matrix, and how often its best score was tied."""

    def __init__(self, ignore: int | None, output: str) -> None:
        self.ignore = ignore
        self.output = output
        self.classes = 0
        self.tied = 0
        self.matrix: np.ndarray | None = None

    def add(self, batch: Evaluated) -> None:
        """Count one batch."""
        scores = class_scores(batch, self.output)
        labels, named = truth(batch, self.ignore, self.output), predicted(batch, self.output)
        self.classes = scores.shape[1]
        kept = labels != IGNORED
        best = np.take_along_axis(scores, named[:, None], axis=1)
        self.tied += int((((scores == best).sum(axis=1) > 1) & kept).sum())
        if self.classes > MOST_CLASSES:
            return
        if self.matrix is None:
            self.matrix = np.zeros((self.classes, self.classes), np.int64)
        cells = labels[kept] * self.classes + named[kept]
        self.matrix += np.bincount(cells, minlength=self.classes**2).reshape(self.matrix.shape)

    def notes(self, which: str) -> list[str]:
        """Ties, and ratios that are 0/0: what scikit-learn warns of."""
        notes = []
        if self.tied:  # an int8 model has few values to give
            notes.append(f"the {which} model's best score is tied {self.tied} times; the first of the classes counts")
        if self.matrix is None:
            return [*notes, f"no confusion matrix is kept of {self.classes} classes"] if which == "first" else notes
        actual, named = self.matrix.sum(axis=1), self.matrix.sum(axis=0)
        cases = (
            (np.flatnonzero((named == 0) & (actual > 0)), "precision is 0/0, taken as 0, in classes it never predicts"),
            (np.flatnonzero((actual == 0) & (named > 0)), "recall is 0/0, taken as 0, in classes without a sample"),
        )
        return [*notes, *(f"the {which} model's {words}: {_listed(found)}" for found, words in cases if len(found))]


def _listed(classes: np.ndarray) -> str:
    shown = ", ".join(str(k) for k in classes[:MOST_LISTED])
    return shown if len(classes) <= MOST_LISTED else f"{shown} and {len(classes) - MOST_LISTED} more"
