"""Time taken by netgauge and by the other counters, in one run, interleaved.

    python benchmarks/speed.py                              every network that can be built here, about 25 minutes
    python benchmarks/speed.py --only resnet --rounds 3     those whose name matches

In a round each tool has its turn: two calls, of which the second is timed. The order turns by one from round to round
and is reversed in every other one, so that no tool always follows the same other, nor gains from a drift of the
machine. What is timed is the call alone: models, inputs and copies are made before. The first round is a warm-up;
`--cold` calls are first calls in new processes.
"""

import argparse
import gc
import json
import logging
import math
import statistics
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from _common import RESULTS, declare_torchvision_operators, first_line, run_case, table, write_results
from _networks import build, chosen
from _peers import TOOLS, Runner, Tool

OURS = "ours"
MEASURES = {"median": "median", "minimum": "minimum", "processor": "median of processor time"}


@contextmanager
def _collector_off() -> Iterator[None]:
    """As timeit does: what is in the process besides must not be collected on one tool's clock."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def once(runner: Runner, tool: Tool) -> tuple[float, float, float | None]:
    """Seconds of a call by the clock and of the processor, and what it counted.

    The call before it is not timed: what the tool whose turn it was before, and the garbage collector, left in the
    processor's caches is on nobody's clock.
    """
    with tool.around(), _collector_off():
        runner.prepare(tool)()
        call = runner.prepare(tool)
        clock, processor = time.perf_counter(), time.process_time()
        count = call()
        return time.perf_counter() - clock, time.process_time() - processor, count


def rotations(tools: Sequence[Tool], rounds: int) -> Iterator[list[Tool]]:
    """The order of each round."""
    for n in range(rounds):
        start = n % len(tools)
        order = [*tools[start:], *tools[:start]]
        yield order[::-1] if n % 2 else order


def compare(name: str, tools: Sequence[Tool], rounds: int) -> dict[str, Any]:
    """All tools on one network: seconds of every round, multiply-accumulates, errors."""
    runner = Runner(*build(name))
    found: dict[str, Any] = {t.name: {"seconds": [], "processor_seconds": [], "macs": None, "error": ""} for t in tools}
    for number, order in enumerate(rotations(tools, rounds + 1)):
        for tool in order:
            entry = found[tool.name]
            if entry["error"]:
                continue
            try:
                seconds, processor, entry["macs"] = once(runner, tool)
            except Exception as error:  # noqa: BLE001  # a tool that fails is a result
                entry.update(error=first_line(error), seconds=[], processor_seconds=[])
                continue
            if number:  # the first is the warm-up
                entry["seconds"].append(round(seconds, 7))
                entry["processor_seconds"].append(round(processor, 7))
    for entry in found.values():
        if entry["seconds"]:
            entry["median"], entry["minimum"] = statistics.median(entry["seconds"]), min(entry["seconds"])
            entry["processor"] = statistics.median(entry["processor_seconds"])
    return found


def standing(found: dict[str, Any], tools: Sequence[Tool], key: str) -> dict[str, float]:
    """Each tool's time by `key`; a peer with two ways of running stands with its faster."""
    times: dict[str, float] = {}
    for tool in tools:
        seconds = found[tool.name].get(key)
        if seconds is not None:
            peer = tool.peer or tool.name
            times[peer] = min(seconds, times.get(peer, math.inf))
    return times


def summarize(networks: dict[str, Any], tools: Sequence[Tool]) -> dict[str, Any]:
    """Over all networks: how many times faster than each peer, and where not the fastest."""
    summary: dict[str, Any] = {}
    for key in MEASURES:
        times = {name: standing(found["tools"], tools, key) for name, found in networks.items()}
        times = {name: t for name, t in times.items() if OURS in t and len(t) > 1}
        peers = sorted({peer for t in times.values() for peer in t if peer != OURS})
        slower = {
            name: {peer: round(seconds / t[OURS], 3) for peer, seconds in t.items() if seconds < t[OURS]}
            for name, t in times.items()
        }
        summary[key] = {
            "networks": len(times),
            "faster_than": {
                peer: round(statistics.geometric_mean(t[peer] / t[OURS] for t in times.values() if peer in t), 3)
                for peer in peers
            },
            "fastest_on": sum(not faster for faster in slower.values()),
            "not_fastest_on": {name: faster for name, faster in slower.items() if faster},
        }
    return summary


