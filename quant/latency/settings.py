"""The numbers of the protocol."""

from __future__ import annotations

import math
from dataclasses import dataclass

from profiler.errors import UsageError


@dataclass(frozen=True)
class Protocol:
    """Settings of a comparison. All times are in seconds.

    Attributes:
        warmup_runs: fewest runs of a warm-up window.
        warmup_seconds: shortest warm-up.
        warmup_max_seconds: longest warm-up of one model; the run that reaches it is the last.
        warmup_tolerance: relative difference of two windows' medians that counts as steady.
        sample_seconds: shortest sample; faster models run several times per sample.
        lead_in_seconds: models whose run takes less than this run once before each sample, outside the clock: the other
            model has emptied the processor's caches, which costs a short run some percent, and two models unequally.
        rest_seconds: mean pause before each sample (and its lead-in). Where processes share a core, one that has just
            waited is given it for longer: without pauses a third of the samples may be interrupted, with them few.
        min_pairs: fewest pairs before the interval may end the measurement.
        min_seconds: shortest measurement.
        max_seconds: longest measurement, noise floor included; the pair that reaches it is the last.
        margin: no smaller difference is claimed, however quiet the machine.
        single_margin: the same where a model has fewer than three sessions: two sessions of one and the same model can
            differ by more than 1 % for as long as they live, by where their memory happens to lie.
        half_width: of the interval from resampled pairs, relative to the speed-up, at which there is precision enough.
        confidence: of the intervals.
        resamples: of the bootstrap.
    """

    warmup_runs: int = 3
    warmup_seconds: float = 0.2
    warmup_max_seconds: float = 2.0
    warmup_tolerance: float = 0.02
    sample_seconds: float = 0.001
    lead_in_seconds: float = 0.010
    rest_seconds: float = 0.0005
    min_pairs: int = 100
    min_seconds: float = 3.0
    max_seconds: float = 30.0
    margin: float = 0.01
    single_margin: float = 0.02
    half_width: float = 0.01
    confidence: float = 0.95
    resamples: int = 2000

    def __post_init__(self) -> None:
        if not 0.0 < self.max_seconds < math.inf:
            raise UsageError(f"the time limit of a latency comparison must be positive seconds, got {self.max_seconds}")

    @classmethod
    def lasting(cls, seconds: float) -> Protocol:
        """The protocol within a time limit: shorter than usual where there is no time for more."""
        return cls(max_seconds=seconds, min_seconds=min(cls.min_seconds, seconds))
