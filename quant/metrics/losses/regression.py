"""Losses of numbers: the functions take outputs and targets of one shape (n, ...) and give every sample's mean, (n,).

Squared error e^2, absolute error |e|; Huber e^2/2 within delta and delta (|e| - delta/2) outside; smooth L1
e^2/(2 beta) within beta and |e| - beta/2 outside, so that Huber = delta x smooth L1 with beta = delta.
Sources: torch.nn.functional, which computes them; R2 as in scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from profiler.errors import DataError
from quant.metrics.base import Evaluated, Family, Metric, Parameter
from quant.metrics.losses._inputs import at_least, located, needed, output_of, per_sample, same_shape, target_of, tensor
from quant.metrics.losses._loss import OUTPUT, TARGET, Loss, drop_bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from quant.metrics.base import Records

    Floats = npt.NDArray[np.float64]
    Elementwise = Callable[[npt.ArrayLike, npt.ArrayLike], Floats]

MOST_OUTPUTS = 1000  # per sample, for averages over outputs: each needs a record of its own


def _torchs(name: str, output: npt.ArrayLike, target: npt.ArrayLike, **parameters: float) -> Floats:
    import torch.nn.functional as F

    loss = getattr(F, name)(tensor(output), tensor(target), reduction="none", **parameters)
    values: Floats = loss.numpy()
    return values


def mse(output: npt.ArrayLike, target: npt.ArrayLike) -> Floats:
    """Mean squared error of every sample. Its gradient in an output is 2 (output - target) / number of outputs."""
    return per_sample(_torchs("mse_loss", output, target))


def mae(output: npt.ArrayLike, target: npt.ArrayLike) -> Floats:
    """Mean absolute error of every sample."""
    return per_sample(_torchs("l1_loss", output, target))


def huber(output: npt.ArrayLike, target: npt.ArrayLike, delta: float = 1.0) -> Floats:
    """Huber's loss of every sample: quadratic within delta."""
    return per_sample(_torchs("huber_loss", output, target, delta=delta))


def smooth_l1(output: npt.ArrayLike, target: npt.ArrayLike, beta: float = 1.0) -> Floats:
    """Smooth L1 of every sample: Huber's loss over delta; the absolute error where beta is 0."""
    return per_sample(_torchs("smooth_l1_loss", output, target, beta=beta))


def _pair(batch: Evaluated, output: str, target: str) -> tuple[Floats, Floats]:
    what = "reference" if target == "reference" else "labels"
    return same_shape(output_of(batch, output), target_of(batch, target, output), what)


def _mean(function: Elementwise, output: str, target: str) -> Loss:
    return Loss(lambda batch: function(*_pair(batch, output, target)), needed(target), drop_bounds(target))


def _build_mse(*, output: str = "", target: str = "y") -> Metric:
    return _mean(mse, output, target)


def _build_mae(*, output: str = "", target: str = "y") -> Metric:
    return _mean(mae, output, target)


def _build_huber(*, output: str = "", target: str = "y", delta: float = 1.0) -> Metric:
    at_least(0, above=True, delta=delta)
    return _mean(partial(huber, delta=delta), output, target)


def _build_smooth_l1(*, output: str = "", target: str = "y", beta: float = 1.0) -> Metric:
    at_least(0, beta=beta)
    return _mean(partial(smooth_l1, beta=beta), output, target)


def _rows(batch: Evaluated, output: str, target: str) -> tuple[Floats, Floats]:
    """Outputs and targets, each (n, k), of k numbers per sample."""
    found, wanted = (x.reshape(len(x), -1) for x in _pair(batch, output, target))
    if found.shape[1] > MOST_OUTPUTS:
        raise DataError(f"an average over outputs takes {MOST_OUTPUTS} numbers per sample, got {found.shape[1]}")
    return found, wanted


class _RootMean(Loss):
    """The root of a mean."""

    def resampled(self, records: Records, weights: Floats) -> Floats:
        """As `Metric`."""
        return np.sqrt(super().resampled(records, weights))


