"""What the benchmarks share: the machine's description, result files, torchvision's missing operators."""

import json
import os
import platform
import subprocess
import sys
import timeit
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
if str(ROOT) not in sys.path:  # a checkout need not be installed
    sys.path.insert(0, str(ROOT))


@cache
def declare_torchvision_operators() -> object:
    """Declare the operators that torchvision looks for on import, where its own library does not load.

    That is so where its wheel was built for another torch (CUDA beside a torch for CPUs). Call it before anything
    that imports torchvision. The operators have no kernels: no network here runs them.
    """
    import torch

    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        return None
    try:
        for path in Path(spec.origin).parent.glob("_C.*"):
            torch.ops.load_library(path)  # noqa: TID251  # the one that torchvision itself loads
            return None
    except OSError:
        pass
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library  # the operators live as long as it does, and the cache keeps it


def machine(*packages: str) -> dict[str, Any]:
    """What a figure was measured on, with the versions of the packages that took part."""
    import torch

    from profiler.environment import environment, version

    described = environment()
    described["packages"] = {
        name: number
        for name, number in {**described["packages"], **{p: version(p) for p in packages}}.items()
        if number is not None
    }
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    return {
        **described,
        "python_loop_ms": _loop_ms(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "load": load,
    }


def _loop_ms() -> float:
    """Milliseconds for a fixed loop in Python: builds of one version differ, and none says how."""

    def loop() -> None:
        table = {}
        for n in range(100_000):
            table[n & 255] = table.get((n * 7) & 255, 0) + n

    return round(1e3 * min(timeit.repeat(loop, number=1, repeat=7)), 2)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def run_case(script: str, case: Mapping[str, Any], timeout: float = 600.0) -> dict[str, Any]:
    """Run one case of a script in a process of its own and return what it printed, or its error."""
    command = [sys.executable, "-W", "ignore", script, "--case", json.dumps(case)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)  # noqa: S603  # ours
    except subprocess.TimeoutExpired:
        return {"error": f"not done within {timeout:.0f} s"}
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"error": lines[-1][:300]}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def everything(profile: Any) -> None:  # noqa: ANN401  # a Profile, from a package that is imported late
    """Ask a profile for all that it says: rows, fields and modules are there; sums by operator are made on demand."""
    _ = profile.totals, profile.modules, profile.layers, profile.operators, profile.uncounted, profile.notes


def first_line(error: Exception) -> str:
    """An error's class and first line, as a table shows it."""
    reason = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {reason[:200]}"


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table: two decimals for what is a float, the first column to the left."""
    from tabulate import tabulate

    cells = [["-" if v is None else f"{v:.2f}" if isinstance(v, float) else str(v) for v in row] for row in rows]
    sides = ("left", *("right",) * (len(headers) - 1)) if rows else None
    return str(tabulate(cells, headers, tablefmt="github", disable_numparse=True, colalign=sides))


def write_results(folder: Path, name: str, record: Mapping[str, Any], text: str, packages: Sequence[str] = ()) -> Path:
    """Write NAME.json and NAME.md, both with the date and the machine.

    Args:
        folder: made where it does not exist.
        name: of the benchmark.
        record: what was measured.
        text: the same for people, in Markdown.
        packages: whose versions matter.

    Returns:
        The path of the JSON file.
    """
    from profiler.files import write_whole

    folder.mkdir(parents=True, exist_ok=True)
    date, described = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), machine(*packages)
    whole = {"benchmark": name, "date": date, "machine": described, **record}
    versions = ", ".join(f"{p} {v}" for p, v in described["packages"].items())
    where = f"{described['processor']}, {described['cores']} cores, {described['threads']} threads used"
    python = f"Python {described['python']} (a loop of 100,000 steps in {described['python_loop_ms']} ms)"
    head = f"# {name}\n\n{date}. {where}, load {described['load']}. {python}, {versions}.\n\n"
    write_whole(folder / f"{name}.md", head + text.rstrip() + "\n")
    return write_whole(folder / f"{name}.json", json.dumps(whole, indent=1) + "\n")
