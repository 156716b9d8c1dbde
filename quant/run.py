"""One run of the pipeline: its settings, the record of its stages, and whom to tell how far it is."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from profiler.progress import Progress, silent
from quant.result import Stage
from quant.runtime import RuntimeSession, open_session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass
class OpenStage:
    """A stage while it runs; what it did is filled in before it ends."""

    did: str
    kept: bool = True
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Run:
    """What every stage needs.

    Attributes:
        device: where models run.
        threads: that one operator may use.
        seed: of splits and resampling.
        progress: called with a stage and the part of it that is done.
        stages: what has been done, in order.
    """

    device: str = "cpu"
    threads: int = 1
    seed: int = 0
    progress: Progress = silent
    stages: list[Stage] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str, did: str) -> Iterator[OpenStage]:
        """Record a stage with the time it takes."""
        self.progress(name, 0.0)
        begun, entry = time.perf_counter(), OpenStage(did)
        yield entry
        self.stages.append(Stage(name, entry.did, entry.kept, time.perf_counter() - begun, entry.details))

    def opened(self, model: bytes) -> RuntimeSession:
        """A session on the device and with the threads asked for."""
        return open_session(model, device=self.device, threads=self.threads)
