"""How close the second model's outputs are to the first's, sample by sample; no labels are needed.

agreement = equal top classes; SQNR = 10 log10(sum x^2 / sum (x - x')^2) in dB; KL = sum p log(p / q) in nats, p the
first model's softmax (or its outputs as they are, where they are probabilities already); cosine of the outputs as
vectors; the largest absolute difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from quant.metrics.base import Family

    Floats = npt.NDArray[np.floating]


_HELD_AT_ONCE = 4_000_000  # numbers of each model's outputs, in double precision
_SUM_TOLERANCE = 1e-3  # float16 softmax
_SMALLEST_PROBABILITY = 1e-7


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


def fidelity(first: Floats, second: Floats) -> Fidelity:
    """Compare outputs of shape (n, C, ...), classes along axis 1; of shape (n,) or with one class, values only."""
    known = are_probabilities(first)
    rows = max(1, _HELD_AT_ONCE // max(first[:1].size, 1))
    parts = [_block(first[i : i + rows], second[i : i + rows], known) for i in range(0, len(first), rows)]
    return Fidelity(*(np.concatenate(figures) for figures in zip(*parts, strict=True)))


def are_probabilities(outputs: Floats) -> bool:
    """Whether outputs are probabilities over the classes of axis 1 already, so that a softmax would flatten them."""
    if outputs.ndim < 2 or outputs.shape[1] < 2 or outputs.min() < 0 or outputs.max() > 1:
        return False
    return bool(np.abs(outputs.sum(axis=1, dtype=np.float64) - 1).max() <= _SUM_TOLERANCE)


def _block(first: Floats, second: Floats, probabilities: bool) -> tuple[Floats, ...]:  # noqa: FBT001  # internal
    x, y = (np.asarray(v, dtype=np.float64).reshape(len(v), -1) for v in (first, second))
    noise, signal = ((x - y) ** 2).sum(axis=1), (x**2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        sqnr = np.where(noise == 0, np.inf, 10 * np.log10(signal / noise))
        norms = np.sqrt(signal * (y**2).sum(axis=1))
        cosine = np.where(norms == 0, (noise == 0).astype(float), (x * y).sum(axis=1) / norms)
    axes = tuple(range(1, np.ndim(first) - 1))
    if np.ndim(first) < 2 or first.shape[1] < 2:
        agreement, kl = np.full(len(x), np.nan), np.full(len(x), np.nan)
    else:
        agreement = (np.argmax(first, axis=1) == np.argmax(second, axis=1)).mean(axis=axes, dtype=float)
        p, q = (_log_softmax(_logits(v) if probabilities else v) for v in (first, second))
        kl = (np.exp(p) * (p - q)).sum(axis=1).mean(axis=axes)
    return agreement, sqnr, kl, cosine, np.abs(x - y).max(axis=1, initial=0.0)


def _logits(probabilities: Floats) -> Floats:
    """Their logarithm; an int8 softmax gives zeros, which stand for less than half a step of its grid."""
    return np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST_PROBABILITY))


def _log_softmax(x: Floats) -> npt.NDArray[np.float64]:
    shifted = np.asarray(x, dtype=np.float64) - np.max(x, axis=1, keepdims=True)
    result: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


FIDELITY: Mapping[str, Family] = {}
