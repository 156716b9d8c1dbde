"""Samples: one column per model input, labels where there are any.

Columns may be arrays in memory or stay where they are (`quant.data.columns`). Small arrays are checked when they are
put together, everything else a batch at a time as it is read.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from profiler.errors import DataError, UsageError
from quant.data.batching import not_finite, read_together
from quant.data.checks import first_not_finite, form_problem
from quant.data.columns import in_memory, patchy, selected

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from quant.data.columns import Column

Task = Literal["classification", "segmentation", "detection", "multilabel", "regression"]

_MOST_NAMED = 3


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples in memory.

    Attributes:
        inputs: by name, shape (b, ...).
        labels: `y` where there are labels, and those of `Samples.further` by their names; shape (b, ...).
        positions: of these samples among all, shape (b,).
    """

    inputs: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray]
    positions: np.ndarray

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.positions)


@dataclass(frozen=True, eq=False)
class Samples:
    """What a model is fed, and what it should answer.

    Attributes:
        inputs: input name -> column of shape (n, ...). A single column called "x" stands for the model's only input.
        labels: column of shape (n, ...), None where there are none.
        name: where the samples come from; used in messages and reports.
        task: what the labels mean, None where it is not known.
        further: more columns of shape (n, ...) that metrics take, such as `boxes`, `lengths` or `groups`.
        notes: what was taken for granted when the data were opened, in sentences.
        classes: how many there are, where they were numbered in the order of their names and not by the user; None
            where that is not so.

    Raises:
        DataError: no input; a column that is empty, of Python objects, or in memory and holds NaN or infinity; labels
            that are no numbers; unequal lengths; an unknown task.
    """

    inputs: Mapping[str, Column] = field(repr=False)
    labels: Column | None = field(repr=False)
    name: str
    task: Task | None = None
    further: Mapping[str, Column] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()
    classes: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", dict(self.inputs))  # later changes to the caller's dictionary are not ours
        if not self.inputs:
            raise DataError(f"{self.name}: there is no input array")
        inputs, labels = self._described()
        columns = inputs | labels
        for what, column in columns.items():
            if problem := form_problem(column):
                raise DataError(f"{self.name}: {what} {problem}")
            if what in labels and column.dtype.kind not in "fiub":
                raise DataError(f"{self.name}: {what} hold {column.dtype}; expected numbers, such as classes from 0")
            if in_memory(column) and (sample := first_not_finite(column)) is not None:
                raise DataError(not_finite(f"{self.name}: {what}", sample))
        if len({len(column) for column in columns.values()}) > 1:
            lengths = ", ".join(f"{what}: {len(column)}" for what, column in columns.items())
            raise DataError(f"{self.name}: the arrays differ in their number of samples ({lengths})")
        if self.task not in (None, *get_args(Task)):
            raise DataError(f"{self.name}: unknown task {self.task!r}; known are {', '.join(get_args(Task))}")

    def _described(self) -> tuple[dict[str, Column], dict[str, Column]]:
        """Inputs and labels under the words that messages use for them."""
        labels = {} if self.labels is None else {"labels": self.labels}
        further = {f"labels {name!r}": column for name, column in self.further.items()}
        return {f"input {name!r}": column for name, column in self.inputs.items()}, labels | further

    def __len__(self) -> int:
        """The number of samples."""
        return len(next(iter(self.inputs.values())))

    @property
    def skipped(self) -> tuple[str, ...]:
        """What was found to be unreadable so far and left out, with the reason, in the order of the samples."""
        found = []
        for column in self.inputs.values():
            if patch := patchy(column):
                base, positions = patch
                found += [base.unreadable[p] for p in sorted(set(positions.tolist()) & set(base.unreadable))]
        return tuple(found)

    def remarks(self) -> tuple[str, ...]:
        """For a report: the notes, and after the samples were read what was skipped, in sentences."""
        skipped = self.skipped
        if not skipped:
            return self.notes
        shown = "; ".join(skipped[:_MOST_NAMED])
        more = f" and {len(skipped) - _MOST_NAMED} more" if len(skipped) > _MOST_NAMED else ""
        return *self.notes, f"{self.name}: skipped {len(skipped)} of {len(self)} samples: {shown}{more}"

    def check_classes(self, outputs: tuple[int, ...]) -> None:
        """Compare the number of classes with a model's outputs (n, C, ...), where their numbers were made up here.

        Raises:
            DataError: they differ, so that the numbers cannot be the model's.
        """
        if self.classes is not None and len(outputs) > 1 and outputs[1] not in (1, self.classes):
            raise DataError(
                f"{self.name}: has {self.classes} classes, numbered in the order of their names, and the model tells "
                f"{outputs[1]} apart; give --classes FILE with the model's names in its order"
            )

    def batches(self, size: int) -> Generator[Batch]:
        """The samples in order, `size` at a time, the last batch with what is left.

        Images are decoded ahead in other threads. One that cannot be read is left out: its batch is smaller, and
        `skipped` names it. Of samples so large that a batch would take more than 256 MiB fewer are taken.

        Raises:
            UsageError: a size below 1.
            DataError: NaN or infinity, a file that is damaged, or no sample at all that can be read.
        """
        if size < 1:
            raise UsageError(f"a batch holds at least one sample, got {size}")
        inputs, labels = self._described()
        some = False
        with closing(read_together(inputs | labels, size, self.name)) as batches:
            for parts, positions in batches:
                some = True
                answers = ["y"] * (self.labels is not None) + list(self.further)
                yield Batch(
                    dict(zip(self.inputs, (parts[what] for what in inputs), strict=True)),
                    dict(zip(answers, (parts[what] for what in labels), strict=True)),
                    positions,
                )
        if not some:
            raise DataError(f"{self.name}: none of the {len(self)} samples can be read; the first: {self.skipped[0]}")

    def first(self, count: int) -> Batch:
        """The first samples that can be read, in memory: as many as asked for, or as there are.

        Raises:
            DataError: as `batches`.
        """
        found: list[Batch] = []
        with closing(self.batches(count)) as batches:
            for batch in batches:
                found.append(batch)
                if sum(map(len, found)) >= count:
                    break
        return _joined(found, count)

    def read_labels(self) -> np.ndarray | None:
        """The labels of the samples that `batches` gives, in memory; None where there are none.

        After the samples were gone through once: only then it is known which can be read.
        """
        if self.labels is None:
            return None
        lost: set[int] = set()
        for column in self.inputs.values():
            if patch := patchy(column):
                lost |= set(np.flatnonzero(np.isin(patch[1], list(patch[0].unreadable))).tolist())
        whole = np.asarray(self.labels[:])
        return np.delete(whole, sorted(lost), axis=0) if lost else whole

    def take(self, indices: Sequence[int] | np.ndarray) -> Samples:
        """The samples at these positions, in the order given; what is not in memory is read when it is asked for.

        Raises:
            UsageError: a position that does not exist.
            DataError: no position at all.
        """
        positions = np.asarray(indices, dtype=np.intp)
        if outside := [int(i) for i in positions if not 0 <= i < len(self)]:
            raise UsageError(f"{self.name}: there is no sample {outside[0]}; there are {len(self)}, counted from 0")
        return replace(
            self,
            inputs={name: selected(column, positions) for name, column in self.inputs.items()},
            labels=None if self.labels is None else selected(self.labels, positions),
            further={name: selected(column, positions) for name, column in self.further.items()},
        )

    def split(self, holdout: int, seed: int) -> tuple[Samples, Samples]:
        """The samples without `holdout` of them drawn at random by `seed`, and those; each part in the order it had.

        Raises:
            DataError: there are too few samples for both parts to have one.
        """
        if not 0 < holdout < len(self):
            raise DataError(
                f"{self.name}: cannot hold back {holdout} of {len(self)} samples: both parts need at least 1"
            )
        order = np.random.default_rng(seed).permutation(len(self))
        return self.take(np.sort(order[holdout:])), self.take(np.sort(order[:holdout]))

    def renamed(self, input_names: Sequence[str]) -> Samples:
        """The samples under the model's input names and in their order; a single array "x" takes an only input's name.

        Raises:
            DataError: an input has no array, or an array no input.
        """
        if list(self.inputs) == ["x"] and len(input_names) == 1:
            return replace(self, inputs={input_names[0]: self.inputs["x"]})
        if set(self.inputs) != set(input_names):
            got, expected = (", ".join(map(repr, names)) for names in (self.inputs, input_names))
            hint = ", or 'x'" if len(input_names) == 1 else ""
            raise DataError(f"{self.name}: holds the arrays {got}; the model's inputs are {expected}{hint}")
        return replace(self, inputs={name: self.inputs[name] for name in input_names})


def _joined(batches: Sequence[Batch], count: int) -> Batch:
    """Batches as one, cut to so many samples."""

    def whole(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}

    positions = np.concatenate([batch.positions for batch in batches])[:count]
    return Batch(whole([b.inputs for b in batches]), whole([b.labels for b in batches]), positions)
