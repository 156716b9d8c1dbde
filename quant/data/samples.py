"""Samples in memory: one array per model input, labels where there are any, checked once when they are put together."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from profiler.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Task = Literal["classification", "segmentation"]

_ROWS = 256  # checked for NaN at a time, so that the check needs little memory of its own


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
        inputs: input name -> array of shape (n, ...). A single array called "x" stands for the model's only input.
        labels: array of shape (n, ...), None where there are none.
        name: where the samples come from; used in messages and reports.
        task: what the labels mean, None where it is not known.
        further: more arrays of shape (n, ...) that metrics take, such as `boxes`, `lengths` or `groups`.

    Raises:
        DataError: no input; an array that is empty, of Python objects, or holds NaN or infinity; unequal lengths; an
            unknown task.
    """

    inputs: Mapping[str, np.ndarray] = field(repr=False)
    labels: np.ndarray | None = field(repr=False)
    name: str
    task: Task | None = None
    further: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", dict(self.inputs))  # later changes to the caller's dictionary are not ours
        if not self.inputs:
            raise DataError(f"{self.name}: there is no input array")
        arrays = {f"input {name!r}": array for name, array in self.inputs.items()}
        if self.labels is not None:
            arrays["labels"] = self.labels
        arrays |= {f"labels {name!r}": array for name, array in self.further.items()}
        for what, array in arrays.items():
            if problem := _problem(array):
                raise DataError(f"{self.name}: {what} {problem}")
        if len({len(array) for array in arrays.values()}) > 1:
            lengths = ", ".join(f"{what}: {len(array)}" for what, array in arrays.items())
            raise DataError(f"{self.name}: the arrays differ in their number of samples ({lengths})")
        if self.task not in (None, *get_args(Task)):
            raise DataError(f"{self.name}: unknown task {self.task!r}; known are {', '.join(get_args(Task))}")

    def __len__(self) -> int:
        """The number of samples."""
        return len(next(iter(self.inputs.values())))

    def batches(self, size: int) -> Iterator[Batch]:
        """The samples in order, `size` at a time, the last batch with what is left; arrays are views.

        Raises:
            UsageError: a size below 1.
        """
        if size < 1:
            raise UsageError(f"a batch holds at least one sample, got {size}")
        labels = {**({} if self.labels is None else {"y": self.labels}), **self.further}
        for start in range(0, len(self), size):
            positions = np.arange(start, min(start + size, len(self)))
            part = slice(start, start + size)
            yield Batch(
                {name: array[part] for name, array in self.inputs.items()},
                {name: array[part] for name, array in labels.items()},
                positions,
            )

    def take(self, indices: Sequence[int] | np.ndarray) -> Samples:
        """The samples at these positions, in the order given.

        Raises:
            UsageError: a position that does not exist.
            DataError: no position at all.
        """
        positions = np.asarray(indices, dtype=np.intp)
        if outside := [int(i) for i in positions if not 0 <= i < len(self)]:
            raise UsageError(f"{self.name}: there is no sample {outside[0]}; there are {len(self)}, counted from 0")
        return replace(
            self,
            inputs={name: array[positions] for name, array in self.inputs.items()},
            labels=None if self.labels is None else self.labels[positions],
            further={name: array[positions] for name, array in self.further.items()},
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


def _problem(array: object) -> str | None:
    """What makes an array unusable, None if nothing does."""
    if not isinstance(array, np.ndarray):
        return f"is a {type(array).__name__}; expected a NumPy array"
    if array.ndim == 0:
        return "is a single value; expected an array whose first axis counts the samples"
    if array.size == 0:
        return f"is empty: its shape is {array.shape}"
    if array.dtype.hasobject:
        return "holds Python objects; expected numbers"
    if np.issubdtype(array.dtype, np.inexact) and (sample := _first_not_finite(array)) is not None:
        return f"holds NaN or infinity, first in sample {sample}"
    return None


def _first_not_finite(array: np.ndarray) -> int | None:
    for start in range(0, len(array), _ROWS):
        finite = np.isfinite(array[start : start + _ROWS])
        if not finite.all():
            return start + int(np.argmin(finite.reshape(len(finite), -1).all(axis=1)))
    return None
