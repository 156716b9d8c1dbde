"""The roofline model (Williams, Waterman, Patterson 2009): what a node must take at least, and what it takes.

A node that computes `macs` and moves `bytes` needs at least

    max(macs / compute ceiling, bytes / bandwidth ceiling)

where both ceilings were measured on the machine (`quant.latency.ceilings`). A layer's nodes run one after another, so
its needs add up. `of_ceiling` is the need over the time that was measured. A node is bound by the larger of its two
needs; one that reaches less than a tenth of it, or that only converts, is bound by neither: what takes its time is
overhead (starting small pieces of work, changing layouts, arithmetic that is no multiply-accumulate). A layer is bound
by what most of its time is bound by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Bound = Literal["compute", "memory", "overhead"]
NOT_BOUND = 0.1


@dataclass(frozen=True)
class Ceilings:
    """The most that this machine was seen to do, with the same number of threads.

    Attributes:
        float32_gmac_s: 1e9 multiply-accumulates per second of the fastest matrix product or convolution.
        int8_gmac_s: the same of uint8 times int8.
        bandwidth: for growing working sets in bytes, 1e9 bytes per second read and written; the last set is larger than
            the caches.
        node_us: what a node that does nothing takes.
        threads: that one operator could use.
        best: which shapes gave the two compute ceilings.
    """

    float32_gmac_s: float
    int8_gmac_s: float
    bandwidth: tuple[tuple[int, float], ...]
    node_us: float
    threads: int
    best: tuple[str, str] = ("", "")

    @property
    def memory_gb_s(self) -> float:
        """Bandwidth beyond the caches."""
        return self.bandwidth[-1][1]

    def gb_s(self, moved: float) -> float:
        """Bandwidth for a working set: that of the smallest measured one that is not smaller."""
        return next((speed for size, speed in self.bandwidth if size >= moved), self.memory_gb_s)

    def gmac_s(self, *, int8: bool) -> float:
        """The compute ceiling of a kernel on floats or on integers."""
        return self.int8_gmac_s if int8 else self.float32_gmac_s

    def to_dict(self) -> dict[str, object]:
        """As JSON."""
        return {
            "float32_gmac_s": self.float32_gmac_s,
            "int8_gmac_s": self.int8_gmac_s,
            "memory_gb_s": self.memory_gb_s,
            "bandwidth": [{"bytes": size, "gb_s": speed} for size, speed in self.bandwidth],
            "node_us": self.node_us,
            "threads": self.threads,
            "best": {"float32": self.best[0], "int8": self.best[1]},
        }


@dataclass(frozen=True)
class Work:
    """What one node of the optimized graph did.

    Attributes:
        macs: multiply-accumulates.
        moved: bytes read and written.
        ms: how long it took.
        int8: whether its kernel computes on integers.
        overhead: whether it only converts.
    """

    macs: int
    moved: int
    ms: float
    int8: bool = False
    overhead: bool = False


@dataclass(frozen=True)
class Verdict:
    """Where a layer stands under the roof.

    Attributes:
        bound: what it waits for.
        need_ms: the least that its work takes at the ceilings.
        of_ceiling: `need_ms` over the time measured; None where that is 0.
        excess_ms: the time measured beyond `need_ms`.
    """

    bound: Bound
    need_ms: float
    of_ceiling: float | None
    excess_ms: float


def judge(works: Iterable[Work], ceilings: Ceilings) -> Verdict:
    """Hold a layer's nodes against the ceilings; a conversion needs nothing, since it does none of the layer's work."""
    spent: dict[Bound, float] = {"compute": 0.0, "memory": 0.0, "overhead": 0.0}
    need = total = 0.0
    for work in works:
        bound, needed = _judge_node(work, ceilings)
        spent[bound] += work.ms
        need, total = need + needed, total + work.ms
    most: Bound = max(spent, key=lambda bound: spent[bound]) if total > 0 else "overhead"
    return Verdict(most, need, need / total if total > 0 else None, total - need)


def _judge_node(work: Work, ceilings: Ceilings) -> tuple[Bound, float]:
    if work.overhead:
        return "overhead", 0.0
    arithmetic = 1e-6 * work.macs / ceilings.gmac_s(int8=work.int8)
    traffic = 1e-6 * work.moved / ceilings.gb_s(work.moved)
    need = max(arithmetic, traffic)
    if need < NOT_BOUND * work.ms:
        return "overhead", need
    return ("compute" if arithmetic >= traffic else "memory"), need


def most_limited(layers: Sequence[tuple[str, float, Verdict]], count: int = 2) -> list[int]:
    """Positions of the layers, given as (name, ms, verdict), that lose most time beyond what the ceilings need."""
    order = sorted(range(len(layers)), key=lambda n: -layers[n][2].excess_ms)
    return [n for n in order[:count] if layers[n][2].excess_ms > 0]


def in_words(layer: str, ms: float, verdict: Verdict) -> str:
    """One sentence on a layer."""
    what = {
        "compute": "bound by arithmetic",
        "memory": "bound by memory",
        "overhead": "bound by neither arithmetic nor memory: overhead",
    }[verdict.bound]
    part = f"{verdict.of_ceiling:.0%} of its ceiling" if verdict.of_ceiling is not None else "no part of a ceiling"
    return (
        f"{layer}: {ms:.3f} ms where the ceilings need {verdict.need_ms:.3f} ms, {verdict.excess_ms:.3f} ms more; "
        f"{part}, {what}"
    )
