"""Whether two models answer alike on the inputs that they are about to be timed on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import ModelError, NetgaugeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from quant.runtime import RuntimeSession

    Feeds = Sequence[Mapping[str, np.ndarray]]

FAR = 0.5  # relative error from which on two models hardly compute the same thing: int8 models lie at some percent


@dataclass(frozen=True)
class Closeness:
    """How far the second model's floating-point outputs lie from the first's, over all inputs that are timed.

    Attributes:
        relative_error: norm of the difference over norm of the first model's outputs; None where outputs cannot be
            compared element by element.
        max_error: the largest difference of two elements; None as above.
        note: why they cannot be compared, or that neither model's outputs are finite; "" otherwise.
    """

    relative_error: float | None
    max_error: float | None
    note: str = ""

    def warnings(self) -> list[str]:
        """Sentences where the two do not seem to compute the same thing."""
        found = [self.note] if self.note else []
        if self.relative_error is not None and self.relative_error > FAR:
            found.append(
                f"the outputs on the timed inputs differ by {self.relative_error:.0%} of their size: the models may "
                "not compute the same thing"
            )
        return found


def check_outputs(
    first: RuntimeSession, second: RuntimeSession, ours: Feeds, theirs: Feeds, *, hint: str = ""
) -> Closeness:
    """Run both models once on every input and compare.

    Args:
        first: a session.
        second: another.
        ours: inputs of the first.
        theirs: the same inputs under the second's names.
        hint: added to an error of the first model.

    Raises:
        DataError: the inputs do not fit a model.
        ModelError: a model does not run, or only one of the two gives finite outputs.
    """
    error = size = largest = 0.0  # sums of squares, so that no more than two models' outputs are held
    compared, note = False, ""
    for number, (left, right) in enumerate(zip(ours, theirs, strict=True)):
        a, b = _ran(first, left, hint), _ran(second, right, "")
        finite = [all(np.isfinite(out).all() for out in _floats(outputs)) for outputs in (a, b)]
        if finite[0] != finite[1]:
            culprit = first if finite[1] else second
            raise ModelError(
                f"{culprit.name}: gives infinite or undefined outputs on input {number}; the other does not"
            )
        if not finite[0]:
            return Closeness(None, None, f"both models give infinite or undefined outputs, first on input {number}")
        pairs = list(zip(_floats(a), _floats(b), strict=False))
        if len(a) != len(b) or any(x.shape != y.shape for x, y in pairs):
            note = note or f"the two models' outputs differ in number or shape, first on input {number}"
            continue
        for x, y in pairs:
            wide = x.astype(np.float64).ravel()
            apart = wide - y.ravel()
            error, size = error + float(apart @ apart), size + float(wide @ wide)
            largest = max(largest, float(np.abs(apart).max(initial=0.0)))
            compared = True
    if note or not compared:
        return Closeness(None, None, note)
    relative = math.sqrt(error / size) if size else (math.inf if error else 0.0)
    return Closeness(relative, largest)


def _ran(session: RuntimeSession, feed: Mapping[str, np.ndarray], hint: str) -> list[np.ndarray]:
    try:
        return session.run(feed)
    except NetgaugeError as error:
        raise type(error)(f"{error}{hint}") from error


def _floats(outputs: Sequence[object]) -> list[np.ndarray]:
    """Sequences and maps exist too, and integers are as a rule positions or classes."""
    return [out for out in outputs if isinstance(out, np.ndarray) and np.issubdtype(out.dtype, np.floating)]