def report(record: dict[str, Any], tools: Sequence[Tool]) -> str:
    """The result in Markdown."""
    rows, cold, errors = [], [], []
    for name, found in record["networks"].items():
        measured = found["tools"]
        times = standing(measured, tools, "median")
        ours, peers = times.pop(OURS, None), times
        shown = [_ms(measured[tool.name].get("median")) for tool in tools]
        ratios = [peers.get("fvcore"), min(peers.values(), default=None)]
        rows.append([name, *shown, *(r / ours if r and ours else None for r in ratios)])
        errors += [f"- {name}, {tool}: {entry['error']}" for tool, entry in measured.items() if entry["error"]]
        cold += [
            [name, tool, *(_ms(entry.get(key)) for key in ("import", "first", "second")), entry.get("error")]
            for tool, entry in found["cold"].items()
        ]
    headers = ["network", *(f"{tool.name}, ms" for tool in tools), "fvcore / ours", "fastest peer / ours"]
    parts = [f"Medians of {record['rounds']} rounds after one warm-up.", table(headers, rows), sentences(record)]
    if cold:
        headers = ["network", "tool", "import, ms", "first call, ms", "second call, ms", "error"]
        parts += ["## In a new process", table(headers, cold)]
    if errors:
        parts += ["## Tools that failed", "\n".join(errors)]
    return "\n\n".join(parts)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds


def sentences(record: dict[str, Any]) -> str:
    """What the figures come to, and every network on which a peer was faster."""
    lines = []
    for key, found in record["summary"].items():
        means = ", ".join(f"{peer} {ratio:.1f}" for peer, ratio in found["faster_than"].items())
        lines.append(f"- By {MEASURES[key]}: fastest on {found['fastest_on']} of {found['networks']} networks.")
        lines.append(f"  Times faster than each peer, geometric mean: {means or 'no peer ran'}.")
        for name, peers in found["not_fastest_on"].items():
            listed = ", ".join(f"{peer} takes {ratio:.2f} of our time" for peer, ratio in peers.items())
            lines.append(f"  Not on {name}: {listed}.")
    return "\n".join(lines)


def cold_case(case: dict[str, Any]) -> dict[str, Any]:
    """In this process, which is new: the import, the first call and the second."""
    torch.set_num_threads(case["threads"])
    tool = next(t for t in TOOLS if t.name == case["tool"])
    runner = Runner(*build(case["network"]))
    call = runner.prepare(tool)
    begun = time.perf_counter()
    __import__("profiler.analyzer" if tool.name == OURS else tool.package or "torch")
    imported = time.perf_counter()
    call()
    first = time.perf_counter()
    call = runner.prepare(tool)
    again = time.perf_counter()
    call()
    return {"import": imported - begun, "first": first - imported, "second": time.perf_counter() - again}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="regular expression that a network's name must match")
    parser.add_argument("--tools", default="", help="tools by name, separated by commas; ours is always among them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of torch; 0 leaves its default")
    parser.add_argument("--cold", default="ours,fvcore", help="tools whose first call is timed in a new process")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for speed.json and speed.md")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # the peers' own, hundreds of them
    logging.disable(logging.WARNING)
    declare_torchvision_operators()  # two peers import torchvision
    if options.case:
        print(json.dumps(cold_case(options.case)))
        return
    if options.threads:
        torch.set_num_threads(options.threads)
    wanted = {OURS, *filter(None, options.tools.split(","))} if options.tools else {tool.name for tool in TOOLS}
    tools = [t for t in TOOLS if t.name in wanted and (not t.package or find_spec(t.package))]
    record: dict[str, Any] = {"rounds": options.rounds, "networks": {}}
    for name in chosen(options.only):
        found = compare(name, tools, options.rounds)
        cold = {
            tool: run_case(__file__, {"network": name, "tool": tool, "threads": torch.get_num_threads()})
            for tool in filter(None, options.cold.split(","))
            if tool in {t.name for t in tools}
        }
        record["networks"][name] = {"tools": found, "cold": cold}
        shown = ", ".join(f"{t} {1e3 * s:.1f}" for t, s in standing(found, tools, "median").items())
        print(f"{name}: {shown} ms", flush=True)
        # Written after every network: the run is long, and what it has found so far is whole.
        record["summary"] = summarize(record["networks"], tools)
        packages = [t.package for t in tools if t.package]
        path = write_results(options.output, "speed", record, report(record, tools), packages)
    print(sentences(record), f"\n{path}")


if __name__ == "__main__":
    sys.exit(main())
