"""Running the float graph on calibration data and keeping of each tensor only its statistics.

The wanted tensors become outputs of a copy of the graph. Each batch is reduced as soon as it has run, so memory stays
in the order of one batch of activations, whatever the number of samples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import DataError, UsageError
from quant.calibrate.ranges import METHODS, Statistics
from quant.graph import name_of, to_bytes, values_of
from quant.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import onnx_ir as ir

    from quant.affine import Range

    Feed = Mapping[str, np.ndarray]

BINS = 2048


def observe(
    model: ir.Model,
    batches: Callable[[], Iterable[Feed]],
    tensors: Sequence[str],
    *,
    method: str = "minmax",
    threads: int = 1,
) -> dict[str, Range]:
    """The range of each tensor over all calibration batches.

    Args:
        model: the float graph.
        batches: gives the batches anew at each call (input name -> array); some methods go through them twice.
        tensors: names of inputs or intermediate values, such as `plan.observed`.
        method: one of `quant.calibrate.METHODS`.
        threads: that one operator may use.

    Raises:
        UsageError: an unknown method.
        DataError: there is no batch, or one makes a tensor infinite or NaN.
    """
    if method not in METHODS:
        raise UsageError(f"unknown range method {method!r}; known are {', '.join(METHODS)}")
    if not tensors:
        return {}
    chosen = METHODS[method]
    watch = _Watch(model, tensors, threads)
    seen = _extremes(watch.runs(batches()))
    if chosen.histogram:
        seen = _histograms(watch.runs(batches()), seen)
    return {name: chosen.choose(seen[name]) for name in tensors}


class _Watch:
    """A session that shows intermediate tensors."""

    def __init__(self, model: ir.Model, tensors: Sequence[str], threads: int) -> None:
        copy = model.clone()
        values = values_of(copy.graph)
        shown = {name_of(value) for value in (*copy.graph.outputs, *copy.graph.inputs)}
        copy.graph.outputs.extend(values[name] for name in dict.fromkeys(tensors) if name not in shown)
        self.tensors = tensors
        self.session = open_session(to_bytes(copy), threads=threads)

    def runs(self, batches: Iterable[Feed]) -> Iterator[dict[str, np.ndarray]]:
        """The wanted tensors, batch by batch."""
        for feed in batches:
            found = {**dict(zip(self.session.output_names, self.session.run(feed), strict=True)), **feed}
            yield {name: found[name] for name in self.tensors}


@dataclass
class _Extremes:
    """Running extremes and their sums over the batches."""

    low: float = np.inf
    high: float = -np.inf
    sum_low: float = 0.0
    sum_high: float = 0.0

    def add(self, low: float, high: float) -> None:
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.sum_low, self.sum_high = self.sum_low + low, self.sum_high + high

    def statistics(self, batches: int) -> Statistics:
        return Statistics(self.low, self.high, self.sum_low / batches, self.sum_high / batches)


def _extremes(runs: Iterator[dict[str, np.ndarray]]) -> dict[str, Statistics]:
    extremes: dict[str, _Extremes] = {}
    batches = 0
    for found in runs:
        batches += 1
        for name, array in found.items():
            low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
            if not (np.isfinite(low) and np.isfinite(high)):  # min and max hand NaN on
                what = "NaN" if np.isnan(low) else "infinite values"
                raise DataError(
                    f"calibration batch {batches} gives {what} in tensor {name!r}; no integer grid can hold that.\n"
                    "Check that the calibration data are scaled as the model expects."
                )
            extremes.setdefault(name, _Extremes()).add(low, high)
    if not batches:
        raise DataError("there are no calibration batches")
    return {name: found.statistics(batches) for name, found in extremes.items()}


def _histograms(runs: Iterator[dict[str, np.ndarray]], seen: dict[str, Statistics]) -> dict[str, Statistics]:
    counts = {name: np.zeros(BINS, np.int64) for name in seen}
    for found in runs:
        for name, array in found.items():
            stats = seen[name]
            if stats.low < stats.high:
                counts[name] += np.histogram(array[array != 0], bins=BINS, range=(stats.low, stats.high))[0]
    return {name: replace(stats, counts=counts[name]) for name, stats in seen.items()}
