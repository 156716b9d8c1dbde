"""Columns: one array of samples each, in memory or read when asked for.

A column is anything with a shape, a dtype, a length, and `[slice]` and `[positions]` that give arrays: an ndarray, a
member of an .npz that stays on the disk, a folder of images, a dataset of h5py. Axis 0 is the sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# An array no larger than this is read and checked at once; what is larger, a batch at a time.
SMALL = 64 << 20


class Column(Protocol):
    """An array of samples that need not be in memory."""

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an ndarray; axis 0 is the sample."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """As of an ndarray."""

    def __len__(self) -> int:
        """The number of samples."""

    def __getitem__(self, key: Any, /) -> Any:  # noqa: ANN401  # ndarray's own signature is no narrower
        """Samples: a slice, or an array of positions."""


@runtime_checkable
class Patchy(Protocol):
    """A column of which some samples may turn out to be unreadable, as images do.

    Attributes:
        unreadable: position -> what could not be read, and why; filled as it is found.
    """

    unreadable: Mapping[int, str]

    def stream(self, positions: np.ndarray) -> Iterator[np.ndarray | None]:
        """The samples at these positions one after the other, None for one that cannot be read."""


class Selected:
    """Some samples of a column, read when asked for.

    Attributes:
        base: the column, which is no selection itself.
        positions: in it, in the order that the samples have here; shape (n,).
    """

    def __init__(self, base: Column, positions: np.ndarray) -> None:
        self.base: Column = base
        self.positions: np.ndarray = np.asarray(positions, np.intp)
        if isinstance(base, Selected):
            self.base, self.positions = base.base, base.positions[self.positions]

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an ndarray."""
        return len(self.positions), *self.base.shape[1:]

    @property
    def dtype(self) -> np.dtype[Any]:
        """As of an ndarray."""
        return self.base.dtype

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.positions)

    def __getitem__(self, key: slice | np.ndarray) -> np.ndarray:
        """Samples, read from the base in rising order: a file is then read forward, and h5py wants it so."""
        wanted, places = np.unique(self.positions[key], return_inverse=True)
        return np.asarray(self.base[wanted])[places] if len(wanted) else np.empty((0, *self.shape[1:]), self.dtype)


def is_column(value: object) -> bool:
    """Whether something can be read as a column without being turned into an array first.

    Tables of pandas look like one, but their brackets mean something else; tensors have a dtype of their own.
    """
    if isinstance(value, np.ndarray):
        return True
    return (
        isinstance(getattr(value, "dtype", None), np.dtype)
        and isinstance(getattr(value, "shape", None), tuple)
        and all(hasattr(value, name) for name in ("__len__", "__getitem__"))
        and not any(hasattr(value, name) for name in ("iloc", "nnz"))  # pandas, sparse matrices of SciPy
    )


def bytes_of(column: Column) -> int:
    """What a column takes when all of it is in memory."""
    size = column.dtype.itemsize
    for length in column.shape:
        size *= int(length)
    return size


def in_memory(column: Column) -> bool:
    """Whether a column is an array that is small enough to be looked at as a whole."""
    return isinstance(column, np.ndarray) and column.nbytes <= SMALL


def selected(column: Column, positions: np.ndarray) -> Column:
    """A column's samples at these positions: copied where it is small, else read when asked for."""
    return column[positions] if in_memory(column) else Selected(column, positions)


def patchy(column: Column) -> tuple[Patchy, np.ndarray] | None:
    """The column behind a selection, and the positions in it, where some of its samples may be unreadable."""
    base, positions = (column.base, column.positions) if isinstance(column, Selected) else (column, None)
    if not isinstance(base, Patchy):
        return None
    return base, np.arange(len(column)) if positions is None else positions


def origin(column: Column, position: int) -> int:
    """Where a sample stands in the data that it was selected from."""
    return int(column.positions[position]) if isinstance(column, Selected) else position
