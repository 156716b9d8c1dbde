"""Judging a quantized model on the evaluation samples, each model run once."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from quant.inference import first_output
from quant.metrics import Comparison, compare_outputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from quant.data import Samples
    from quant.select import Bench, Candidate


class Judge:
    """Compares models with float on samples with labels, or without them by fidelity."""

    def __init__(self, bench: Bench, samples: Samples, *, labelled: bool, metrics: Sequence[str] | None) -> None:
        self.bench = bench
        self.samples = samples
        self.labelled = labelled
        self.metrics = metrics
        self._known: dict[bytes, Comparison] = {}

    @cached_property
    def _float(self) -> np.ndarray:
        return first_output(
            self.bench.reference, self.samples, stage="evaluating float", progress=self.bench.run.progress
        )

    def check(self) -> None:
        """Compare float with itself: labels, metrics and outputs that do not go together come to light.

        Raises:
            DataError: the labels do not fit the outputs.
            UsageError: a metric that these samples cannot give.
        """
        if self.labelled:
            self.samples.check_classes(self._float.shape)
        self._against_float(self._float)

    def compared(self, model: bytes) -> Comparison:
        """A model's metrics against float's."""
        if model not in self._known:
            run = self.bench.run
            outputs = first_output(run.opened(model), self.samples, stage="evaluating int8", progress=run.progress)
            self._known[model] = self._against_float(outputs)
        return self._known[model]

    def _against_float(self, outputs: np.ndarray) -> Comparison:
        return compare_outputs(
            self._float,
            outputs,
            self.samples.read_labels() if self.labelled else None,
            task=self.samples.task if self.labelled else None,
            metrics=self.metrics,
            seed=self.bench.run.seed,
        )

    def within(self, candidate: Candidate, max_drop: float | None) -> bool:
        """Whether the interval of the first metric's drop lies inside the budget; always, where there is none."""
        if max_drop is None:
            return True
        first = next(iter(self.compared(candidate.file).metrics.values()))
        return first.interval is not None and first.interval.high <= max_drop
