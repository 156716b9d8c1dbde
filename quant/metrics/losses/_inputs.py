"""What a loss takes from a batch, by name, and what it refuses; a message says what is there and what is wanted.

The functions here see arrays only: they name a sample by its place in the batch, and `located` says which one that is
among all.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from profiler.errors import DataError, UsageError
from quant.metrics.scores import VOID

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt
    import torch

    from quant.metrics.base import Evaluated

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

T = TypeVar("T")

REFERENCE, INPUT, NONE = "reference", "input", "none"
SUM_TOLERANCE = 1e-3  # of probabilities: float16 softmax


IGNORING = "; ignore=N leaves one label out"


class SampleError(DataError):
    """Something is wrong with one sample.

    Args:
        message: with `{sample}` where its number goes.
        index: its place in the batch.
    """

    def __init__(self, message: str, index: int) -> None:
        super().__init__(message.replace("{sample}", f"sample {index}"))
        self.message = message
        self.index = index


@contextmanager
def located(batch: Evaluated) -> Iterator[None]:
    """Samples named by their number among all.

    Raises:
        DataError: what came out of it.
    """
    try:
        yield
    except SampleError as error:
        number = batch.sample(error.index)
        raise DataError(error.message.replace("{sample}", f"sample {number}")) from error


def tensor(array: npt.ArrayLike) -> torch.Tensor:
    """An array as a tensor in double precision."""
    import torch

    return torch.from_numpy(np.array(array, dtype=np.float64))


def per_sample(values: npt.ArrayLike) -> Floats:
    """The mean of every sample's values: (n, ...) -> (n,)."""
    found = np.asarray(values, dtype=np.float64)
    return np.asarray(found.reshape(len(found), -1).mean(axis=1), dtype=np.float64)


def output_of(batch: Evaluated, name: str | int = "") -> np.ndarray:
    """An output by its name or its position, the first where neither is given.

    Raises:
        UsageError: there is none.
    """
    return _picked(batch.outputs, name, "output")


def label_of(batch: Evaluated, name: str) -> np.ndarray:
    """Labels by their name.

    Raises:
        UsageError: there are none.
    """
    if name not in batch.labels:
        has = f"has {_listed(batch.labels)}" if batch.labels else "has none"
        raise UsageError(f"the labels {name!r} are needed, and the data {has}")
    return np.asarray(batch.labels[name])


def target_of(batch: Evaluated, name: str, output: str | int = "") -> np.ndarray:
    """Labels by their name; `reference` is the first model's output, `input` the model's (first) input.

    Raises:
        UsageError: there is none.
    """
    if name == REFERENCE:
        return _picked(batch.reference, output, "reference output")
    if name == INPUT:
        return _picked(batch.inputs, "", "input")
    return label_of(batch, name)


def needed(*names: str) -> tuple[str, ...]:
    """The labels among targets."""
    return tuple(dict.fromkeys(name for name in names if name not in (REFERENCE, INPUT, NONE, "")))


def name_of(arrays: Mapping[str, np.ndarray], name: str | int, what: str) -> str:
    """The name of an array that is given by name or position, the first by neither.

    Raises:
        UsageError: there is none.
    """
    names = list(arrays)
    if str(name) in arrays:
        return str(name)
    position = 0 if name == "" else int(name) if str(name).isdecimal() else len(names)
    if position >= len(names):
        raise UsageError(f"there is no {what} {str(name)!r}; there is {_listed(names) or 'none'}")
    return names[position]


def _picked(arrays: Mapping[str, np.ndarray], name: str | int, what: str) -> np.ndarray:
    return np.asarray(arrays[name_of(arrays, name, what)])


def _listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(map(repr, names))


def same_shape(output: np.ndarray, target: np.ndarray, what: str = "labels") -> tuple[Floats, Floats]:
    """Both in double precision and of one shape; axes of size 1 may differ, as between (n, 1) and (n,).

    Raises:
        DataError: other shapes, which would broadcast to what nobody meant; labels that are not finite.
    """
    narrow = [tuple(size for size in x.shape[1:] if size != 1) for x in (output, target)]
    if len(output) != len(target) or narrow[0] != narrow[1]:
        raise DataError(f"the output has the size {output.shape}, the {what} {target.shape}; they have to be the same")
    found = target.astype(np.float64).reshape(output.shape)
    if not np.isfinite(found).all():
        raise SampleError(f"the {what} of {{sample}} hold NaN or infinity", first_of(~np.isfinite(found)))
    return output.astype(np.float64), found


