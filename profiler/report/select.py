"""Which rows of a profile are shown, and in what order; sums stay those of the whole model."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any

from profiler.errors import UsageError
from profiler.profile import Profile
from profiler.report.columns import BACKWARD, LAYER, MODULE, OPERATOR, Scale, base_columns
from profiler.report.options import Options
from profiler.report.rows import (
    Row,
    backward_total,
    layer_rows,
    module_tree,
    operator_rows,
    sum_row,
    total_row,
)
from profiler.report.units import printable


@dataclass(frozen=True, slots=True)
class Order:
    """A way to sort rows."""

    key: Callable[[Row], Any]
    words: str
    descending: bool = False


def _natural(row: Row) -> list[tuple[int, str]]:
    """layer2 before layer10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", row.name) if part]


def _largest(name: str, words: str) -> Order:
    return Order(lambda row: getattr(row, name), f"{words}, largest first", descending=True)


SORTS: dict[str, Order] = {
    "order": Order(lambda _: 0, "call order"),
    "name": Order(_natural, "name, a to z"),
    "macs": _largest("macs", "MACs"),
    "flops": _largest("flops", "FLOPs"),
    "params": _largest("params", "parameters"),
    "bytes": _largest("bytes", "bytes read and written"),
    "intensity": _largest("intensity", "FLOPs per byte"),
}


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows to be shown.

    Attributes:
        by: what a row is.
        columns: what is shown of it where a terminal does not decide.
        rows: those shown.
        sums: what stands below them: the sum of the rows shown where some are hidden, and the whole model's.
        scale: what shares are shares of, and the units.
        notes: how they were chosen, in sentences.
    """

    by: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    sums: tuple[Row, ...]
    scale: Scale
    notes: tuple[str, ...] = ()


def select(profile: Profile, options: Options) -> Selection:
    """The forward pass.

    Raises:
        UsageError: a filter that nothing matches.
    """
    if options.by == MODULE:
        rows = [replace(row, children=()) for row in _cut(module_tree(profile), options.depth).walk()]
    else:
        rows = layer_rows(profile.layers) if options.by == LAYER else operator_rows(profile)
    return _chosen(rows, total_row(profile), options, _columns(profile, options))


def _columns(profile: Profile, options: Options) -> tuple[str, ...]:
    return options.columns or base_columns(options.by, backward=profile.backward is not None)


def select_backward(profile: Profile, options: Options) -> Selection | None:
    """The backward pass; None where there is none, and by module, which has columns for it."""
    back = profile.backward
    if back is None or options.by == MODULE:
        return None
    part = replace(profile, layers=back.layers, backward=None)
    rows = layer_rows(back.layers) if options.by == LAYER else operator_rows(part)
    # What the filter leaves of the forward pass may have no backward operators.
    columns = options.columns or BACKWARD[options.by]
    return _chosen(rows, backward_total(back), options, columns, strict=False)


def _chosen(
    rows: Sequence[Row], total: Row, options: Options, columns: tuple[str, ...], *, strict: bool = True
) -> Selection:
    kept, unmatched = _filtered(rows, options.filters)
    if options.filters and not kept and strict:
        raise UsageError(_nothing(rows, unmatched))
    order = SORTS[options.sort]
    notes = [f"--filter {pattern} matches nothing" for pattern in unmatched if strict]
    if options.sort != "order":
        same = all(order.key(a) == order.key(b) for a, b in pairwise(kept))
        notes.append(f"sorted by {order.words}" + (": all rows are equal in that" if same and len(kept) > 1 else ""))
    shown = sorted(kept, key=order.key, reverse=order.descending)[: options.top]
    hidden = len(rows) - len(shown)
    if hidden:
        notes.append(f"{hidden:,} of {len(rows):,} rows are hidden; the total is that of the whole model")
    nested = options.by == MODULE  # sums of modules that contain one another would mean nothing
    sums = [sum_row("shown", shown), total] if hidden and not nested else [total]
    if options.by == OPERATOR:
        sums = [replace(row, op=row.label) for row in sums]
    if nested and any(row.name == "" for row in shown):  # the model itself is the total
        sums = []
    return Selection(options.by, columns, tuple(shown), tuple(sums), _scale(total, options), tuple(notes))


def _scale(total: Row, options: Options) -> Scale:
    return Scale(options.units, total.macs or total.flops, "macs" if total.macs else "flops")


def _matches(row: Row, pattern: str) -> bool:
    return any(fnmatchcase(text, pattern) for text in (row.name or ".", row.type, row.op))


def _filtered(rows: Sequence[Row], patterns: Sequence[str]) -> tuple[list[Row], list[str]]:
    """Rows that a pattern matches, and the patterns that match none."""
    if not patterns:
        return list(rows), []
    return (
        [row for row in rows if any(_matches(row, p) for p in patterns)],
        [p for p in patterns if not any(_matches(row, p) for row in rows)],
    )


def _nothing(rows: Sequence[Row], patterns: Sequence[str]) -> str:
    """What to say of filters that match nothing."""
    texts = list(dict.fromkeys(text for row in rows for text in (row.type, row.op, row.name) if text))
    wider = f"*{patterns[0].strip('*')}*"
    contained = any(fnmatchcase(text, wider) for text in texts)
    close = wider if contained else next(iter(get_close_matches(patterns[0], texts, 1)), "")
    kinds = list(dict.fromkeys(row.type or row.op for row in rows if row.type or row.op))
    there = ", ".join(map(printable, kinds[:8])) + (", ..." if len(kinds) > 8 else "")
    hint = f"did you mean '{printable(close)}'?" if close else f"there are {there}"
    named = ", ".join(f"'{pattern}'" for pattern in patterns)
    return f"--filter {named}: matches no path, type or operation of {len(rows)} rows; {hint}"


def select_tree(profile: Profile, options: Options) -> tuple[Row, Selection]:
    """The module tree, pruned and sorted, and the same as lines with branches drawn before their names.

    Raises:
        UsageError: a filter that nothing matches.
    """
    whole = _cut(module_tree(profile), options.depth)
    everything = list(whole.walk())
    kept, unmatched = _filtered(everything, options.filters)
    if options.filters and not kept:
        raise UsageError(_nothing(everything, unmatched))
    root = _pruned(whole, {row.name for row in kept}) if options.filters else whole
    root = _sorted(root or whole, SORTS[options.sort])
    lines = tuple(_drawn(root, "", ""))
    notes = [f"--filter {pattern} matches nothing" for pattern in unmatched]
    if options.sort != "order":
        notes.append(f"sorted by {SORTS[options.sort].words}, within each module")
    if len(lines) < len(everything):
        hidden = len(everything) - len(lines)
        notes.append(f"{hidden:,} of {len(everything):,} rows are hidden; sums are those of the whole modules")
    total = total_row(profile)
    columns = _columns(profile, replace(options, by=MODULE))
    return root, Selection(MODULE, columns, lines, (), _scale(total, options), tuple(notes))


def _cut(row: Row, depth: int | None) -> Row:
    """The tree without what is deeper than `depth`; its numbers stay in the sums above it."""
    if depth is None:
        return row
    return replace(row, children=tuple(_cut(c, depth - 1) for c in row.children) if depth > 0 else ())


def _pruned(row: Row, names: set[str]) -> Row | None:
    """The tree down to the rows named, each with the modules that it lies in."""
    children = tuple(kept for child in row.children if (kept := _pruned(child, names)))
    return replace(row, children=children) if children or row.name in names else None


def _sorted(row: Row, order: Order) -> Row:
    children = [_sorted(child, order) for child in row.children]
    children.sort(key=order.key, reverse=order.descending)
    return replace(row, children=tuple(children))


def _drawn(row: Row, before: str, below: str) -> list[Row]:
    """Lines of the tree: `before` stands before this name, `below` before those of its children."""
    lines = [replace(row, label=before + (row.name.rpartition(".")[2] or "."), children=())]
    for child in row.children:
        last = child is row.children[-1]
        lines += _drawn(child, below + ("└ " if last else "├ "), below + ("  " if last else "│ "))
    return lines