class _MeanOfRoots(Loss):
    """Of every output the root of the mean, then the mean of these: records are squared errors (n, k)."""

    arrays = 1

    def collect(self, batch: Evaluated) -> Records:
        """Squared errors."""
        with located(batch):
            return (np.asarray(self.losses(batch)),)

    def resampled(self, records: Records, weights: Floats) -> Floats:
        """As `Metric`."""
        total = np.maximum(weights.sum(axis=1, keepdims=True), np.finfo(float).tiny)
        roots: Floats = np.sqrt((weights @ records[0]) / total).mean(axis=1)
        return roots


def _build_rmse(*, output: str = "", target: str = "y", multioutput: str = "flattened") -> Metric:
    if multioutput == "flattened":
        return _RootMean(lambda batch: mse(*_pair(batch, output, target)), needed(target), drop_bounds(target))

    def squares(batch: Evaluated) -> Floats:
        found, wanted = _rows(batch, output, target)
        return _torchs("mse_loss", found, wanted)

    return _MeanOfRoots(squares, needed(target), drop_bounds(target))


@dataclass(frozen=True, eq=False)
class _Determination(Metric):
    """R2 = 1 - residual over total sum of squares; records are targets and squared errors, each (n, k)."""

    output: str
    target: str
    multioutput: str
    needs: tuple[str, ...]

    def collect(self, batch: Evaluated) -> Records:
        """Targets and squared errors."""
        with located(batch):
            found, wanted = _rows(batch, self.output, self.target)
        return wanted, (found - wanted) ** 2

    def resampled(self, records: Records, weights: Floats) -> Floats:
        """As `Metric`. A target that does not vary scores 1 where it is met, else 0, as in scikit-learn."""
        wanted, squares = records
        shifted = wanted - wanted[:1]  # sums of squares keep their digits
        total = np.maximum(weights.sum(axis=1, keepdims=True), np.finfo(float).tiny)
        second = weights @ shifted**2
        spread = second - (weights @ shifted) ** 2 / total
        varies = spread > 1e-12 * second
        residual = weights @ squares
        ratio = np.divide(residual, spread, out=(residual > 0).astype(np.float64), where=varies)
        if self.multioutput == "uniform_average":
            uniform: Floats = 1 - ratio.mean(axis=1)
            return uniform
        share = np.where(varies, spread, 0.0)
        whole = share.sum(axis=1)
        pooled = np.divide((share * ratio).sum(axis=1), whole, out=ratio.mean(axis=1), where=whole > 0)
        return np.asarray(1 - pooled, dtype=np.float64)


def _build_r2(*, output: str = "", target: str = "y", multioutput: str = "uniform_average") -> Metric:
    return _Determination(output, target, multioutput, needed(target))


_PAIR: Mapping[str, Any] = {"output": OUTPUT, "target": TARGET}
_TASK = ("regression",)
_ROOTS = ("flattened", "uniform_average")
_SHARES = ("uniform_average", "variance_weighted")

FAMILIES: Mapping[str, Family] = {
    "mse": Family(_build_mse, "mean squared error (L2)", _PAIR, _TASK),
    "mae": Family(_build_mae, "mean absolute error (L1)", _PAIR, _TASK),
    "rmse": Family(
        _build_rmse,
        "root of the mean squared error, of all outputs together or averaged over them as in scikit-learn",
        {**_PAIR, "multioutput": Parameter("flattened", _ROOTS, "one root, or the mean of one per output")},
        _TASK,
    ),
    "r2": Family(
        _build_r2,
        "coefficient of determination, as in scikit-learn; higher is better",
        {**_PAIR, "multioutput": Parameter("uniform_average", _SHARES, "how outputs are averaged")},
        _TASK,
    ),
    "huber": Family(
        _build_huber,
        "Huber's loss: e^2/2 within delta, delta (|e| - delta/2) outside",
        {**_PAIR, "delta": Parameter(1.0, help="where it turns linear")},
    ),
    "smooth_l1": Family(
        _build_smooth_l1,
        "smooth L1: e^2/(2 beta) within beta, |e| - beta/2 outside; Huber's loss over delta",
        {**_PAIR, "beta": Parameter(1.0, help="where it turns linear; 0 is the absolute error")},
    ),
}
