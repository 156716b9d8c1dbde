"""What a latency comparison found, as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from quant.latency import statistics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from quant.latency.closeness import Closeness
    from quant.latency.conditions import Conditions
    from quant.latency.fresh import Fresh
    from quant.latency.pairs import StoppedBy
    from quant.latency.sweep import BatchRow
    from quant.latency.warmup import Warmup


@dataclass(frozen=True, eq=False)
class Arm:
    """The times of one of the two models.

    Attributes:
        started: when each sample began, in seconds since the first pair, shape (n,).
        samples: time of one run in seconds, shape (n,); the mean of `repeats` runs each.
        repeats: runs per sample, so that a sample is long enough for the clock.
        warmup: what happened before.
    """

    started: NDArray[np.float64] = field(repr=False)
    samples: NDArray[np.float64] = field(repr=False)
    repeats: int
    warmup: Warmup

    @property
    def median_ms(self) -> float:
        """Median time of one run in milliseconds."""
        return float(1e3 * np.median(self.samples))

    @property
    def median_interval_ms(self) -> tuple[float, float]:
        """Order-statistic 95 % interval of the median, in milliseconds; it takes samples for independent."""
        low, high = statistics.median_interval(1e3 * self.samples)
        return low, high

    @property
    def slowest(self) -> tuple[float, float]:
        """The slowest sample's time of one run in milliseconds, and when it began, in seconds since the first pair."""
        index = int(np.argmax(self.samples))
        return float(1e3 * self.samples[index]), float(self.started[index])

    @property
    def outliers(self) -> int:
        """How many samples lie far above the median; they stay in all figures."""
        return statistics.outliers(self.samples)

    @property
    def drift(self) -> statistics.Drift:
        """How the times moved during the measurement."""
        return statistics.drift(self.started, self.samples)

    @property
    def percentiles_ms(self) -> dict[float, float]:
        """Percentiles of single runs that the sample size supports; none where a sample averages several runs."""
        return statistics.percentiles(1e3 * self.samples) if self.repeats == 1 else {}

    @property
    def percentiles_left_out(self) -> dict[float, str]:
        """Why the other percentiles are not given."""
        if self.repeats > 1:
            return dict.fromkeys(statistics.PERCENTILE_NEEDS, f"a sample is the mean of {self.repeats} runs")
        n = len(self.samples)
        return {p: f"n too small: {n} of {m}" for p, m in statistics.PERCENTILE_NEEDS.items() if n < m}

    def to_dict(self, *, samples: bool = False) -> dict[str, object]:
        """The figures for a report; with `samples`, the raw series too."""
        slowest, when = self.slowest
        figures: dict[str, object] = {
            "median_ms": self.median_ms,
            "median_interval_ms": list(self.median_interval_ms),
            "max_ms": slowest,
            "max_at_seconds": when,
            "percentiles_ms": {f"p{percent:g}": value for percent, value in self.percentiles_ms.items()},
            "percentiles_left_out": {f"p{percent:g}": why for percent, why in self.percentiles_left_out.items()},
            "iqr_over_median": statistics.spread(self.samples),
            "outliers": self.outliers,
            "drift": asdict(self.drift),
            "warmup": asdict(self.warmup),
        }
        if samples:
            figures["started_seconds"] = self.started.tolist()
            figures["samples_ms"] = (1e3 * self.samples).tolist()
        return figures


@dataclass(frozen=True)
class NoiseFloor:
    """What the first model shows when it is compared with itself.

    Attributes:
        interval: of its speed-up over itself; the truth is 1.
        fraction: the middle of that interval, its half-width (both as differences from 1) or `margin`, whichever is
            largest. No smaller difference between models is claimed.
        margin: the protocol's, for as many sessions as there were.
        pairs: how many pairs it rests on.
    """

    interval: tuple[float, float]
    fraction: float
    margin: float
    pairs: int


