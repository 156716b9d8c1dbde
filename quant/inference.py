"""Running a session over samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import DataError
from profiler.progress import silent
from quant.data.checks import layout_problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiler.progress import Progress
    from quant.data import Samples
    from quant.runtime import RuntimeSession

BATCH = 32


def fixed_batch(session: RuntimeSession) -> int | None:
    """The number of samples that a model wants at a time, None where any number will do."""
    first = session.input_shapes[0][0] if session.input_shapes and session.input_shapes[0] else None
    return first if isinstance(first, int) else None


def fitted(session: RuntimeSession, samples: Samples) -> Samples:
    """The samples under the names of the model's inputs, once their sizes are known to fit.

    Raises:
        DataError: the arrays do not go with the model's inputs, with the axis that does not.
    """
    samples = samples.renamed(session.input_names)
    for name, wanted in zip(session.input_names, session.input_shapes, strict=True):
        if problem := layout_problem(samples.inputs[name].shape, wanted):
            raise DataError(f"{samples.name}: input {name!r} {problem}")
    return samples


def feeds(
    session: RuntimeSession, samples: Samples, *, batch: int = BATCH
) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """Batches that fit the model, and how many of each are samples; a last one is filled up where the size is fixed.

    Raises:
        DataError: the arrays do not go with the model's inputs.
    """
    samples = fitted(session, samples)
    size = fixed_batch(session) or batch
    kinds = dict(zip(session.input_names, session.input_types, strict=True))
    for part in samples.batches(size):
        count = len(part)
        feed = {name: _as_kind(array, kinds[name], f"{samples.name}: {name!r}") for name, array in part.inputs.items()}
        if fixed_batch(session) and count < size:
            feed = {name: np.concatenate([x, np.repeat(x[-1:], size - count, axis=0)]) for name, x in feed.items()}
        yield feed, count


def first_output(
    session: RuntimeSession, samples: Samples, *, stage: str = "running", progress: Progress = silent
) -> np.ndarray:
    """The model's first output for every sample, stacked: shape (n, ...)."""
    parts, done = [], 0
    for feed, count in feeds(session, samples):
        parts.append(session.run(feed)[0][:count])
        done += count
        progress(stage, done / len(samples))
    return np.concatenate(parts)


def _as_kind(array: np.ndarray, kind: str, what: str) -> np.ndarray:
    """Floats in the precision the model wants, integers in its width; neither is ever turned into the other."""
    wanted = np.dtype(kind)
    if array.dtype == wanted:
        return array
    if np.issubdtype(array.dtype, np.floating) == np.issubdtype(wanted, np.floating):
        return array.astype(wanted)
    raise DataError(f"{what} holds {array.dtype}, the model wants {wanted}")
