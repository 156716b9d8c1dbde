"""Judging a quantized model on the evaluation samples, each model run once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quant.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quant.data import Samples
    from quant.metrics import Comparison
    from quant.select import Bench, Candidate


class Judge:
    """Compares models with float on samples with labels, or without them by fidelity."""

    def __init__(self, bench: Bench, samples: Samples, *, labelled: bool, metrics: Sequence[str] | None) -> None:
        self.bench = bench
        self.samples = samples
        self._trial = Trial(
            bench.reference,
            samples,
            metrics=metrics,
            seed=bench.run.seed,
            labelled=labelled,
            progress=bench.run.progress,
        )
        self._known: dict[bytes, Comparison] = {}

    def check(self) -> None:
        """Compare float with itself: labels, metrics and outputs that do not go together come to light.

        Raises:
            DataError: the labels do not fit the outputs.
            UsageError: a metric that these samples cannot give.
        """
        self._trial.check()

    def compared(self, model: bytes) -> Comparison:
        """A model's metrics against float's."""
        if model not in self._known:
            session = self.bench.run.opened(model)
            self._known[model] = self._trial.against_first(session, stage="evaluating int8")
        return self._known[model]

    def within(self, candidate: Candidate, max_drop: float | None) -> bool:
        """Whether the interval of the first metric's drop lies inside the budget; always, where there is none."""
        if max_drop is None:
            return True
        first = next(iter(self.compared(candidate.file).metrics.values()))
        return first.interval is not None and first.interval.high <= max_drop
