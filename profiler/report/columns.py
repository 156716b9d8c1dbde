"""The columns of a report, in one table: what stands in them, for people and for programs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from profiler.errors import UsageError
from profiler.profile import ReceptiveField
from profiler.report import units
from profiler.report.rows import Row

LAYER, MODULE, OPERATOR = "layer", "module", "operator"
ALL = (LAYER, MODULE, OPERATOR)


@dataclass(frozen=True, slots=True)
class Scale:
    """What the numbers of a table are shown against.

    Attributes:
        units: one of `units.UNITS`.
        whole: what a share is a share of.
        measure: which number of a row that is: "macs", or "flops" where the model has no MACs.
    """

    units: str = "auto"
    whole: int = 0
    measure: str = "macs"


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        header: its heading.
        text: its cell for people.
        value: its cell for programs, the number in full.
        rows: the kinds of row that have it.
        right: whether it is aligned to the right.
        short: a shorter heading for narrow terminals.
        unit: "count" or "bytes" where --units changes it.
    """

    header: str
    text: Callable[[Row, Scale], str]
    value: Callable[[Row, Scale], object]
    rows: tuple[str, ...] = ALL
    right: bool = False
    short: str = ""
    unit: str = ""

    def title(self, scale: Scale, *, short: bool = False) -> str:
        """The heading, with the unit where all numbers have the same."""
        name = self.short if short and self.short else self.header
        return name + (units.unit_of(scale.units, binary=self.unit == "bytes") if self.unit else "")


def _words(header: str, name: str, rows: tuple[str, ...] = ALL, shown: str = "", short: str = "") -> Column:
    """A name, which may come from a file; `shown` is the attribute that people see of it."""
    return Column(
        header,
        lambda row, _: units.printable(str(getattr(row, shown or name))),
        lambda row, _: units.printable(str(getattr(row, name))),
        rows,
        short=short,
    )


def _number(header: str, name: str, rows: tuple[str, ...] = ALL, *, binary: bool = False) -> Column:
    """A count, or bytes; nothing is shown for a zero, except in the sum."""
    written = units.size_of if binary else units.count

    def text(row: Row, scale: Scale) -> str:
        number = getattr(row, name)
        return written(number, scale.units) if number or row.status == "total" else ""

    unit = "bytes" if binary else "count"
    return Column(header, text, lambda row, _: getattr(row, name), rows, right=True, unit=unit)


def _flops(row: Row, scale: Scale) -> str:
    """FLOPs; a sum that lacks operators is marked as the bound from below that it is."""
    if row.uncounted and not row.flops:
        return "not counted"
    number = units.count(row.flops, scale.units) if row.flops or row.status == "total" else ""
    return f">{number}" if row.uncounted else number


def _share(row: Row, scale: Scale) -> float:
    return getattr(row, scale.measure) / scale.whole if scale.whole else 0.0


def _sizes(header: str, name: str, rows: tuple[str, ...], short: str, most: int | None = None) -> Column:
    return Column(
        header,
        lambda row, _: ", ".join(units.shape(s) for s in getattr(row, name)[:most]),
        lambda row, _: " ".join(units.shape(s) for s in getattr(row, name)),
        rows,
        short=short,
    )


def _field(header: str, read: Callable[[ReceptiveField], str], short: str = "") -> Column:
    def text(row: Row, _scale: Scale) -> str:
        return read(row.receptive_field) if row.receptive_field else ""

    return Column(header, text, text, (LAYER, MODULE), short=short)


def _joined(values: Sequence[Any], by: str = "x") -> str:
    return by.join(map(str, values))


