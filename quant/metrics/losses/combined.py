"""Several losses as one: sum lambda_i L_i, or sum L_i/(2 sigma_i^2) + log sigma_i (Kendall et al. 2018).

Losses are written `losses=NAME/PARAMETER=VALUE/...+NAME/...`: as by themselves, with / where : stands there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import UsageError
from quant.metrics.base import Evaluated, Family, Metric, Parameter
from quant.metrics.losses._inputs import at_least, numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from quant.metrics.base import Records

    Floats = npt.NDArray[np.float64]

_NEXT = re.compile(r"\+(?=[a-z])")  # 1e+3 is a number
_PARAMETER = re.compile(r"/(?=\w+=)")  # any other is part of a value, as in names of outputs


def weighted(losses: npt.ArrayLike, weights: npt.ArrayLike) -> Floats:
    """Sum of lambda_i L_i over axis 0."""
    return np.tensordot(np.asarray(weights, dtype=np.float64), np.asarray(losses, dtype=np.float64), axes=1)


def uncertainty(losses: npt.ArrayLike, sigmas: npt.ArrayLike) -> Floats:
    """Sum of L_i/(2 sigma_i^2) + log sigma_i over axis 0."""
    s = np.asarray(sigmas, dtype=np.float64)
    return np.asarray(weighted(losses, 1 / (2 * s**2)) + np.log(s).sum(), dtype=np.float64)


def _arrays(metric: Metric) -> int:
    """How many arrays its records are: two in most losses, numerators and denominators."""
    return int(getattr(metric, "arrays", 2))


@dataclass(frozen=True, eq=False)
class _Combined(Metric):
    """Losses side by side: the records of all, one after the other."""

    parts: tuple[Metric, ...]
    combine: Callable[[npt.ArrayLike], Floats]
    arrays: int
    needs: tuple[str, ...]
    refers: bool
    higher_is_better = False

    def collect(self, batch: Evaluated) -> Records:
        """The records of every loss."""
        return tuple(record for part in self.parts for record in part.collect(batch))

    def _split(self, records: Records) -> list[tuple[Metric, Records]]:
        edges = np.cumsum([0, *map(_arrays, self.parts)]).tolist()
        return [(part, records[a:b]) for part, (a, b) in zip(self.parts, pairwise(edges), strict=True)]

    def value(self, records: Records) -> float:
        """As `Metric`."""
        return float(self.combine([part.value(own) for part, own in self._split(records)]))

    def resampled(self, records: Records, weights: Floats) -> Floats:
        """As `Metric`."""
        return self.combine([part.resampled(own, weights) for part, own in self._split(records)])


def _parts(losses: str) -> tuple[Metric, ...]:
    """The losses of a sum, from their text."""
    from quant.metrics.losses import LOSSES  # which this module is a part of, as the registry's table is
    from quant.metrics.registry import parse

    if not losses:
        raise UsageError("name the losses to add up: losses=ce+mse/output=box/target=boxes")
    found = []
    for text in _NEXT.split(losses):
        spec = parse(_PARAMETER.sub(":", text), LOSSES)
        metric = spec.build()
        if metric.higher_is_better:
            raise UsageError(f"{spec.name} is better the higher it is, and does not go into a sum of losses")
        found.append(metric)
    return tuple(found)


def _combined(losses: str, each: Floats, name: str, combine: Callable[[npt.ArrayLike, Floats], Floats]) -> Metric:
    parts = _parts(losses)
    if len(each) not in (1, len(parts)):
        raise UsageError(f"{name}: {len(each)} numbers for {len(parts)} losses; give one for each, or one for all")
    every = np.broadcast_to(each, len(parts))
    refers = any(part.refers or not part.needs for part in parts)
    needs = tuple(dict.fromkeys(label for part in parts for label in part.needs))
    return _Combined(parts, lambda values: combine(values, every), sum(map(_arrays, parts)), needs, refers)


def _build_weighted(*, losses: str = "", weights: object = "1") -> Metric:
    return _combined(losses, numbers(weights, "weights"), "weights", weighted)


def _build_uncertainty(*, losses: str = "", sigmas: object = "1") -> Metric:
    each = numbers(sigmas, "sigmas")
    at_least(0, above=True, sigmas=float(each.min()))
    return _combined(losses, each, "sigmas", uncertainty)


_LOSSES = Parameter("", help="losses with + between, each as NAME/PARAMETER=VALUE/...")

FAMILIES: Mapping[str, Family] = {
    "weighted": Family(
        _build_weighted,
        "several tasks: sum of lambda_i L_i",
        {"losses": _LOSSES, "weights": Parameter("1", help="lambda of each, with commas between; one for all")},
    ),
    "uncertainty": Family(
        _build_uncertainty,
        "several tasks by their uncertainty: sum of L_i/(2 sigma_i^2) + log sigma_i (Kendall et al. 2018)",
        {"losses": _LOSSES, "sigmas": Parameter("1", help="sigma of each, with commas between; one for all")},
    ),
}
