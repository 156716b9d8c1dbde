"""Running a session over samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import DataError, ModelError
from profiler.progress import silent
from quant.data.checks import layout_problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from profiler.progress import Progress
    from quant.data import Samples
    from quant.data.samples import Batch
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
        yield _filled(feed, size - count) if fixed_batch(session) else feed, count


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


def outputs_of(session: RuntimeSession, batch: Batch, name: str) -> dict[str, np.ndarray]:
    """Every output of a model for one batch, by name, each of shape (b, ...).

    Outputs that are no arrays, or whose first axis is not the batch's, are left out. A model of a fixed batch size is
    run as often as it takes.

    Args:
        session: the model.
        batch: inputs by the model's names, or by other names in the order of its inputs.
        name: of the data, for messages.

    Raises:
        DataError: inputs that do not go with the model's.
        ModelError: no output that has an entry for each sample.
    """
    kinds = dict(zip(session.input_names, session.input_types, strict=True))
    feed = {
        wanted: _as_kind(array, kinds[wanted], f"{name}: {wanted!r}")
        for wanted, array in _under_names(batch.inputs, session, name).items()
    }
    size, parts = fixed_batch(session) or len(batch), []
    for start in range(0, len(batch), size):
        part = {key: array[start : start + size] for key, array in feed.items()}
        count = min(size, len(batch) - start)
        outputs = session.run(_filled(part, size - count))
        parts.append({key: _rows(value, size, count) for key, value in zip(session.output_names, outputs, strict=True)})
    joined = {}
    for key in session.output_names:
        several = [array for part in parts if (array := part[key]) is not None]
        if len(several) == len(parts):
            joined[key] = several[0] if len(parts) == 1 else np.concatenate(several)
    if not joined:
        raise ModelError(f"{session.name}: none of its outputs has an entry for each sample of a batch of {size}")
    return joined


def _rows(output: object, size: int, count: int) -> np.ndarray | None:
    if not isinstance(output, np.ndarray) or output.dtype.kind not in "fiub":
        return None
    return output[:count] if output.ndim and len(output) == size else None


def _under_names(inputs: Mapping[str, np.ndarray], session: RuntimeSession, name: str) -> dict[str, np.ndarray]:
    """The same inputs under the model's names; by position where none of these is among them."""
    if set(inputs) == set(session.input_names):
        return {wanted: inputs[wanted] for wanted in session.input_names}
    if len(inputs) != len(session.input_names) or set(inputs) & set(session.input_names):
        got, expected = (", ".join(map(repr, names)) for names in (inputs, session.input_names))
        raise DataError(f"{name}: holds the arrays {got}; the model's inputs are {expected}")
    return dict(zip(session.input_names, inputs.values(), strict=True))


def _filled(feed: dict[str, np.ndarray], missing: int) -> dict[str, np.ndarray]:
    """The last sample repeated, for a model that wants a fixed number."""
    if not missing:
        return feed
    return {name: np.concatenate([x, np.repeat(x[-1:], missing, axis=0)]) for name, x in feed.items()}


def _as_kind(array: np.ndarray, kind: str, what: str) -> np.ndarray:
    """Floats in the precision the model wants, integers in its width; neither is ever turned into the other."""
    wanted = np.dtype(kind)
    if array.dtype == wanted:
        return array
    if np.issubdtype(array.dtype, np.floating) == np.issubdtype(wanted, np.floating):
        return array.astype(wanted)
    raise DataError(f"{what} holds {array.dtype}, the model wants {wanted}")