COLUMNS: dict[str, Column] = {
    "name": _words("name", "name", (LAYER, MODULE), shown="label"),
    "type": _words("type", "type", (LAYER, MODULE), shown="kind"),
    "op": _words("operation", "op", (LAYER, OPERATOR), short="op"),
    "call": _words("call", "call", (LAYER,)),
    "calls": Column("calls", lambda row, _: f"{row.calls:,}", lambda row, _: row.calls, (MODULE, OPERATOR), right=True),
    "input_shapes": _sizes("input size", "input_shapes", (LAYER,), "input"),
    "output_shapes": _sizes("output size", "output_shapes", (LAYER, MODULE), "output", most=1),
    "rf": _field("receptive field", units.field, "field"),
    "macs": _number("MACs", "macs"),
    "flops": Column("FLOPs", _flops, lambda row, _: row.flops, right=True, unit="count"),
    "params": _number("params", "params"),
    "share": Column(
        "share",
        lambda row, scale: units.percent(getattr(row, scale.measure), scale.whole),
        lambda row, scale: round(_share(row, scale), 6),
        right=True,
    ),
    "param_bytes": _number("param bytes", "param_bytes", (LAYER, MODULE), binary=True),
    "output_bytes": _number("output bytes", "output_bytes", (LAYER, MODULE), binary=True),
    "read_bytes": _number("read", "read_bytes", binary=True),
    "write_bytes": _number("written", "write_bytes", binary=True),
    "intensity": Column(
        "FLOP/byte",
        lambda row, _: f"{row.intensity:.2f}" if row.intensity else "",
        lambda row, _: round(row.intensity, 6),
        right=True,
    ),
    "formula": _words("formula", "formula", (LAYER,)),
    "status": _words("status", "status", (LAYER,)),
    "rf_size": _field("rf size", lambda rf: _joined(rf.size)),
    "rf_stride": _field("rf stride", lambda rf: _joined(rf.stride)),
    "rf_start": _field("rf start", lambda rf: _joined(rf.start, " ")),
    "rf_status": _field("rf status", lambda rf: rf.status),
    "rf_local_size": _field("rf local size", lambda rf: _joined(rf.local.size) if rf.local else ""),
    "rf_phases": _field("rf phases", units.phases),
    "rf_aligned": _field("rf aligned", lambda rf: "yes" if rf.aligned else "no"),
    "rf_reason": _field("rf reason", lambda rf: units.printable(rf.reason)),
    "backward_macs": _number("back. MACs", "backward_macs", (MODULE,)),
    "backward_flops": _number("back. FLOPs", "backward_flops", (MODULE,)),
}

_BASE = ("name", "type", "output_shapes", "rf", "macs", "flops", "params", "share")
_BACKWARD = ("backward_macs", "backward_flops")
_MOVED = ("read_bytes", "write_bytes", "intensity")
# What a table has, what a wide terminal adds, group by group as long as they fit, and what a narrow one drops, first to
# last. MACs and FLOPs always stand side by side.
BASE = {LAYER: _BASE, MODULE: _BASE, OPERATOR: ("op", "calls", "macs", "flops", "params", "share")}
EXTRA = {
    LAYER: (_MOVED, ("rf_stride", "rf_start"), ("input_shapes",)),
    MODULE: (_MOVED, ("rf_stride", "rf_start")),
    OPERATOR: (_MOVED,),
}
BACKWARD = {LAYER: ("name", "op", "output_shapes", "macs", "flops", "share"), OPERATOR: BASE[OPERATOR]}
DROPPED = ("share", "params", "calls", "type", "op", "rf", "output_shapes", *_BACKWARD)
_FIELD = ("rf_size", "rf_stride", "rf_start", "rf_status", "rf_local_size", "rf_phases", "rf_aligned", "rf_reason")
_SIZES = ("input_shapes", "output_shapes", "macs", "flops", "params", "param_bytes", "output_bytes")
CSV = {
    LAYER: ("name", "type", "op", "call", *_SIZES, "read_bytes", "write_bytes", "formula", "status", *_FIELD,
            "intensity"),
    MODULE: ("name", "type", "calls", *_SIZES[1:], *_MOVED, *_FIELD),
    OPERATOR: ("op", "calls", "macs", "flops", "params", *_MOVED),
}  # fmt: skip


def base_columns(by: str, *, backward: bool = False) -> tuple[str, ...]:
    """What a table of some kind of row has where nothing else is asked for."""
    return BASE[by] + (_BACKWARD if backward and by == MODULE else ())


def csv_columns(by: str, *, backward: bool = False) -> tuple[str, ...]:
    """The same for CSV, which has every number."""
    return CSV[by] + (_BACKWARD if backward and by == MODULE else ())


def check_columns(text: str, by: str) -> tuple[str, ...]:
    """The names in a list joined by commas.

    Raises:
        UsageError: one of them is no column of such rows; the message lists those that are.
    """
    valid = [name for name, column in COLUMNS.items() if by in column.rows]
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    wrong = [name for name in names if name not in valid]
    if wrong or not names:
        close = get_close_matches(wrong[0], valid, 1) if wrong else []
        asked = f"no column {wrong[0]!r}" + (f" (did you mean {close[0]}?)" if close else "") if wrong else "no name"
        raise UsageError(f"--columns: {asked} for rows by {by}; there are {', '.join(valid)}")
    return tuple(dict.fromkeys(names))
