"""Outputs and labels of maps as counts of each class: positions that are it, are named it, and are both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import DataError
from quant.metrics.scores import VOID, are_probabilities

if TYPE_CHECKING:
    import numpy.typing as npt

    from quant.metrics.base import Evaluated

    Floats = npt.NDArray[np.float64]
    Counts = npt.NDArray[np.float64] | npt.NDArray[np.int64]


@dataclass(frozen=True)
class Counting:
    """How counts are made.

    Attributes:
        soft: of probabilities instead of the best class.
        ignore: label of positions that do not count; None is 255, unless the model has such a class.
        threshold: probability above which a binary map's position is class 1.
        outputs: "logits", "probabilities", or "auto": probabilities where the reference outputs of the batch are.
    """

    soft: bool
    ignore: int | None
    threshold: float
    outputs: str

    def counts(self, batch: Evaluated) -> Counts:
        """Both, actual and named of each map, shape (n, 3, C).

        Raises:
            DataError: outputs or labels that are no maps, do not go together, or are out of range.
        """
        outputs, reference = batch.output, next(iter((batch.reference or batch.outputs).values()))
        labels = _labels(batch, outputs)
        if not np.isfinite(outputs).all():
            raise DataError("the output holds NaN or infinity; no metric can be taken of it")
        binary = outputs.ndim == labels.ndim or outputs.shape[1] == 1
        if binary:
            outputs, reference = (x.reshape(len(x), 1, *labels.shape[1:]) for x in (outputs, reference))
        classes = 2 if binary else outputs.shape[1]
        ignore = VOID if self.ignore is None and classes <= VOID else self.ignore
        counted = np.ones(labels.shape, bool) if ignore is None else labels != ignore
        wrong = counted & ((labels < 0) | (labels >= classes))
        if wrong.any():
            odd, first = int(labels[wrong][0]), int(wrong.reshape(len(wrong), -1).any(axis=1).argmax())
            raise DataError(
                f"sample {batch.sample(first)} has a label {odd}; the model has {classes} classes, 0 to {classes - 1}. "
                f"Where {odd} marks positions that do not count, say ignore={odd}"
            )
        probabilities = self._probabilities(outputs, reference) if self.soft or binary else outputs
        if self.soft:
            both = np.concatenate([1 - probabilities, probabilities], axis=1) if binary else probabilities
            return np.stack([_soft(*unit, classes) for unit in zip(both, labels, counted, strict=True)])
        named = (probabilities[:, 0] > self.threshold).astype(np.int64) if binary else outputs.argmax(axis=1)
        return np.stack([_hard(*unit, classes) for unit in zip(named, labels, counted, strict=True)])

    def _probabilities(self, outputs: np.ndarray, reference: np.ndarray) -> Floats:
        """Over the classes of axis 1; of one channel, of class 1."""
        one = outputs.shape[1] == 1
        guess = bool(reference.min() >= 0 and reference.max() <= 1) if one else are_probabilities(reference)
        given = outputs.astype(np.float64)
        if self.outputs == "probabilities" or (self.outputs == "auto" and guess):
            return given
        if one:
            return 0.5 * (1 + np.tanh(0.5 * given))  # the logistic function without overflow
        shifted = np.exp(given - given.max(axis=1, keepdims=True))
        softmax: Floats = shifted / shifted.sum(axis=1, keepdims=True)
        return softmax


def _labels(batch: Evaluated, outputs: np.ndarray) -> npt.NDArray[np.int64]:
    """Labels (n, ...) as whole numbers, an axis of one channel left out."""
    if "y" not in batch.labels:
        raise DataError("segmentation needs labels `y` of shape (n, H, W); the data has none")
    labels = np.asarray(batch.labels["y"])
    if outputs.ndim == labels.ndim and labels.ndim > 3 and labels.shape[1] == 1:
        labels = labels[:, 0]
    fitting = [(len(outputs), *outputs.shape[2:])]
    if outputs.ndim == labels.ndim:
        fitting = [outputs.shape]  # a binary map without an axis for the channel
    if labels.ndim < 2 or labels.shape not in fitting:
        raise DataError(
            f"labels have the size {labels.shape} and outputs {outputs.shape}; expected (n, H, W) beside (n, C, H, W)"
        )
    whole = np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool
    if not whole and not np.isfinite(labels).all():
        first = int((~np.isfinite(labels)).reshape(len(labels), -1).any(axis=1).argmax())
        raise DataError(f"sample {batch.sample(first)}: a label of its map is missing")
    if not whole and not np.array_equal(labels, np.floor(labels)):
        raise DataError(f"labels are {labels.dtype} with fractions; classes are whole numbers")
    return labels.astype(np.int64)


def _hard(named: np.ndarray, labels: np.ndarray, counted: np.ndarray, classes: int) -> npt.NDArray[np.int64]:
    named, labels = named[counted], labels[counted]
    tallies = (labels[named == labels], labels, named)
    return np.stack([np.bincount(positions, minlength=classes) for positions in tallies])


def _soft(probabilities: Floats, labels: np.ndarray, counted: np.ndarray, classes: int) -> Floats:
    inside = probabilities[:, counted]
    right = np.take_along_axis(inside, labels[counted][None], axis=0)[0]
    both = np.bincount(labels[counted], weights=right, minlength=classes)
    actual = np.bincount(labels[counted], minlength=classes)
    return np.stack([both, actual, inside.sum(axis=1)])
