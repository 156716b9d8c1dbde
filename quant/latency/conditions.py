"""What else went on while models were timed: other work on the cores, and how often it took ours away."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_STAT = Path("/proc/stat")
_BUSY_FIELDS = (0, 1, 2, 5, 6, 7)  # user, nice, system, interrupts (two kinds), taken by the hypervisor
_MANY = 0.5  # of the machine's cores, kept busy by others, from which on a warning is due
_SHORTEST = 0.2  # seconds: the counters move in steps of 10 ms


@dataclass(frozen=True)
class Conditions:
    """The machine while two models were timed.

    Attributes:
        load_before: load average over a minute when the timing began; None where the platform has none.
        load_after: the same when it ended; the timing itself counts in it.
        other_cores: how many cores' worth of time all other work took meanwhile (Linux); None where unknown.
        cores: of the machine.
        involuntary_switches: how often the system took the core away from this process; None where unknown.
    """

    load_before: float | None
    load_after: float | None
    other_cores: float | None
    cores: int | None
    involuntary_switches: int | None

    def warnings(self) -> list[str]:
        """A sentence where others were busy."""
        if self.other_cores is None or not self.cores or self.other_cores < _MANY * self.cores:
            return []
        return [f"other work kept {self.other_cores:.1f} of {self.cores} cores busy while the models were timed"]


@contextmanager
def watched(root: Path = _STAT) -> Iterator[list[Conditions]]:
    """Watch the machine; when the context ends, the list holds what was seen.

    Args:
        root: Linux's file of processor times.
    """
    seen: list[Conditions] = []
    load, switches, busy, began = _load(), _switches(), _busy_seconds(root), time.perf_counter()
    own = time.process_time()
    try:
        yield seen
    finally:
        elapsed, used = time.perf_counter() - began, time.process_time() - own
        now_busy, now_switches = _busy_seconds(root), _switches()
        others = None
        if busy is not None and now_busy is not None and elapsed >= _SHORTEST:
            others = max(0.0, (now_busy - busy - used) / elapsed)
        taken = now_switches - switches if switches is not None and now_switches is not None else None
        seen.append(Conditions(load, _load(), others, os.cpu_count(), taken))


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def _busy_seconds(file: Path) -> float | None:
    """Seconds that all cores together have been busy since the machine started."""
    try:
        fields = file.read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
        return sum(int(fields[number]) for number in _BUSY_FIELDS) / os.sysconf("SC_CLK_TCK")
    except (AttributeError, OSError, ValueError, IndexError):
        return None


def _switches() -> int | None:
    try:
        import resource
    except ImportError:
        return None
    usage: Any = resource.getrusage(resource.RUSAGE_SELF)
    return int(usage.ru_nivcsw)
