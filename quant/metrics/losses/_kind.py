"""Whether an output is logits or probabilities already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.errors import DataError, UsageError
from quant.metrics.base import Parameter
from quant.metrics.losses._inputs import name_of, output_of
from quant.metrics.scores import PROBABILITIES, are_probabilities

if TYPE_CHECKING:
    import numpy as np

    from quant.metrics.base import Evaluated

AUTO = "auto"
FROM_LOGITS = Parameter(AUTO, (AUTO, "true", "false"), "whether the output is logits; probabilities if not; auto looks")
_SAID: dict[object, bool] = {"true": True, "false": False, True: True, False: False}


def checked(from_logits: object) -> None:
    """Refuse a word that is none of the parameter's.

    Raises:
        UsageError: it is none.
    """
    if from_logits != AUTO and from_logits not in _SAID:
        raise UsageError(f"from_logits={from_logits}: there is auto, true, false")


def are_logits(batch: Evaluated, output: str | int, from_logits: object, *, classes: bool = True) -> bool:
    """Whether an output is logits, as was said, or as it looks.

    Args:
        batch: with what was decided for all batches, where it was.
        output: its name or position.
        from_logits: "true", "false" (or these), or "auto".
        classes: whether axis 1 holds classes whose probabilities add up to one; else every number stands alone.

    Raises:
        DataError: it cannot be told: several numbers of a sample that stand alone, all between 0 and 1.
    """
    if from_logits != AUTO:
        return _SAID[from_logits]
    scores, name = output_of(batch, output), name_of(batch.outputs, output, "output")
    probabilities = batch.kinds[name] == PROBABILITIES if name in batch.kinds else are_probabilities(scores)
    alone = not classes and scores.ndim > 1 and scores.shape[1] > 1
    if not probabilities and alone and scores.size and scores.min() >= 0 and scores.max() <= 1:
        raise DataError(
            f"the output {name!r} lies between 0 and 1: say from_logits=false if these are probabilities, or "
            "from_logits=true"
        )
    return not probabilities


def refuse_probabilities(scores: np.ndarray) -> None:
    """Probabilities taken for logits give a loss that looks right and is not.

    Raises:
        DataError: every set over axis 1 has the sum 1.
    """
    if scores.shape[1] > 1 and are_probabilities(scores):
        raise DataError("the output is probabilities already; say from_logits=false")
