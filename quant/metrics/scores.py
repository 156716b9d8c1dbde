"""What a classifier says and what is true: outputs of every usual form as scores per class, labels as whole numbers.

Scores are (n, C) or, for maps, (n, C, ...). A model with one output per sample or position speaks of class 1: a
probability p stands for (1 - p, p), a logit z for (0, z), of which the softmax is the sigmoid of z.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import DataError
from quant.metrics.base import UnfitError

if TYPE_CHECKING:
    from quant.metrics.base import Evaluated, Floats

LOGITS, PROBABILITIES = "logits", "probabilities"
IGNORED = -1
VOID = 255  # what the label images of VOC, Cityscapes and ADE20K call no class
_SUM_TOLERANCE = 1e-3  # float16 softmax
_SMALLEST_PROBABILITY = 1e-7


def are_probabilities(outputs: np.ndarray) -> bool:
    """Whether outputs are probabilities already, so that a softmax would flatten them.

    Those over the classes of axis 1 add up to one; that of a single class just lies between 0 and 1.
    """
    if outputs.size == 0 or outputs.min() < 0 or outputs.max() > 1:
        return False
    if outputs.ndim < 2 or outputs.shape[1] < 2:
        return True
    return bool(np.abs(outputs.sum(axis=1, dtype=np.float64) - 1).max() <= _SUM_TOLERANCE)


def kind_of(batch: Evaluated, output: str = "") -> str:
    """What scores are, "probabilities" or "logits": as was decided for all batches, or by this one."""
    name = output or next(iter(batch.outputs))
    if name in batch.kinds:
        return batch.kinds[name]
    return PROBABILITIES if are_probabilities(chosen(batch, output)) else LOGITS


def chosen(batch: Evaluated, output: str) -> np.ndarray:
    """The output of that name, the first where it is "".

    Raises:
        DataError: the model has none of that name.
    """
    if not output:
        return batch.output
    if output not in batch.outputs:
        raise DataError(f"the model has no output {output!r}; it has {', '.join(map(repr, batch.outputs))}")
    return batch.outputs[output]


def class_scores(batch: Evaluated, output: str = "") -> np.ndarray:
    """The scores of every class, shape (n, C) or (n, C, ...), C at least 2.

    Raises:
        DataError: an output that holds no scores of classes.
    """
    key = "scores", output
    if key not in batch.memo:
        batch.memo[key] = _class_scores(batch, output)
    scores: np.ndarray = batch.memo[key]
    return scores


def _class_scores(batch: Evaluated, output: str) -> np.ndarray:
    scores = chosen(batch, output)
    if not np.issubdtype(scores.dtype, np.floating):
        scores = scores.astype(np.float32)  # an int8 output that is not dequantized orders classes as well
    labels = batch.labels.get("y")
    if labels is not None and scores.ndim > 2 and labels[:1].size == 1 and scores[:1].size == scores.shape[1]:
        scores = scores.reshape(scores.shape[:2])  # a map of one position is a sample
    if scores.ndim == 1:
        scores = scores[:, None]
    if scores.shape[1] > 1:
        return scores
    first = 1 - scores if kind_of(batch, output) == PROBABILITIES else np.zeros_like(scores)
    return np.concatenate([first, scores], axis=1)


def truth(batch: Evaluated, ignore: int | None = None, output: str = "") -> np.ndarray:
    """Classes as whole numbers, shape (n,) or (n, ...), -1 where the label is the one to ignore.

    Raises:
        DataError: no labels, or such as do not go with the outputs; the message names the sample.
    """
    key = "truth", ignore, output
    if key not in batch.memo:
        if "y" not in batch.labels:
            raise DataError("this metric needs labels `y`, and the data has none")
        batch.memo[key] = _checked(batch, batch.labels["y"], class_scores(batch, output), ignore)
    classes: np.ndarray = batch.memo[key]
    return classes


def _checked(batch: Evaluated, labels: np.ndarray, scores: np.ndarray, ignore: int | None) -> np.ndarray:
    expected = (len(scores), *scores.shape[2:])
    if labels.ndim == len(expected) + 1 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != expected:
        raise DataError(f"labels have the size {labels.shape}; outputs of {scores.shape} call for {expected}")
    count = scores.shape[1]
    if ignore is None and labels.ndim > 1 and count <= VOID:
        ignore = VOID
    if not np.issubdtype(labels.dtype, np.integer):
        _refuse(batch, ~np.isfinite(labels), labels, "is missing")
        _refuse(batch, labels != np.floor(labels), labels, "is a fraction; classes are whole numbers")
    known = labels.astype(np.int64)
    kept = np.ones(known.shape, bool) if ignore is None else known != ignore
    hint = (
        "" if ignore is not None else "; labels that stand for no class are left out by ignore=N, as accuracy:ignore=-1"
    )
    outside = kept & ((known < 0) | (known >= count))
    _refuse(batch, outside, labels, f"is out of range: the model has {count} classes, 0 to {count - 1}{hint}")
    return np.where(kept, known, IGNORED)


def _refuse(batch: Evaluated, wrong: np.ndarray, labels: np.ndarray, why: str) -> None:
    if wrong.any():
        where = np.unravel_index(int(wrong.argmax()), wrong.shape)
        samples = int(wrong.reshape(len(wrong), -1).any(axis=1).sum())
        more = f" (and those of {samples - 1} more of this batch)" if samples > 1 else ""
        raise DataError(f"sample {batch.sample(int(where[0]))}: its label {labels[where]}{more} {why}")


def of_samples(batch: Evaluated, ignore: int | None, output: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) and scores (n, C) of samples with one label each.

    Raises:
        UnfitError: maps.
        DataError: as for `truth`.
    """
    scores, labels = class_scores(batch, output), truth(batch, ignore, output)
    if labels.ndim > 1:
        raise UnfitError(f"is about samples with one label each; the outputs are {chosen(batch, output).shape}")
    return labels, scores


