"""What a latency comparison found, as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np

from quant.latency import statistics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

StoppedBy = Literal["precision", "max_pairs", "max_seconds"]


@dataclass(frozen=True)
class Warmup:
    """What one model ran before it was measured.

    Attributes:
        runs: how often it ran.
        seconds: how long that took.
        first_ms: time of the very first run, in milliseconds.
        steady: whether the last two windows agreed; False where the cap on warm-up time came first.
    """

    runs: int
    seconds: float
    first_ms: float
    steady: bool


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
    def drift(self) -> statistics.Drift:
        """How the times moved during the measurement."""
        return statistics.drift(self.started, self.samples)

    @property
    def percentiles_ms(self) -> dict[int, float]:
        """Percentiles of single runs that the sample size supports; none where a sample averages several runs."""
        return statistics.percentiles(1e3 * self.samples) if self.repeats == 1 else {}

    def to_dict(self, *, samples: bool = False) -> dict[str, object]:
        """The figures for a report; with `samples`, the raw series too."""
        slowest = int(np.argmax(self.samples))
        figures: dict[str, object] = {
            "median_ms": self.median_ms,
            "max_ms": float(1e3 * self.samples[slowest]),
            "max_at_seconds": float(self.started[slowest]),
            "percentiles_ms": {f"p{percent}": value for percent, value in self.percentiles_ms.items()},
            "iqr_over_median": statistics.spread(self.samples),
            "outliers": statistics.outliers(self.samples),
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
        fraction: the largest difference inside that interval, or the protocol's margin if that is larger. No smaller
            difference between models is claimed.
        pairs: how many pairs it rests on.
    """

    interval: tuple[float, float]
    fraction: float
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
        warnings: what made the measurement less trustworthy, in sentences.
        settings: how the sessions were opened (`threads`, `device`, ...); empty for plain callables.
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
    warnings: tuple[str, ...] = ()
    settings: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))

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

    def to_dict(self, names: tuple[str, str] = ("float", "int8"), *, samples: bool = False) -> dict[str, object]:
        """The `latency` object of the report schemas.

        Args:
            names: what the two models are called: ("float", "int8") or ("a", "b").
            samples: whether to include the raw series.
        """
        first, second = names
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
            "stopped_by": self.stopped_by,
            "seconds": self.seconds,
            "arms": {first: self.a.to_dict(samples=samples), second: self.b.to_dict(samples=samples)},
            "session": dict(self.settings),
            "warnings": list(self.warnings),
        }
