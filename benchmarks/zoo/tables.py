"""Results as dated JSON with the machine described, and as Markdown tables."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
ZOOS = ("torchvision", "timm", "transformers")


def described(body: Mapping[str, Any]) -> dict[str, Any]:
    """A result with its date, versions and machine."""
    from profiler.environment import environment, version

    machine = environment()
    zoos = {name: version(name) for name in ZOOS}
    machine["packages"] = {k: v for k, v in {**machine["packages"], **zoos}.items() if v}
    machine["processor"] = _processor()
    return {"date": datetime.now(UTC).date().isoformat(), "environment": machine, **body}


def _processor() -> str:
    """The processor's name where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def write(path: Path, result: Mapping[str, Any], lines: Iterable[str]) -> None:
    """Both files, each whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    machine = result["environment"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    origin = f"{result['date']}; {machine['processor'] or machine['machine']}, Python {machine['python']}; {packages}."
    for file, text in (
        (path, json.dumps(result, indent=1) + "\n"),
        (path.with_suffix(".md"), "\n".join([*lines, "", origin]) + "\n"),
    ):
        part = file.with_suffix(file.suffix + ".part")
        part.write_text(text, encoding="utf-8")
        part.replace(file)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table whose first column is text and the others are as they come."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


# The sweep over the catalogue


def summarize(rows: Sequence[Row]) -> dict[str, Any]:
    """The figures that decide: how many, what failed, what stayed unexplained."""
    counted = [row for row in rows if not row["error"]]
    peers: dict[str, Counter[str]] = {}
    for row in counted:
        for peer, check in row["peers"].items():
            peers.setdefault(peer, Counter())[check["status"]] += 1
    uncounted: Counter[str] = Counter()
    for row in counted:
        uncounted.update(row["uncounted"])
    checked = [any(c["status"] == "reconciled" for c in row["peers"].values()) for row in counted]
    return {
        "networks": len(rows),
        "by_zoo": dict(Counter(row["name"].partition(":")[0] for row in rows)),
        "families": len({(row["name"].partition(":")[0], row["family"]) for row in rows}),
        "ours_failed": len(rows) - len(counted) + sum(peer["crashed"] for peer in peers.values()),
        "parameters_differ": sum(row["params"] != row["params_expected"] for row in counted),
        "unexplained": sum(check["unexplained"] != 0 for row in counted for check in row["peers"].values()),
        "peers": {peer: dict(statuses) for peer, statuses in peers.items()},
        "no_peer_ran": len(checked) - sum(checked),
        "uncounted": dict(uncounted.most_common()),
        "seconds": round(sum(row["seconds"] for row in counted), 1),
    }


def summary_lines(summary: Row) -> list[str]:
    """The summary in sentences."""
    zoos = ", ".join(f"{n} of {zoo}" for zoo, n in summary["by_zoo"].items())
    return [
        f"{summary['networks']} networks ({zoos}) of {summary['families']} families.",
        f"Failures of ours: {summary['ours_failed']}.",
        f"Parameter counts that differ: {summary['parameters_differ']}.",
        f"Comparisons with an unexplained remainder: {summary['unexplained']}.",
        *(f"{peer}: {_listed(statuses)}." for peer, statuses in summary["peers"].items()),
        f"Networks that no other counter could run on: {summary['no_peer_ran']}.",
        f"Calls of operators that no formula is known for: {_listed(summary['uncounted']) or 'none'}.",
        f"Our time for all of them together: {summary['seconds']} s, receptive fields and memory included.",
    ]


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counts.items())


def _count_cells(row: Row) -> list[str]:
    if row["error"]:
        return [row["name"], row["family"], "", "", "", "", f"**{_cell(row['error'])}**", "", "", ""]
    checks = [_check_cell(row["peers"].get(peer)) for peer in ("fvcore", "torch")]
    return [
        row["name"],
        row["family"],
        row["input"],
        _big(row["macs"]),
        f"{row['params']:,}",
        f"{row['seconds'] * 1e3:.0f}",
        _listed(row["uncounted"]),
        *checks,
        _cell("; ".join(row["notes"])),
    ]


def _check_cell(check: Row | None) -> str:
    if check is None:
        return ""
    if check["status"] == "unexplained":
        return f"**{check['unexplained']:,}**"
    return "0" if check["status"] == "reconciled" else f"{check['status']}: {_cell(check['reason'])}"


def _big(count: int) -> str:
    """Four digits and a unit."""
    scale, unit = next((pair for pair in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if count >= pair[0]), (1, ""))
    return f"{count / scale:.4g} {unit}".strip()


def _cell(text: str) -> str:
    text = " ".join(text.split()).replace("|", "\\|")
    return text if len(text) <= 160 else f"{text[:157]}..."


def write_counts(path: Path, rows: Sequence[Row]) -> None:
    """The sweep's results."""
    summary = summarize(rows)
    head = ["network", "family", "input", "MACs", "parameters", "ms", "uncounted calls", "unexplained: fvcore"]
    head += ["unexplained: torch", "notes"]
    lines = ["# Counts against fvcore and torch's counter", "", *(f"- {line}" for line in summary_lines(summary)), ""]
    lines += table(head, map(_count_cells, rows))
    write(path, described({"summary": summary, "networks": list(rows)}), lines)