@dataclass(frozen=True, eq=False)
class LatencyComparison:
    """Two models timed side by side; all words speak of the second (`b`) against the first (`a`).

    Attributes:
        a: the first model's times.
        b: the second model's times.
        speedup: median time of the first over median time of the second.
        interval: of the speed-up, at `confidence`.
        confidence: of both intervals.
        verdict: "faster", "slower" or "no difference shown".
        noise_floor: the first model against itself, measured first.
        stopped_by: "precision" where the interval was narrow enough, else the limit that was reached.
        seconds: how long the pairs took, without warm-up and noise floor.
        lead_in: whether each sample was preceded by a run outside the clock.
        sessions: how often each model was loaded.
        session_differences: logarithm of the speed-up in each of them.
        warnings: what made the measurement less trustworthy, in sentences.
        settings: how the sessions were opened (`threads`, `device`, ...); empty for plain callables.
        closeness: how far the models' outputs lie apart; None where callables were timed.
        conditions: what else went on meanwhile; None as above.
        fresh: cold start and memory of both models, from processes of their own; None where it was not asked for.
        batches: the same comparison at other batch sizes, where they were asked for.
        with_samples: whether a report holds the raw series.
    """

    a: Arm
    b: Arm
    speedup: float
    interval: tuple[float, float]
    confidence: float
    verdict: statistics.Verdict
    noise_floor: NoiseFloor
    stopped_by: StoppedBy
    seconds: float
    lead_in: bool = False
    sessions: int = 1
    session_differences: tuple[float, ...] = field(default=(), repr=False)
    warnings: tuple[str, ...] = ()
    settings: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    closeness: Closeness | None = None
    conditions: Conditions | None = None
    fresh: tuple[Fresh, Fresh] | None = None
    batches: tuple[BatchRow, ...] = ()
    with_samples: bool = False

    @property
    def pairs(self) -> int:
        """How many pairs of samples were taken."""
        return len(self.a.samples)

    @property
    def a_ms(self) -> float:
        """Median time of the first model in milliseconds."""
        return self.a.median_ms

    @property
    def b_ms(self) -> float:
        """Median time of the second model in milliseconds."""
        return self.b.median_ms

    @property
    def float_ms(self) -> float:
        """`a_ms` under the name it has where the first model is the float one."""
        return self.a_ms

    @property
    def int8_ms(self) -> float:
        """`b_ms` under the name it has where the second model is the int8 one."""
        return self.b_ms

    def to_dict(self, names: tuple[str, str] = ("float", "int8"), *, samples: bool | None = None) -> dict[str, object]:
        """The `latency` object of the report schemas.

        Args:
            names: what the two models are called: ("float", "int8") or ("a", "b").
            samples: whether to include the raw series; as `with_samples` says if None.
        """
        first, second = names
        samples = self.with_samples if samples is None else samples
        return {
            f"{first}_ms": self.a_ms,
            f"{second}_ms": self.b_ms,
            "speedup": self.speedup,
            "interval": list(self.interval),
            "confidence": self.confidence,
            "verdict": self.verdict,
            "threads": self.settings.get("threads"),
            "device": self.settings.get("device"),
            "noise_floor": {**asdict(self.noise_floor), "interval": list(self.noise_floor.interval)},
            "pairs": self.pairs,
            "repeats": self.a.repeats,
            "lead_in": self.lead_in,
            "sessions": {"count": self.sessions, "log_speedups": list(self.session_differences)},
            "stopped_by": self.stopped_by,
            "seconds": self.seconds,
            "arms": {first: self.a.to_dict(samples=samples), second: self.b.to_dict(samples=samples)},
            "outputs": asdict(self.closeness) if self.closeness else None,
            "conditions": asdict(self.conditions) if self.conditions else None,
            "cold": {first: self.fresh[0].cold(), second: self.fresh[1].cold()} if self.fresh else None,
            "memory": {first: self.fresh[0].memory(), second: self.fresh[1].memory()} if self.fresh else None,
            "batches": [row.to_dict(names) for row in self.batches],
            "session": dict(self.settings),
            "warnings": list(self.warnings),
        }
