"""What the sweep over the catalogue found, in figures, sentences and a table."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table, its columns as wide as they come: some cells are long."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


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


def _cells(row: Row) -> list[str]:
    if row["error"]:
        return [row["name"], row["family"], "", "", "", "", f"**{_cell(row['error'])}**", "", "", ""]
    checks = [_check(row["peers"].get(peer)) for peer in ("fvcore", "torch")]
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


def _check(check: Row | None) -> str:
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


def page(rows: Sequence[Row]) -> str:
    """The results as Markdown."""
    head = ["network", "family", "input", "MACs", "parameters", "ms", "uncounted calls", "unexplained: fvcore"]
    head += ["unexplained: torch", "notes"]
    return "\n".join([*(f"- {line}" for line in summary_lines(summarize(rows))), "", *table(head, map(_cells, rows))])
