"""A file that holds tensors and no architecture: its parameter table."""

import csv
import io
import json
from collections.abc import Callable
from math import prod

from tabulate import tabulate

from profiler.report import units
from profiler.sources.opened import OpenedModel

HEADERS = ("name", "size", "type", "elements", "bytes")


def _rows(opened: OpenedModel) -> list[tuple[str, str, str, int, int]]:
    return [(units.printable(t.name), units.shape(t.shape), t.dtype, prod(t.shape), t.bytes) for t in opened.tensors]


def _sums(opened: OpenedModel) -> tuple[int, int]:
    """Elements and bytes, each storage once."""
    once = {t.storage: t for t in opened.tensors}.values()
    return sum(prod(t.shape) for t in once), sum(t.bytes for t in once)


def _drawn(style: str) -> Callable[[OpenedModel], str]:
    def view(opened: OpenedModel) -> str:
        elements, size = _sums(opened)
        rows = [(n, s, d, f"{e:,}", units.size_of(b)) for n, s, d, e, b in _rows(opened)]
        align = ("left", "left", "left", "right", "right")
        text = tabulate(rows, HEADERS, tablefmt=style, colalign=align, disable_numparse=True)
        tied = len(opened.tensors) - len({t.storage for t in opened.tensors})
        shared = f"; {tied} share the storage of another" if tied else ""
        total = f"{len(opened.tensors)} tensors, {elements:,} elements, {units.size_of(size)}{shared}"
        return f"{text}\n\n{total}"

    return view


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
    writer.writerows([HEADERS, *_rows(opened)])
    return out.getvalue()


VIEWS = {"table": _drawn("simple"), "markdown": _drawn("github"), "json": _as_json, "csv": _as_csv}


def weights_table(opened: OpenedModel, style: str) -> str:
    """The stored tensors with sizes, types and bytes, and their sums."""
    return VIEWS[style](opened)
