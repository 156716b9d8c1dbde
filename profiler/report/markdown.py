"""The profile as Markdown."""

import re

from tabulate import tabulate

from profiler.profile import Profile
from profiler.report.columns import COLUMNS
from profiler.report.options import Options
from profiler.report.sections import backward_lines, crosscheck_lines, summary_lines
from profiler.report.select import Selection, select, select_backward

# What Markdown would take for markup; an underscore only where it does not stand inside a word.
_MARKUP = re.compile(r"[\\|`*\[\]<&]|(?<![^\W_])_|_(?![^\W_])")


def markdown(profile: Profile, options: Options) -> str:
    """The rows as a table, then the sentences as a list."""
    parts = [
        _table(select(profile, options)),
        _list([*summary_lines(profile), *crosscheck_lines(profile, options.peers)]),
        _list(backward_lines(profile)),
    ]
    backward = select_backward(profile, options)
    if backward:
        parts.append(_table(backward))
    return "\n\n".join(part for part in parts if part)


def _table(selection: Selection) -> str:
    columns, scale = [COLUMNS[name] for name in selection.columns], selection.scale
    text = tabulate(
        [[plain(c.text(row, scale)) for c in columns] for row in (*selection.rows, *selection.sums)],
        [plain(c.title(scale)) for c in columns],
        tablefmt="github",
        colalign=["right" if c.right else "left" for c in columns],
        disable_numparse=True,
    )
    return "\n\n".join([text, *filter(None, [_list(selection.notes)])])


def _list(lines: list[str] | tuple[str, ...]) -> str:
    return "\n".join(f"{'  ' if line.startswith(' ') else ''}- {plain(line.strip())}" for line in lines)


def plain(text: str) -> str:
    """Text in which Markdown finds no markup."""
    return _MARKUP.sub(lambda found: "\\" + found[0], text)
