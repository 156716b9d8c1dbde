"""The table for a terminal, and Markdown."""

import shutil
from collections.abc import Sequence

from tabulate import tabulate

from profiler.profile import Profile
from profiler.report.rows import ALIGNMENT, HEADERS, crosscheck_lines, layer_rows, summary_lines, total_row

NARROWEST = 12


def table(profile: Profile, peers: Sequence[str] = (), *, width: int | None = None) -> str:
    """The profile as a table that fits the terminal, totals and the peers' figures below it."""
    rows = [*layer_rows(profile), total_row(profile)]
    text = _drawn(rows)
    over = max(map(len, text.splitlines())) - (width or shutil.get_terminal_size((120, 24)).columns)
    if over > 0:
        longest = max(len(row[0]) for row in rows)
        keep = max(NARROWEST, longest - over)
        text = _drawn([(_shortened(row[0], keep), *row[1:]) for row in rows])
    return "\n".join([text, "", *summary_lines(profile), *crosscheck_lines(profile, peers)])


def _drawn(rows: list[tuple[str, ...]]) -> str:
    return str(tabulate(rows, HEADERS, tablefmt="simple", colalign=ALIGNMENT, disable_numparse=True))


def _shortened(name: str, width: int) -> str:
    return name if len(name) <= width else "..." + name[len(name) - width + 3 :]


def markdown(profile: Profile, peers: Sequence[str] = ()) -> str:
    """The same as Markdown."""
    rows = [*layer_rows(profile), total_row(profile)]
    text = tabulate(rows, HEADERS, tablefmt="github", colalign=ALIGNMENT, disable_numparse=True)
    notes = [line.strip() for line in (*summary_lines(profile), *crosscheck_lines(profile, peers))]
    return "\n".join([text, "", *(f"- {line}" for line in notes)])
