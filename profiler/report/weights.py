"""A file that holds tensors and no architecture: its parameter table."""

from __future__ import annotations

import csv
import io
import json
from math import prod
from typing import TYPE_CHECKING

from tabulate import tabulate

from profiler.escaping import cell
from profiler.report import units
from profiler.report.html import page
from profiler.report.html import text as harmless
from profiler.report.markdown import plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from profiler.sources.opened import OpenedModel

HEADERS = ("name", "size", "type", "elements", "bytes")


def _rows(opened: OpenedModel) -> list[tuple[str, str, str, int, int]]:
    return [(units.printable(t.name), units.shape(t.shape), t.dtype, prod(t.shape), t.bytes) for t in opened.tensors]


def _sums(opened: OpenedModel) -> tuple[int, int]:
    """Elements and bytes, each storage once."""
    once = {t.storage: t for t in opened.tensors}.values()
    return sum(prod(t.shape) for t in once), sum(t.bytes for t in once)


def _written(opened: OpenedModel) -> list[tuple[str, ...]]:
    return [(n, s, d, f"{e:,}", units.size_of(b)) for n, s, d, e, b in _rows(opened)]


def _total(opened: OpenedModel) -> str:
    elements, size = _sums(opened)
    tied = len(opened.tensors) - len({t.storage for t in opened.tensors})
    shared = f"; {tied} share the storage of another" if tied else ""
    return f"{len(opened.tensors)} tensors, {elements:,} elements, {units.size_of(size)}{shared}"


def _drawn(style: str, cell: Callable[[str], str] = str) -> Callable[[OpenedModel], str]:
    def view(opened: OpenedModel) -> str:
        rows = [[cell(text) for text in row] for row in _written(opened)]
        align = ("left", "left", "left", "right", "right")
        text = tabulate(rows, HEADERS, tablefmt=style, colalign=align, disable_numparse=True)
        return f"{text}\n\n{_total(opened)}"

    return view


def _as_html(opened: OpenedModel) -> str:
    head = "".join(f"<th>{name}</th>" for name in HEADERS)
    rows = ("".join(f"<td>{harmless(cell)}</td>" for cell in row) for row in _written(opened))
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
    return page(opened.target, f'<p>{harmless(_total(opened))}</p>\n<div class="wide">{table}</div>')


def _as_json(opened: OpenedModel) -> str:
    elements, size = _sums(opened)
    tensors = [
        dict(zip(HEADERS, (t.name, list(t.shape), t.dtype, prod(t.shape), t.bytes), strict=True))
        for t in opened.tensors
    ]
    return json.dumps(
        {"schema": "netgauge.tensors/1", "elements": elements, "bytes": size, "tensors": tensors}, indent=2
    )


def _as_csv(opened: OpenedModel) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([HEADERS, *((cell(name), *rest) for name, *rest in _rows(opened))])
    return out.getvalue()


VIEWS: dict[str, Callable[[OpenedModel], str]] = {
    "table": _drawn("simple"),
    "tree": _drawn("simple"),  # names without an architecture have no modules
    "markdown": _drawn("github", plain),
    "json": _as_json,
    "csv": _as_csv,
    "html": _as_html,
}


def weights_table(opened: OpenedModel, style: str) -> str:
    """The stored tensors with sizes, types and bytes, and their sums."""
    return VIEWS[style](opened)
