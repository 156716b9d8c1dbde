"""JSON and CSV: every number in full."""

import csv
import io
import json
from importlib.resources import files
from typing import Any

from profiler.escaping import cell
from profiler.profile import Profile
from profiler.report.columns import COLUMNS, MODULE, csv_columns
from profiler.report.options import Options
from profiler.report.select import Selection, select, select_backward

# Columns whose text comes from a file, in which a spreadsheet must not find a formula.
_NAMES = ("name", "type", "op", "formula")


def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of what `--format json` prints."""
    text = files("profiler.report").joinpath("profile.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def as_json(profile: Profile, options: Options) -> str:
    """The profile by the schema `netgauge.profile/1`."""
    for peer in options.peers:
        profile.crosscheck(peer)
    return json.dumps(profile.to_dict(), indent=2)


def as_csv(profile: Profile, options: Options) -> str:
    """One line per row; sizes as 1x64x8x8, several joined by spaces.

    With a backward pass, a last column `pass` says which one a row is of; rows by module have columns for it instead.
    """
    both = profile.backward is not None and options.by != MODULE
    names = options.columns or csv_columns(options.by, backward=profile.backward is not None)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*names, "pass"] if both else names)
    writer.writerows(_lines(select(profile, options), names, ["forward"] if both else []))
    backward = select_backward(profile, options)
    if backward:
        writer.writerows(_lines(backward, names, ["backward"]))
    return out.getvalue()


def _lines(selection: Selection, names: tuple[str, ...], end: list[str]) -> list[list[object]]:
    return [
        [*(_cell(name, COLUMNS[name].value(row, selection.scale)) for name in names), *end] for row in selection.rows
    ]


def _cell(name: str, value: object) -> object:
    return cell(value) if name in _NAMES else value