def predicted(batch: Evaluated, output: str = "") -> np.ndarray:
    """The class with the highest score, the first of equal ones: shape (n,) or (n, ...)."""
    key = "predicted", output
    if key not in batch.memo:
        batch.memo[key] = class_scores(batch, output).argmax(axis=1)
    classes: np.ndarray = batch.memo[key]
    return classes


def log_probabilities(scores: np.ndarray, kind: str) -> Floats:
    """The logarithm of probabilities over axis 1; zeros of an int8 softmax stand for less than half a step."""
    if kind == PROBABILITIES:
        scores = np.log(np.maximum(scores.astype(np.float64), _SMALLEST_PROBABILITY))
    shifted = scores.astype(np.float64) - scores.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def probabilities(scores: np.ndarray, kind: str) -> Floats:
    """Probabilities over axis 1: as they are, or the softmax."""
    return scores.astype(np.float64) if kind == PROBABILITIES else np.exp(log_probabilities(scores, kind))


def log_odds(scores: np.ndarray, kind: str) -> Floats:
    """The log-odds log p - log(1 - p) of every class: in the order of p, where p itself rounds to 1 and would tie.

    Infinite where p is exactly 0 or 1.
    """
    with np.errstate(divide="ignore"):
        if kind == PROBABILITIES:
            p = scores.astype(np.float64)
            return np.asarray(np.log(p) - np.log1p(-np.minimum(p, 1.0)))
        top = scores.argmax(axis=1)[:, None]
        shifted = scores.astype(np.float64) - np.take_along_axis(scores, top, axis=1)
        odds, below = np.exp(shifted), shifted.copy()
        np.put_along_axis(odds, top, 0.0, axis=1)
        np.put_along_axis(below, top, -np.inf, axis=1)
        second = below.max(axis=1, keepdims=True)  # the others of the best one, however far below
        others = np.log(1 + odds.sum(axis=1, keepdims=True) - odds)
        np.put_along_axis(others, top, second + np.log(np.exp(below - second).sum(axis=1, keepdims=True)), axis=1)
        return np.asarray(shifted - others)
