"""Rows drawn as lines that fit a terminal: columns are added or dropped, names are cut, nothing is wrapped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import click
from rich.cells import cell_len

from profiler.report.columns import COLUMNS, DROPPED, EXTRA
from profiler.report.names import shorten
from profiler.report.options import Options
from profiler.report.rows import Row
from profiler.report.select import Selection

GAP = "  "
# Names are cut down to these widths before a column is dropped, and further only where that does not suffice.
COMFORT = {"name": 24, "op": 20, "type": 12}
LEAST = 8

_STYLES: dict[str, dict[str, Any]] = {"total": {"bold": True}, "sum": {"bold": True}, "uncounted": {"fg": "yellow"}}


@dataclass(frozen=True, slots=True)
class _Grid:
    """Cells of every column that might be shown."""

    titles: Mapping[str, str]
    cells: Mapping[str, list[str]]

    def width(self, name: str) -> int:
        return max(map(cell_len, [self.titles[name], *self.cells[name]]))

    def total(self, names: Sequence[str]) -> int:
        return sum(map(self.width, names)) + len(GAP) * (len(names) - 1)


def draw(selection: Selection, options: Options) -> str:
    """The rows under their headings, sums below a line."""
    names = selection.columns
    grid = _grid(selection, names)
    widths = {name: grid.width(name) for name in names}
    if options.width is not None:
        if grid.total(names) > options.width:
            grid = _grid(selection, names, short=True)
            widths = _fitted(grid, names, options.width, keep=bool(options.columns))
        elif not options.columns:
            grid, widths = _widened(selection, names, options.width)
    return _lines(selection, grid, widths, options)


def _grid(selection: Selection, names: Sequence[str], *, short: bool = False) -> _Grid:
    rows, scale = (*selection.rows, *selection.sums), selection.scale
    return _Grid(
        {name: COLUMNS[name].title(scale, short=short) for name in names},
        {name: [COLUMNS[name].text(row, scale) for row in rows] for name in names},
    )


def _widened(selection: Selection, names: Sequence[str], width: int) -> tuple[_Grid, dict[str, int]]:
    """With further columns, as long as they fit and have something to say."""
    groups = EXTRA[selection.by]
    grid = _grid(selection, (*names, *chain(*groups)))
    shown = list(names)
    for group in groups:
        if grid.total([*shown, *group]) > width:
            break
        shown += [name for name in group if any(grid.cells[name])]
    return grid, {name: grid.width(name) for name in shown}


def _fitted(grid: _Grid, names: Sequence[str], width: int, *, keep: bool) -> dict[str, int]:
    """Columns and their widths: names cut a little, then columns dropped, then names cut as far as it takes."""
    shown = list(names)
    droppable = [] if keep else [name for name in DROPPED if name in shown[1:]]
    while True:
        widths = {name: grid.width(name) for name in shown}
        over = sum(widths.values()) + len(GAP) * (len(widths) - 1) - width
        cut = _cut(widths, over, COMFORT)
        if cut:
            return cut
        if not droppable:
            return _cut(widths, over, dict.fromkeys(COMFORT, LEAST), anyway=True)
        shown.remove(droppable.pop(0))


def _cut(widths: dict[str, int], over: int, least: Mapping[str, int], *, anyway: bool = False) -> dict[str, int]:
    """Types, then names, made narrower by `over` characters; empty where that takes more than they can give."""
    widths = dict(widths)
    for name in ("type", "name", "op"):
        if name in widths and over > 0:
            give = min(over, max(0, widths[name] - least[name]))
            widths[name] -= give
            over -= give
    return widths if over <= 0 or anyway else {}


def _lines(selection: Selection, grid: _Grid, widths: Mapping[str, int], options: Options) -> str:
    columns = []
    for name, width in widths.items():
        cells = grid.cells[name]
        if name in COMFORT and grid.width(name) > width:
            shown = shorten(cells, width)
            cells = [shown[cell] for cell in cells]
        title = grid.titles[name]
        columns.append([_padded(text, width, right=COLUMNS[name].right) for text in (title, "-" * width, *cells)])
    lines = [GAP.join(line).rstrip() for line in zip(*columns, strict=True)]
    if options.color:
        styles = chain(({"bold": True}, {}), map(_style, (*selection.rows, *selection.sums)))
        lines = [click.style(line, **style) if style else line for line, style in zip(lines, styles, strict=True)]
    return "\n".join(lines)


def _style(row: Row) -> dict[str, Any]:
    unknown = row.uncounted and not row.flops and not row.macs
    return _STYLES.get("uncounted" if unknown else row.status, {})


def _padded(text: str, width: int, *, right: bool) -> str:
    space = " " * (width - cell_len(text))
    return space + text if right else text + space
