"""Inputs to time a model on where the user has given none: seeded, and valid for most models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quant.runtime import RuntimeSession

Feed = dict[str, np.ndarray]

DEFAULT_COUNT = 8  # different inputs, so that no cache or branch predictor learns a single one


def random_inputs(session: RuntimeSession, *, count: int = DEFAULT_COUNT, batch: int = 1, seed: int = 0) -> list[Feed]:
    """Random inputs by the shapes the model states, a dimension it leaves open taken as 1, the first one as `batch`.

    Floats are standard normal; integers are 0 or 1, which every vocabulary and every mask has; booleans are either.

    Raises:
        DataError: the model takes an input of a type that cannot be drawn, such as strings.
    """
    rng = np.random.default_rng(seed)
    return [
        {
            name: _draw(rng, _closed(shape, batch), kind, where=session.name)
            for name, shape, kind in zip(session.input_names, session.input_shapes, session.input_types, strict=True)
        }
        for _ in range(count)
    ]


def _closed(shape: Sequence[int | str | None], batch: int) -> tuple[int, ...]:
    return tuple(dim if isinstance(dim, int) else (1 if axis else batch) for axis, dim in enumerate(shape))


def _draw(rng: np.random.Generator, shape: tuple[int, ...], kind: str, *, where: str) -> np.ndarray:
    if kind.startswith("float"):
        return rng.standard_normal(shape).astype(kind)
    if kind.startswith(("int", "uint", "bool")):
        return rng.integers(0, 2, size=shape).astype(kind)
    raise DataError(f"{where}: cannot draw random inputs of type {kind}; give inputs")
