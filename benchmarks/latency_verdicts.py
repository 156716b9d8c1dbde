"""Right verdicts: a model against itself and against one with 3 % more work, on a quiet machine and beside a busy core.

    python benchmarks/latency_verdicts.py

A comparison of a file with itself has to end in "no difference shown", one with a model of 3 % more identical layers in
"slower", each in at least 19 of 20 runs. Exit code 1 where one does not.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _common import RESULTS, table, write_results

SAME, SLOWER = "no difference shown", "slower"
NEEDED = 0.95
BUSY = "import os, sys\nif sys.argv[1] != '-': os.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass\n"


@dataclass(frozen=True)
class Stack:
    """Equal convolutions with ReLU, one after the other; the slower model has `more` of them."""

    layers: int
    more: int
    channels: int
    side: int

    def model(self, layers: int) -> bytes:
        """An ONNX file with so many layers."""
        import numpy as np
        from onnx import TensorProto, helper, numpy_helper

        scale = (2 / (9 * self.channels)) ** 0.5  # keeps the size of what flows through
        weights = np.random.default_rng(0).standard_normal((self.channels, self.channels, 3, 3)) * scale
        nodes, constants = [], []
        for i in range(layers):
            constants.append(numpy_helper.from_array(weights.astype(np.float32), f"w{i}"))
            nodes.append(helper.make_node("Conv", [f"h{i}", f"w{i}"], [f"c{i}"], pads=[1] * 4, name=f"conv{i}"))
            nodes.append(helper.make_node("Relu", [f"c{i}"], [f"h{i + 1}"], name=f"relu{i}"))
        shape = ("N", self.channels, self.side, self.side)
        ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("h0", f"h{layers}")]
        graph = helper.make_graph(nodes, "stack", ends[:1], ends[1:], constants)
        opset = [helper.make_opsetid("", 17)]
        return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


# Some 1, 5 and 0.1 ms on one core; each has 3 % more layers in its slower model, or as near as whole layers allow.
STACKS = {
    "100 layers of 16 channels": Stack(100, 103, 16, 16),
    "33 layers of 64 channels": Stack(33, 34, 64, 16),
    "100 layers of 4 channels": Stack(100, 103, 4, 4),
}


@contextmanager
def beside_a_busy_core(*, busy: bool) -> Iterator[None]:
    """Another process computes all the time on the first of the cores that this one may use."""
    if not busy:
        yield
        return
    core = str(min(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else "-"
    process = subprocess.Popen([sys.executable, "-c", BUSY, core])  # noqa: S603  # the constant above
    try:
        time.sleep(0.5)
        yield
    finally:
        process.kill()
        process.wait()


def verdicts(stack: Stack, layers: int, runs: int, seconds: float, *, busy: bool) -> list[dict[str, Any]]:
    """What `runs` comparisons of the stack with one of `layers` layers say."""
    from quant import compare_latency

    first, second = stack.model(stack.layers), stack.model(layers)
    found = []
    with beside_a_busy_core(busy=busy):
        for seed in range(runs):
            result = compare_latency(first, second, seconds=seconds, seed=seed)
            report = result.to_dict(("a", "b"))
            keep = ("a_ms", "b_ms", "speedup", "interval", "verdict", "noise_floor", "pairs", "stopped_by", "seconds")
            found.append({name: report[name] for name in (*keep, "sessions", "conditions", "warnings")})
            shown = "{:.4f} [{:.4f}, {:.4f}]".format(result.speedup, *result.interval)
            print(f"  {shown}, floor {result.noise_floor.fraction:.4f}: {result.verdict}", flush=True)
    return found


def summary(case: dict[str, Any], expected: str) -> dict[str, Any]:
    """Counts of a case's verdicts, and whether enough are right."""
    runs = case["runs"]
    right = sum(run["verdict"] == expected for run in runs)
    ratios = [run["b_ms"] / run["a_ms"] for run in runs]
    return {
        "expected": expected,
        "right": right,
        "of": len(runs),
        "enough": right >= NEEDED * len(runs),
        "median_time_ratio": statistics.median(ratios),
        "lowest_time_ratio": min(ratios),
        "highest_time_ratio": max(ratios),
        "median_ms": statistics.median(run["a_ms"] for run in runs),
        "other_cores": statistics.median(run["conditions"]["other_cores"] or 0.0 for run in runs),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="comparisons of each kind (20)")
    parser.add_argument("--seconds", type=float, default=20.0, help="limit of one comparison, as in `compare` (20)")
    parser.add_argument("--only", choices=(*STACKS, "all"), default="100 layers of 16 channels")
    parser.add_argument("--conditions", choices=("quiet", "busy", "both"), default="both")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    stacks = STACKS if options.only == "all" else {options.only: STACKS[options.only]}
    conditions = ("quiet", "busy") if options.conditions == "both" else (options.conditions,)
    cases = []
    for name, stack in stacks.items():
        for condition in conditions:
            for layers, expected in ((stack.layers, SAME), (stack.more, SLOWER)):
                print(f"{name}, {condition}: {stack.layers} against {layers} layers", flush=True)
                case: dict[str, Any] = {"model": name, "condition": condition, "work": layers / stack.layers}
                case["runs"] = verdicts(stack, layers, options.runs, options.seconds, busy=condition == "busy")
                cases.append({**case, **summary(case, expected)})
    headers = (
        "model",
        "condition",
        "work",
        "time, median",
        "lowest",
        "highest",
        "expected",
        "right",
        "ms",
        "other cores",
    )
    keys = ("model", "condition", "work", "median_time_ratio", "lowest_time_ratio", "highest_time_ratio", "expected")
    rows = [
        [*(f"{case[k]:.4f}" if isinstance(case[k], float) else case[k] for k in keys),
         f"{case['right']} of {case['of']}", case["median_ms"], case["other_cores"]]
        for case in cases
    ]  # fmt: skip
    text = table(headers, rows)
    print(text)
    path = write_results(options.output, "latency_verdicts", {"cases": cases}, text, ("onnxruntime",))
    print(f"wrote {path}")
    return 0 if all(case["enough"] for case in cases) else 1


if __name__ == "__main__":
    sys.exit(main())
