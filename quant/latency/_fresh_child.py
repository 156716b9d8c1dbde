"""What runs in a fresh process to see how a model starts cold: one import, one load, the first runs, the memory.

Nothing but the standard library is imported before ONNX Runtime, whose import is timed. `quant.latency.fresh` starts
it.
"""

import contextlib
import gc
import json
import sys
import time
from importlib import import_module
from pathlib import Path

_RUNS = 5  # after the first: buffers that are kept from run to run are all there by then


def main() -> None:
    """Read the task from standard input, write what was measured as JSON.

    The task: `path` of the model, which the process that started this one has checked and will look at again; `inputs`,
    a file of arrays in the order of the model's inputs; `device`; `threads`.
    """
    task = json.load(sys.stdin)
    began = time.perf_counter()
    import_module("onnxruntime")  # timed alone; quant.runtime does the rest
    imported = time.perf_counter() - began
    import numpy as np

    from profiler.errors import NetgaugeError
    from quant.runtime import open_session

    with np.load(task["inputs"], allow_pickle=False) as arrays:
        values = [arrays[f"arr_{number}"] for number in range(len(arrays.files))]
    meter = _Meter()
    try:
        session = open_session(
            task["path"],
            device=task["device"],
            threads=task["threads"],
            checked=True,
            before_load=meter.start,
        )
        loaded, after_load = time.perf_counter(), _peak()
        feed = dict(zip(session.input_names, values, strict=True))
        start = time.perf_counter()
        session.run(feed)
        first = time.perf_counter() - start
        for _ in range(_RUNS):
            session.run(feed)
    except NetgaugeError as error:
        sys.stdout.write(json.dumps({"error": str(error)}))
        return
    peak = _peak()
    found: dict[str, float] = {
        "import_seconds": imported,
        "load_seconds": loaded - meter.began,
        "first_seconds": first,
    }
    base = meter.resident
    if base is not None and after_load is not None and peak is not None:
        found |= {"base_bytes": base, "load_bytes": after_load - base, "peak_bytes": peak - base}
    sys.stdout.write(json.dumps(found))


class _Meter:
    """Time and memory at the moment when ONNX Runtime is given the model."""

    def __init__(self) -> None:
        self.began = 0.0
        self.resident: int | None = None

    def start(self) -> None:
        """Give back what the imports took for a moment, let the record of the peak begin anew, and start the clock."""
        gc.collect()
        with contextlib.suppress(Exception):  # glibc alone has it
            import ctypes

            ctypes.CDLL(None).malloc_trim(0)
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets VmHWM to VmRSS
        self.resident = _status("VmRSS")
        self.began = time.perf_counter()


def _peak() -> int | None:
    return _status("VmHWM")


def _status(name: str) -> int | None:
    """A size from Linux's record of this process, in bytes; None elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)


if __name__ == "__main__":
    main()
