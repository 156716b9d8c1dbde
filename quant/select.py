"""Choosing among placements by measurement: how close to float on samples held back, and how fast on this machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from quant.graph import to_bytes, without_traces
from quant.inference import first_output
from quant.latency import compare_latency
from quant.latency.whole import time_models
from quant.metrics.fidelity import Fidelity, fidelity
from quant.place.qdq import apply

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx_ir as ir

    from quant.affine import Range
    from quant.correct.weights import WeightScale
    from quant.data import Samples
    from quant.latency.result import LatencyComparison
    from quant.latency.whole import Timing
    from quant.place.plan import Plan
    from quant.run import Run
    from quant.runtime import RuntimeSession

# Two placements whose speed differs by less than this are as fast; then the closer one is taken.
AS_FAST = 0.03
# Most samples of the held-back ones that a placement may name another class for than the best placement does.
AS_CLOSE = 0.01


@dataclass(frozen=True, eq=False)
class Candidate:
    """A quantized model and what was measured of it.

    Attributes:
        plan: its placement.
        graph: the quantized graph.
        fidelity: to the float model, on samples held back from calibration.
        latency: against the float model; None where it was not timed.
    """

    plan: Plan
    graph: ir.Model
    fidelity: Fidelity
    latency: LatencyComparison | None = None

    @property
    def file(self) -> bytes:
        """The model as an ONNX file."""
        return to_bytes(without_traces(self.graph))

    @property
    def agreement(self) -> float:
        """Part of the held-back samples with the float model's top class; 1 for outputs without classes."""
        mean = float(self.fidelity.agreement.mean())
        return 1.0 if np.isnan(mean) else mean

    @property
    def sqnr_db(self) -> float:
        """Signal to noise, the median over samples."""
        return float(np.median(self.fidelity.sqnr_db))

    @property
    def error(self) -> float:
        """What a refinement must lower to be kept: the mean KL, or the noise where outputs are no classes."""
        kl = float(self.fidelity.kl.mean())
        return -self.sqnr_db if np.isnan(kl) else kl

    @property
    def speedup(self) -> float:
        """Over float; 0 where it was not timed."""
        return self.latency.speedup if self.latency else 0.0

    def summary(self) -> dict[str, Any]:
        """Its figures, for a report."""
        figures: dict[str, Any] = {"agreement": self.agreement, "sqnr_db": self.sqnr_db}
        if self.latency is not None:
            figures |= {"speedup": self.speedup, "interval": list(self.latency.interval)}
        return figures


@dataclass(frozen=True, eq=False)
class Bench:
    """What candidates are measured against and on.

    Attributes:
        reference: the float model.
        outputs: its outputs on the samples held back.
        held_back: those samples.
        feeds: single inputs for the timing.
        run: settings.
    """

    reference: RuntimeSession
    outputs: np.ndarray
    held_back: Samples
    feeds: Sequence[Mapping[str, np.ndarray]]
    run: Run

    def built(
        self, plan: Plan, graph: ir.Model, ranges: Mapping[str, Range], weight_scale: WeightScale | None = None
    ) -> Candidate:
        """Quantize a float graph by a plan and compare the outputs with float's."""
        quantized = apply(plan, graph, ranges, weight_scale=weight_scale)
        outputs = first_output(self.run.opened(to_bytes(quantized)), self.held_back)
        return Candidate(plan, quantized, fidelity(self.outputs, outputs))

    def timed(self, candidate: Candidate, seconds: float) -> Candidate:
        """Time a candidate against float."""
        return replace(candidate, latency=self.against_float(candidate.file, seconds))

    def at_length(self, float_file: bytes, model: bytes, seconds: float, timing: Timing) -> LatencyComparison:
        """Time a model against float with all that belongs to a report."""
        run = self.run
        return time_models(
            float_file,
            model,
            timing,
            inputs=self.feeds,
            device=run.device,
            threads=run.threads,
            seed=run.seed,
            seconds=seconds,
            progress=run.progress,
        )

    def against_float(self, model: bytes, seconds: float) -> LatencyComparison:
        """Time a model against float."""
        session, run = self.run.opened(model), self.run
        return compare_latency(
            self.reference, session, inputs=self.feeds, seed=run.seed, seconds=seconds, progress=run.progress
        )


def ranking(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The timed candidates, the one to take first.

    Those that agree with float clearly less often than the best are put last. Among the others the fastest leads, and
    of those about as fast the one with the least noise.
    """
    best = max(c.agreement for c in candidates)
    close = [c for c in candidates if c.agreement >= best - AS_CLOSE]
    rest = [c for c in candidates if c.agreement < best - AS_CLOSE]
    ordered: list[Candidate] = []
    while close:
        fastest = max(c.speedup for c in close)
        leader = max((c for c in close if c.speedup >= fastest * (1 - AS_FAST)), key=lambda c: c.sqnr_db)
        ordered.append(leader)
        close.remove(leader)
    return [*ordered, *sorted(rest, key=lambda c: c.speedup, reverse=True)]
