"""CTC, the loss of a sequence of labels whose alignment to the frames is not known (Graves et al. 2006), as torch's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import DataError
from quant.metrics.base import Evaluated, Family, Metric, Parameter
from quant.metrics.losses._inputs import (
    NONE,
    SampleError,
    at_least,
    first_of,
    label_of,
    needed,
    output_of,
    whole,
    within,
)
from quant.metrics.losses._kind import refuse_probabilities
from quant.metrics.losses._loss import CLAMP, CLAMP_DEFAULT, OUTPUT, Loss
from quant.metrics.losses.probabilistic import PROBABILITIES, class_log_probabilities

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]


def ctc(
    log_probabilities: npt.ArrayLike,
    labels: npt.ArrayLike,
    frames: npt.ArrayLike,
    lengths: npt.ArrayLike,
    *,
    blank: int = 0,
    zero_infinity: bool = False,
) -> Floats:
    """-log of the probability of all alignments: (n, T, C) -> (n,).

    Args:
        log_probabilities: of every frame, over the last axis.
        labels: sequences without blanks, (n, L), padded with anything.
        frames: of each sample, (n,).
        lengths: of each label sequence, (n,).
        blank: the class that stands for none.
        zero_infinity: 0 instead of infinity where the frames are too few.
    """
    import torch
    import torch.nn.functional as F

    y, t, k = (torch.from_numpy(np.array(x, dtype=np.int64)) for x in (labels, frames, lengths))
    log_p = torch.from_numpy(np.array(log_probabilities, dtype=np.float64)).transpose(0, 1)
    loss = F.ctc_loss(log_p, y, t, k, blank=blank, reduction="none", zero_infinity=zero_infinity)
    values: Floats = loss.numpy()
    return values


def _lengths(batch: Evaluated, name: str, n: int, most: int, what: str) -> Integers:
    found = label_of(batch, name)
    if found.size != n:
        raise DataError(f"the labels {name!r} have the size {found.shape}; one length per sample is wanted, ({n},)")
    return whole(found.reshape(-1), 0, most, what)


def _padded(labels: np.ndarray) -> Integers:
    """The lengths of sequences that are padded with negative numbers."""
    counted = np.cumprod(labels >= 0, axis=1).sum(axis=1)
    if ((labels >= 0).sum(axis=1) != counted).any():
        raise DataError("the labels have classes after their padding (-1); give lengths=NAME")
    return np.asarray(counted, dtype=np.int64)


def _fits(labels: Integers, frames: Integers, lengths: Integers) -> None:
    """An alignment takes a frame per label, and a blank between equal ones."""
    inside = np.arange(1, labels.shape[1]) < lengths[:, None]
    takes = lengths + ((labels[:, 1:] == labels[:, :-1]) & inside).sum(axis=1)
    if (takes > frames).any():
        i = int(np.argmax(takes > frames))
        raise SampleError(
            f"{{sample}} has {lengths[i]} labels, which take {takes[i]} frames, and {frames[i]} of them: its loss is "
            "infinite. zero_infinity=true counts it as 0",
            i,
        )


def _build(
    *,
    output: str = "",
    target: str = "targets",
    lengths: str = "lengths",
    frames: str = NONE,
    blank: int = 0,
    from_logits: bool = True,
    clamp: float = CLAMP_DEFAULT,
    per_label: bool = True,
    zero_infinity: bool = False,
) -> Metric:
    at_least(0, blank=blank)
    at_least(0, above=True, clamp=clamp)

    def losses(batch: Evaluated) -> Floats:
        scores, labels = output_of(batch, output), label_of(batch, target)
        if scores.ndim != 3 or labels.ndim != 2 or len(labels) != len(scores):
            raise DataError(
                f"CTC takes an output (n, frames, classes) and labels (n, L), got {scores.shape} and {labels.shape}"
            )
        n, steps, classes = scores.shape
        if blank >= classes:
            raise DataError(f"blank={blank}, and the model has the classes 0 to {classes - 1}")
        counted = (
            _padded(labels) if lengths == NONE else _lengths(batch, lengths, n, labels.shape[1], "lengths of labels")
        )
        given = np.full(n, steps) if frames == NONE else _lengths(batch, frames, n, steps, "numbers of frames")
        used = np.arange(labels.shape[1]) < counted[:, None]
        sequences = whole(np.where(used, labels, classes), 0, classes - 1, "the model's classes", ignored=classes)
        if (sequences == blank).any():
            where = first_of(sequences == blank)
            raise SampleError(f"the labels of {{sample}} hold the blank, {blank}; blank= says which class it is", where)
        if not zero_infinity:
            _fits(sequences, given, counted)
        if from_logits:
            refuse_probabilities(np.moveaxis(scores, 2, 1))
        else:
            within(scores.astype(np.float64), 0.0, 1.0, "the output", PROBABILITIES)
        rows = class_log_probabilities(scores.reshape(-1, classes), from_logits=from_logits, clamp=clamp).numpy()
        padded = np.where(used, sequences, int(blank == 0))  # torch wants classes there, too
        found = ctc(rows.reshape(n, steps, classes), padded, given, counted, blank=blank, zero_infinity=zero_infinity)
        return found / np.maximum(counted, 1) if per_label else found

    return Loss(losses, needed(target, lengths, frames))


_PARAMETERS: Mapping[str, Parameter] = {
    "output": OUTPUT,
    "target": Parameter("targets", help="label sequences by name, (n, L)"),
    "lengths": Parameter("lengths", help="lengths of these by name; `none`: they are padded with -1"),
    "frames": Parameter(NONE, help="numbers of frames by name; `none`: all"),
    "blank": Parameter(0, help="the class that stands for none"),
    "from_logits": Parameter(default=True, help="whether the output is logits or their log_softmax; or probabilities"),
    "clamp": CLAMP,
    "per_label": Parameter(default=True, help="divide by the number of labels, as torch's mean does"),
    "zero_infinity": Parameter(default=False, help="count samples with too few frames as 0 instead of refusing them"),
}

FAMILIES: Mapping[str, Family] = {
    "ctc": Family(_build, "connectionist temporal classification, as torch; output (n, frames, classes)", _PARAMETERS)
}
