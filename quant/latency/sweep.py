"""The same comparison at several batch sizes: latency, throughput and speed-up of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from profiler.errors import NetgaugeError, UsageError
from quant.latency.compare import compare_latency
from quant.latency.inputs import random_inputs
from quant.runtime import RuntimeSession, open_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from quant.latency.compare import Inputs, Model
    from quant.latency.result import LatencyComparison

FEEDS = 4  # different inputs per batch size: batches of many samples are large
_MOST_BYTES = 256 << 20  # of inputs held per batch size


@dataclass(frozen=True, eq=False)
class BatchRow:
    """One batch size.

    Attributes:
        batch: samples per run.
        latency: the comparison; None where there is none.
        why: why not; "" where there is one.
    """

    batch: int
    latency: LatencyComparison | None
    why: str = ""

    def per_second(self) -> tuple[float, float]:
        """Samples per second of the first and of the second model, by the median latency."""
        if self.latency is None:
            return np.nan, np.nan
        return 1e3 * self.batch / self.latency.a_ms, 1e3 * self.batch / self.latency.b_ms

    def to_dict(self, names: tuple[str, str]) -> dict[str, Any]:
        """As JSON."""
        if self.latency is None:
            return {"batch": self.batch, "left_out": self.why}
        arms = dict(zip(names, (self.latency.a, self.latency.b), strict=True))
        rates = dict(zip(names, self.per_second(), strict=True))
        return {
            "batch": self.batch,
            **{f"{name}_ms": arm.median_ms for name, arm in arms.items()},
            **{f"{name}_interval_ms": list(arm.median_interval_ms) for name, arm in arms.items()},
            **{f"{name}_samples_per_second": rate for name, rate in rates.items()},
            "speedup": self.latency.speedup,
            "interval": list(self.latency.interval),
            "verdict": self.latency.verdict,
            "noise_floor": self.latency.noise_floor.fraction,
            "pairs": self.latency.pairs,
            "stopped_by": self.latency.stopped_by,
            "warnings": list(self.latency.warnings),
        }


def sweep(
    model_a: Model,
    model_b: Model,
    batches: Sequence[int],
    *,
    inputs: Inputs | None = None,
    seconds: float,
    **options: Any,  # noqa: ANN401  # those of compare_latency
) -> tuple[BatchRow, ...]:
    """Compare two models at each batch size.

    Args:
        model_a: a file, its bytes, or an open session.
        model_b: another.
        batches: numbers of samples per run.
        inputs: single samples (first axis 1), repeated in turn to make batches; random ones if None.
        seconds: most time for the timing of all of them together.
        options: further ones of `compare_latency`.

    Returns:
        One row per size. Where a model has a fixed batch, cannot take this one or runs out of memory, the row says so.

    Raises:
        UsageError: a size below 1, or an option is wrong.
        DataError: the models do not take the inputs even one at a time.
    """
    if any(batch < 1 for batch in batches):
        raise UsageError(f"a batch holds at least one sample, got {min(batches)}")
    opening = {name: options[name] for name in ("device", "threads", "trust", "limits") if name in options}
    first, second = (m if isinstance(m, RuntimeSession) else open_session(m, **opening) for m in (model_a, model_b))
    rows = []
    for batch in dict.fromkeys(batches):
        why = next((text for session in (first, second) if (text := _fixed(session, batch))), "")
        if why:
            rows.append(BatchRow(batch, None, why))
            continue
        try:
            feeds = _batched(first, inputs, batch, options.get("seed", 0))
            found = compare_latency(model_a, model_b, inputs=feeds, seconds=seconds / len(batches), **options)
            rows.append(BatchRow(batch, found))
        except UsageError:
            raise
        except NetgaugeError as error:
            rows.append(BatchRow(batch, None, str(error).splitlines()[0]))
        except MemoryError:
            rows.append(BatchRow(batch, None, "there is not enough memory"))
    return tuple(rows)


def _fixed(session: RuntimeSession, batch: int) -> str:
    """Why a model cannot run a batch of this size, as far as its inputs say."""
    if not session.input_shapes or not all(session.input_shapes):
        return f"{session.name}: not every input has a batch axis"
    for name, shape in zip(session.input_names, session.input_shapes, strict=True):
        if isinstance(shape[0], int) and shape[0] != batch:
            return f"{session.name}: input {name!r} is fixed to a batch of {shape[0]}"
    return ""


def _batched(
    session: RuntimeSession, inputs: Inputs | None, batch: int, seed: int
) -> Sequence[Mapping[str, np.ndarray]]:
    if inputs is None:
        one = random_inputs(session, count=1, batch=batch, seed=seed)[0]
        return [one, *random_inputs(session, count=_count(one) - 1, batch=batch, seed=seed + 1)]
    singles = [feed for feed in inputs if all(len(array) == 1 for array in feed.values())]
    if not singles:
        return random_inputs(session, count=1, batch=batch, seed=seed)
    built: list[dict[str, np.ndarray]] = []
    while not built or len(built) < min(FEEDS, _count(built[0])):
        start = len(built) * batch
        part = [singles[(start + offset) % len(singles)] for offset in range(batch)]
        built.append({name: np.concatenate([feed[name] for feed in part]) for name in part[0]})
    return built


def _count(feed: Mapping[str, np.ndarray]) -> int:
    size = max(1, sum(array.nbytes for array in feed.values()))
    return max(1, min(FEEDS, _MOST_BYTES // size))
