"""Reading columns side by side, a batch at a time: values are checked, and samples that cannot be read left out."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import DataError
from quant.data.checks import first_not_finite
from quant.data.columns import bytes_of, in_memory, origin, patchy

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from quant.data.columns import Column

# Of larger samples fewer go into a batch than asked for.
BATCH_BYTES = 256 << 20


def read_together(
    columns: Mapping[str, Column], size: int, name: str
) -> Generator[tuple[dict[str, np.ndarray], np.ndarray]]:
    """Batches of some columns in order, without the samples of which a part cannot be read.

    Args:
        columns: of equal length, by the words that messages use for them.
        size: samples at a time; of large ones fewer.
        name: of the data, for messages.

    Yields:
        Arrays by the columns' names, views where that is possible, and the positions of their samples. A batch of which
        nothing can be read is left out.

    Raises:
        DataError: NaN or infinity, or a file that cannot be read.
    """
    length = len(next(iter(columns.values())))
    size = max(1, min(size, BATCH_BYTES * length // max(1, sum(map(bytes_of, columns.values())))))
    sources = {what: _source(column, f"{name}: {what}") for what, column in columns.items()}
    with closing(_All(sources)):
        for start in range(0, length, size):
            positions = np.arange(start, min(start + size, length))
            parts = {what: source.read(positions) for what, source in sources.items()}
            fine = np.logical_and.reduce([mask for _, mask in parts.values()])
            if fine.all():
                yield {what: part for what, (part, _) in parts.items()}, positions
            elif fine.any():
                yield {what: part[fine] for what, (part, _) in parts.items()}, positions[fine]


class _All:
    """Every source, to be closed together."""

    def __init__(self, sources: Mapping[str, _Whole | _Stream]) -> None:
        self._sources = sources

    def close(self) -> None:
        for source in self._sources.values():
            source.close()


def _source(column: Column, what: str) -> _Whole | _Stream:
    found = patchy(column)
    return _Whole(column, what) if found is None else _Stream(found[0].stream(found[1]), column)


class _Whole:
    """A column of which every sample is there."""

    def __init__(self, column: Column, what: str) -> None:
        self._column, self._what = column, what
        self._checked = in_memory(column)

    def read(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Neighbouring samples, and that all of them are there."""
        part = np.asarray(self._column[int(positions[0]) : int(positions[-1]) + 1])
        if not self._checked and (wrong := first_not_finite(part)) is not None:
            sample = origin(self._column, int(positions[wrong]))
            raise DataError(not_finite(self._what, sample))
        return part, np.ones(len(positions), bool)

    def close(self) -> None:
        """There is nothing to close."""


class _Stream:
    """A column of which samples may be missing."""

    def __init__(self, stream: Iterator[np.ndarray | None], column: Column) -> None:
        self._stream = stream
        self._shape, self._dtype = column.shape[1:], column.dtype

    def read(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The next samples, and which of them are there."""
        part, fine = np.empty((len(positions), *self._shape), self._dtype), np.zeros(len(positions), bool)
        for i in range(len(positions)):
            sample = next(self._stream)
            if sample is not None:
                part[i], fine[i] = sample, True
        return part, fine

    def close(self) -> None:
        """End the work that is being done ahead."""
        if hasattr(self._stream, "close"):
            self._stream.close()


def not_finite(what: str, sample: int) -> str:
    """The message for a value that is no number."""
    why = "; every sample needs a label" if "labels" in what else ""
    return f"{what} holds NaN or infinity, first in sample {sample}{why}"
