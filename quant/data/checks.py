"""What makes an array of samples unusable: its form at once, its values at once or a batch at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from quant.data.columns import is_column

if TYPE_CHECKING:
    from quant.data.columns import Column

_ROWS = 256  # checked for NaN at a time, so that the check needs little memory of its own


def form_problem(column: object) -> str | None:
    """What makes a column unusable whatever its values are, None if nothing does."""
    if not is_column(column):
        return f"is a {type(column).__name__}; expected a NumPy array"
    shape: tuple[int, ...] = column.shape  # type: ignore[attr-defined]  # is_column looked
    dtype: np.dtype[np.generic] = column.dtype  # type: ignore[attr-defined]
    if not shape:
        return "is a single value; expected an array whose first axis counts the samples"
    if 0 in shape:
        return f"is empty: its shape is {shape}"
    if dtype.hasobject:
        return "holds Python objects; expected numbers"
    return None


def first_not_finite(column: Column | np.ndarray) -> int | None:
    """The first sample that holds NaN or infinity, None if none does."""
    if not np.issubdtype(column.dtype, np.inexact):
        return None
    for start in range(0, len(column), _ROWS):
        finite = np.isfinite(column[start : start + _ROWS])
        if not finite.all():
            return start + int(np.argmin(finite.reshape(len(finite), -1).all(axis=1)))
    return None


def layout_problem(shape: tuple[int, ...], wanted: tuple[int | str | None, ...]) -> str | None:
    """Why samples of a shape do not go into a model's input, None if they do.

    Args:
        shape: of the samples, axis 0 their number.
        wanted: of the input: an int where a size is fixed, anything else where it is free.
    """
    if not wanted:  # the model does not say
        return None
    if len(shape) != len(wanted):
        return (
            f"has {len(shape)} axes, {_written(shape[1:])} for each sample; the model takes {len(wanted)}, "
            f"{_written(wanted[1:])} for each"
        )
    wrong = [i for i in range(1, len(shape)) if isinstance(wanted[i], int) and shape[i] != wanted[i]]
    if not wrong:
        return None
    axis = wrong[0]
    text = (
        f"has {shape[axis]} along axis {axis}, where the model takes {wanted[axis]} ({_written(wanted[1:])} a sample)"
    )
    if len(shape) == 4:
        for name, order, other in (("NHWC", (0, 3, 1, 2), "NCHW"), ("NCHW", (0, 2, 3, 1), "NHWC")):
            if all(not isinstance(wanted[i], int) or shape[order[i]] == wanted[i] for i in range(1, 4)):
                return (
                    f"{text}: it looks like {name}, and the model takes {other}; "
                    f"save x.transpose{order}, or for images give --preprocess layout={other}"
                )
    return text


def _written(sizes: tuple[int | str | None, ...]) -> str:
    return "x".join(str(n) if isinstance(n, int) else "?" for n in sizes) or "one number"