def classes_of(labels: np.ndarray, output: np.ndarray, ignored: int | None = None, hint: str = "") -> Integers:
    """Classes of shape (n, ...) for scores (n, C, ...), as integers.

    Args:
        labels: classes.
        output: scores.
        ignored: a label that need not be a class.
        hint: what to do about labels that are none.

    Raises:
        DataError: another shape, fractions, or a class that the model does not have, with the sample that has it.
    """
    if output.ndim < 2 or output.shape[1] < 2:
        raise DataError(f"the output has the size {output.shape}; two classes or more are wanted along its second axis")
    shape = (len(output), *output.shape[2:])
    if labels.size != int(np.prod(shape)) or len(labels) != len(output):
        raise DataError(f"the labels have the size {labels.shape}; an output of {output.shape} calls for {shape}")
    return whole(labels.reshape(shape), 0, output.shape[1] - 1, "the model's classes", ignored, hint)


def ignored_label(given: int | None, output: np.ndarray) -> int | None:
    """The label that does not count: what was said, or in maps 255 where that is no class."""
    return VOID if given is None and output.ndim > 2 and output.shape[1] <= VOID else given


def whole(labels: np.ndarray, least: int, most: int, what: str, ignored: int | None = None, hint: str = "") -> Integers:
    """Labels as integers between two limits.

    Raises:
        DataError: fractions, or a label outside the limits, with the sample that has it.
    """
    found = labels.astype(np.int64)
    if not np.array_equal(found, labels):
        raise SampleError("the labels of {sample} are no whole numbers; classes are", first_of(found != labels))
    outside = (found < least) | (found > most)
    if ignored is not None:
        outside &= found != ignored
    if outside.any():
        value = found[outside].flat[0]
        range_of = f"{what} run from {least} to {most}{hint}"
        raise SampleError(f"{{sample}} has the label {value}; {range_of}", first_of(outside))
    return found


def within(values: Floats, least: float, most: float, what: str, hint: str) -> Floats:
    """Values between two limits.

    Raises:
        DataError: one that is not, with its sample and a hint.
    """
    outside = ~((values >= least) & (values <= most))
    if outside.any():
        value = values[outside].flat[0]
        limits = f"{least:g} and {most:g}"
        raise SampleError(f"{what} of {{sample}}: {value:g} is not between {limits}; {hint}", first_of(outside))
    return values


def distributions(values: np.ndarray, what: str, hint: str) -> Floats:
    """Probabilities over axis 1: not negative, each set with the sum 1.

    Raises:
        DataError: some that are not, with their sample and a hint.
    """
    found = within(values.astype(np.float64), 0.0, 1.0 + SUM_TOLERANCE, what, hint)
    off = np.abs(found.sum(axis=1) - 1) > SUM_TOLERANCE
    if off.any():
        raise SampleError(f"{what} of {{sample}} do not have the sum 1; {hint}", first_of(off))
    return found


def same_vectors(**arrays: np.ndarray) -> None:
    """Refuse arrays of vectors that are not all (n, d).

    Raises:
        DataError: another shape, with the names.
    """
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 2 for shape in shapes.values()):
        said = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise DataError(f"vectors of one size (n, d) are wanted, got {said}")


def first_of(wrong: np.ndarray) -> int:
    """The first sample of which something is wrong."""
    return int(np.argmax(wrong.reshape(len(wrong), -1).any(axis=1)))


def numbers(value: Any, name: str) -> Floats:  # noqa: ANN401  # text of the command line, or numbers of a script
    """Numbers from `1`, `1,2.5` or numbers.

    Raises:
        UsageError: something else.
    """
    parts = value.split(",") if isinstance(value, str) else value
    try:
        found = np.atleast_1d(np.asarray(parts, dtype=np.float64))
    except (TypeError, ValueError):
        found = np.array([np.nan])
    if found.ndim != 1 or not np.isfinite(found).all():
        raise UsageError(f"{name}={value} is neither a number nor several with commas between them")
    return found


def optional_whole(value: Any, name: str) -> int | None:  # noqa: ANN401  # as for numbers
    """A whole number from its text, or None from "none".

    Raises:
        UsageError: something else.
    """
    if value in (NONE, None):
        return None
    found = numbers(value, name)
    if len(found) > 1 or found[0] != int(found[0]):
        raise UsageError(f"{name}={value}: one whole number is wanted, or none")
    return int(found[0])


def at_least(least: float, *, above: bool = False, **values: float) -> None:
    """Refuse parameters below a limit, or at it.

    Raises:
        UsageError: one of them is, with its name.
    """
    for name, value in values.items():
        if not (value > least if above else value >= least) or not np.isfinite(value):
            raise UsageError(f"{name}={value:g}: a number {'above' if above else 'of at least'} {least:g} is wanted")


def chosen(table: Mapping[str, T], name: str, parameter: str) -> T:
    """An entry of a table.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in table:
        raise UsageError(f"{parameter}={name}: there is {', '.join(table)}")
    return table[name]
