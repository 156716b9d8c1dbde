"""Cold start and memory of models, each measured in fresh processes: nothing of one run is left for the next.

Import of ONNX Runtime, loading of the model (a session), first inference, and how much memory the process grew by: in
the order A B, B A, ... so that a busy minute meets both models. The file itself lies in the system's cache, as it does
wherever it has been written or read a moment ago.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from profiler.errors import ModelError
from quant.model_files import for_runtime

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from profiler.sources import Limits
    from quant.latency.pairs import Progress

    Model = str | Path | bytes

REPEATS = 5
SECONDS = 15.0  # in all; repeats that do not fit are left out, but never the first
_MOST_SECONDS = 600.0  # for one process
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); from quant.latency._fresh_child import main; main()"
)
_TIMES = ("import_seconds", "load_seconds", "first_seconds")


@dataclass(frozen=True)
class Fresh:
    """One model in fresh processes, one entry per process.

    Attributes:
        import_seconds: importing ONNX Runtime.
        load_seconds: creating the session: reading the file, optimizing the graph, packing the weights.
        first_seconds: the first inference.
        base_bytes: what the process held before it loaded the model; empty where the system does not say (not Linux).
        load_bytes: the most it held beyond that until the session was there; empty as above.
        peak_bytes: the most it held beyond `base_bytes` until it had run a few times; empty as above.
    """

    import_seconds: tuple[float, ...]
    load_seconds: tuple[float, ...]
    first_seconds: tuple[float, ...]
    base_bytes: tuple[int, ...] = ()
    load_bytes: tuple[int, ...] = ()
    peak_bytes: tuple[int, ...] = ()

    def cold(self) -> dict[str, Any]:
        """Times of a cold start in milliseconds: median and range over processes."""
        times: dict[str, tuple[float, ...]] = {name: getattr(self, name) for name in _TIMES}
        summary: dict[str, Any] = {
            name.replace("_seconds", "_ms"): {
                "median": 1e3 * float(np.median(values)),
                "min": 1e3 * min(values),
                "max": 1e3 * max(values),
            }
            for name, values in times.items()
        }
        return {**summary, "processes": len(self.load_seconds)}

    def memory(self) -> dict[str, Any] | None:
        """Medians over processes; None where the system does not tell."""
        if not self.peak_bytes:
            return None
        sizes = {"base_bytes": self.base_bytes, "load_bytes": self.load_bytes, "peak_bytes": self.peak_bytes}
        medians = {name: int(np.median(values)) for name, values in sizes.items()}
        return {**medians, "min_peak_bytes": min(self.peak_bytes), "max_peak_bytes": max(self.peak_bytes)}


def fresh_starts(
    models: tuple[Model, Model],
    arrays: Sequence[np.ndarray],
    *,
    device: str = "cpu",
    threads: int = 1,
    trust: bool = False,
    limits: Limits | None = None,
    repeats: int = REPEATS,
    seconds: float = SECONDS,
    progress: Progress | None = None,
) -> tuple[Fresh, Fresh]:
    """Start both models cold, in turn.

    Args:
        models: files, or the bytes of files.
        arrays: one array per input, in the models' order.
        device: where they run.
        threads: that one operator may use.
        trust: take files of tensors that have several names.
        limits: how much a file may ask for.
        repeats: processes per model.
        seconds: after which no further repeat begins.
        progress: called between processes.

    Raises:
        ModelError: a model cannot be opened, or a process fails.
        RefusedError: see `quant.model_files`.
    """
    found: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    began = time.perf_counter()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="netgauge-cold-")))
        inputs = folder / "inputs.npz"
        np.savez(inputs, *arrays)  # by number: an input's own name may be no good name for a part of an archive
        tasks = []
        for number, model in enumerate(models):
            # Checked here, before the first process and after the last one; the processes themselves are spared it.
            source = stack.enter_context(for_runtime(model, trust=trust, limits=limits))
            path = _as_file(source, folder / f"{number}.onnx")
            tasks.append({"path": path, "inputs": str(inputs), "device": device, "threads": threads})
        for repeat in range(repeats):
            if repeat and time.perf_counter() - began >= seconds:
                break
            for arm in (0, 1) if repeat % 2 == 0 else (1, 0):
                found[arm].append(_started(tasks[arm]))
            if progress:
                progress("cold start", (repeat + 1) / repeats)
    first, second = (_collected(runs) for runs in found)
    return first, second


def _as_file(source: str | bytes, path: Path) -> str:
    if isinstance(source, str):
        return str(Path(source).resolve())
    path.write_bytes(source)
    return str(path)


def _started(task: Mapping[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-P", "-W", "ignore", "-c", _START, json.dumps([str(entry) for entry in sys.path])]
    try:
        # The command is this interpreter with the constant program above.
        done = subprocess.run(  # noqa: S603
            command, input=json.dumps(task), capture_output=True, text=True, timeout=_MOST_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"{task['path']}: did not start within {_MOST_SECONDS:.0f} s in a fresh process") from error
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["it did not say why"])[-1]
        why = f"signal {-done.returncode}" if done.returncode < 0 else last[:200]
        raise ModelError(f"{task['path']}: fails in a fresh process: {why}; --no-cold leaves that part out")
    found: dict[str, Any] = json.loads(lines[-1])
    if "error" in found:
        raise ModelError(f"in a fresh process: {found['error']}")
    return found


def _collected(runs: Sequence[Mapping[str, Any]]) -> Fresh:
    names = [*_TIMES, *(("base_bytes", "load_bytes", "peak_bytes") if all("peak_bytes" in run for run in runs) else ())]
    return Fresh(**{name: tuple(run[name] for run in runs) for name in names})
