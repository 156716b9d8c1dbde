"""Counts every network of the catalogue and compares with fvcore and torch's own counter.

    python benchmarks/zoo/counts.py                     all of them
    python benchmarks/zoo/counts.py --sample 40         40 of them, evenly spread
    python benchmarks/zoo/counts.py --only timm:res     those whose name matches the regular expression
    python benchmarks/zoo/counts.py --failed            again those that were not clean in the results file
    python benchmarks/zoo/counts.py --resume            those not yet in the results file

Writes benchmarks/results/zoo_counts.json and .md as it goes. Exits with 1 where something of ours failed or a
difference stayed unexplained.
"""

import argparse
import json
import re
import sys
import time
import traceback
from functools import partial
from pathlib import Path
from typing import Any

import torch
import zoo_tables
from catalogue import Entry, entries
from isolate import Row, isolated
from zoos import PACKAGES, RESULTS, load, write_results

NAME = "zoo_counts"
PEERS = ("fvcore", "torch")
WORST_ROWS = 5


def measure(entry: Entry) -> Row:
    """One row of the table; what goes wrong on our side is its `error`."""
    row: Row = {"name": entry.name, "family": entry.family, "error": ""}
    try:
        model, args, kwargs = entry.build()
    except Exception as error:  # noqa: BLE001  # the catalogue is at fault, and the row says so
        return {**row, "error": f"not built: {_said(error)}"}
    from profiler import analyze

    try:
        # The first fills what the network caches for itself; the others must agree in everything.
        first, second = (analyze(model, *args, **kwargs) for _ in range(2))
        begun = time.perf_counter()
        profile = analyze(model, *args, **kwargs)
        seconds = time.perf_counter() - begun
        totals = profile.totals
        if totals != second.totals or (totals.macs, totals.params) != (first.totals.macs, first.totals.params):
            return {**row, "error": f"analyses differ: {first.totals}, then {second.totals}, then {totals}"}
        row |= {
            "input": "; ".join("x".join(map(str, shape)) for shape in profile.inputs),
            "macs": totals.macs,
            "flops": totals.flops,
            "params": totals.params,
            "params_expected": sum(p.numel() for p in model.parameters()),
            "rows": len(profile.layers),
            "seconds": round(seconds, 4),
            "uncounted": dict(profile.uncounted),
            "notes": list(profile.notes),
            "peers": {peer: _check(profile, peer) for peer in PEERS},
        }
    except Exception as error:  # noqa: BLE001  # any crash of ours is a result
        row["error"] = _said(error)
    return row


def _check(profile: Any, peer: str) -> Row:  # noqa: ANN401  # a Profile
    from profiler.errors import UsageError

    begun = time.perf_counter()
    try:
        check = profile.crosscheck(peer)
    except UsageError as error:
        return {"status": "absent", "reason": str(error), "unexplained": 0}
    except Exception as error:  # noqa: BLE001  # as above
        return {"status": "crashed", "reason": _said(error), "unexplained": 0}
    worst = sorted((r for r in check.rows if r.unexplained), key=lambda r: -abs(r.unexplained))
    return {
        "status": check.status,
        "reason": check.reason,
        "theirs": check.theirs,
        "unexplained": check.unexplained,
        "worst": [[r.name, r.op, r.ours, r.predicted, r.theirs] for r in worst[:WORST_ROWS]],
        "seconds": round(time.perf_counter() - begun, 3),
    }


def _said(error: BaseException) -> str:
    frame = traceback.extract_tb((error.__cause__ or error).__traceback__)[-1]
    return f"{type(error).__name__}: {str(error).strip()[:500]} ({Path(frame.filename).name}:{frame.lineno})"


def clean(row: Row) -> bool:
    """Whether nothing about a row needs looking into."""
    if row["error"] or row["uncounted"] or row["params"] != row["params_expected"]:
        return False
    return all(check["status"] == "reconciled" for check in row["peers"].values())


def brief(row: Row) -> str:
    """One line about a network."""
    if row["error"]:
        return f"{row['name']:50} ERROR {row['error'][:200]}"
    words = [f"{row['name']:50} {row['macs'] / 1e9:9.3f} GMACs {row['seconds'] * 1e3:8.1f} ms"]
    for peer, check in row["peers"].items():
        words.append(f"{peer} {check['status']}" + (f" by {check['unexplained']}" if check["unexplained"] else ""))
    if row["params"] != row["params_expected"]:
        words.append(f"PARAMETERS {row['params']} instead of {row['params_expected']}")
    if row["uncounted"]:
        words.append(f"uncounted {row['uncounted']}")
    return "  ".join(words)


def chosen(options: argparse.Namespace, known: dict[str, Row]) -> list[Entry]:
    """The part of the catalogue that the command line asks for."""
    rows = [e for e in entries() if re.search(options.only, e.name)]
    if options.failed:
        rows = [e for e in rows if e.name not in known or not clean(known[e.name])]
    if options.resume:
        rows = [e for e in rows if e.name not in known]
    if options.sample:
        rows = rows[:: max(1, len(rows) // options.sample)][: options.sample]
    return rows


def warm_up() -> None:
    """Import what every network would otherwise import within its own time."""
    for package in ("torchvision", "timm", "transformers", "fvcore.nn"):
        load(package)
    from profiler import analyze

    analyze(torch.nn.Linear(1, 1), (1, 1))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="PATTERN")
    parser.add_argument("--sample", type=int, default=0, metavar="N")
    parser.add_argument("--failed", action="store_true")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--seconds", type=float, default=600, help="limit for one network")
    parser.add_argument("--memory", type=float, default=16, help="GiB of address space for one network")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER")
    options = parser.parse_args()
    torch.set_num_threads(1)
    known: dict[str, Row] = {}
    earlier = options.output / f"{NAME}.json"
    if (options.failed or options.resume or options.only) and earlier.exists():
        known = {row["name"]: row for row in json.loads(earlier.read_text())["networks"]}
    todo = chosen(options, known)
    warm_up()
    for entry in todo:
        row = isolated(partial(measure, entry), options.seconds, options.memory)
        row = {"name": entry.name, "family": entry.family, **row}
        known[entry.name] = row
        print(brief(row), flush=True)
        rows = list(known.values())
        record = {"summary": zoo_tables.summarize(rows), "networks": rows}
        write_results(options.output, NAME, record, zoo_tables.page(rows), PACKAGES)
    summary = zoo_tables.summarize(list(known.values()))
    print("\n" + "\n".join(zoo_tables.summary_lines(summary)))
    return 0 if summary["ours_failed"] == summary["unexplained"] == summary["parameters_differ"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
