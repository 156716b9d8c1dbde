"""How close the second model's outputs are to the first's, sample by sample; no labels are needed.

agreement = equal top classes; SQNR = 10 log10(sum x^2 / sum (x - x')^2) in dB; KL = sum p log(p / q) in nats, p the
first model's softmax (or its outputs as they are, where they are probabilities already); cosine of the outputs as
vectors; the largest absolute difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from quant.metrics.scores import LOGITS, PROBABILITIES, are_probabilities, log_probabilities

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.floating]


_HELD_AT_ONCE = 4_000_000  # numbers of each model's outputs, in double precision


@dataclass(frozen=True, eq=False)
class Fidelity:
    """Per-sample figures, each of shape (n,).

    Attributes:
        agreement: part of the positions at which both name the same class; 0 or 1 for a single position.
        sqnr_db: signal to quantization noise, infinite where the outputs are equal.
        kl: mean over positions of KL(first, second) in nats.
        cosine: of the flattened outputs.
        largest: largest absolute difference.
    """

    agreement: Floats
    sqnr_db: Floats
    kl: Floats
    cosine: Floats
    largest: Floats


def fidelity(first: Floats, second: Floats, kind: str = "") -> Fidelity:
    """Compare outputs of shape (n, C, ...), classes along axis 1; of shape (n,) or with one class, values only.

    Args:
        first: of the reference.
        second: of the model that is judged, the same shape.
        kind: whether they are "probabilities" or "logits"; found out where "".
    """
    known = kind == PROBABILITIES if kind else are_probabilities(first)
    rows = max(1, _HELD_AT_ONCE // max(first[:1].size, 1))
    parts = [_block(first[i : i + rows], second[i : i + rows], known) for i in range(0, len(first), rows)]
    return Fidelity(*(np.concatenate(figures) for figures in zip(*parts, strict=True)))


def _block(first: Floats, second: Floats, probabilities: bool) -> tuple[Floats, ...]:  # noqa: FBT001  # internal
    x, y = (np.asarray(v, dtype=np.float64).reshape(len(v), -1) for v in (first, second))
    noise, signal = ((x - y) ** 2).sum(axis=1), (x**2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        sqnr = np.where(noise == 0, np.inf, 10 * np.log10(signal / noise))
        norms = np.sqrt(signal * (y**2).sum(axis=1))
        cosine = np.where((norms == 0) | (noise == 0), (noise == 0).astype(float), (x * y).sum(axis=1) / norms)
    axes = tuple(range(1, np.ndim(first) - 1))
    if np.ndim(first) < 2 or first.shape[1] < 2:
        agreement, kl = np.full(len(x), np.nan), np.full(len(x), np.nan)
    else:
        agreement = (np.argmax(first, axis=1) == np.argmax(second, axis=1)).mean(axis=axes, dtype=float)
        p, q = (log_probabilities(v, PROBABILITIES if probabilities else LOGITS) for v in (first, second))
        kl = (np.exp(p) * (p - q)).sum(axis=1).mean(axis=axes)
    return agreement, sqnr, kl, cosine, np.abs(x - y).max(axis=1, initial=0.0)
