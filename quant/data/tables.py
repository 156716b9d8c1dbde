"""A CSV file of paths and labels."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import DataError
from quant.data.classes import numbered, read_classes
from quant.data.images import Pictures
from quant.data.paths import inside, root_of
from quant.data.samples import Samples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quant.data.options import Options
    from quant.data.preprocessing import Preprocessing

# Headers that are understood, in this order of preference.
PATHS = ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "img", "name")
LABELS = ("label", "class", "target", "y", "category", "class_name", "label_name", "class_id", "label_id")
ENDINGS = (".csv", ".tsv")
_DELIMITERS = ",;\t|"
_MISSING = ("", "nan", "null", "none", "na", "n/a", "?")


@dataclass(frozen=True)
class _Row:
    """A line: where it is, the path, and the label as it is written."""

    line: int
    path: str
    label: str | None


def open_table(path: Path, name: str, preprocessing: Preprocessing, options: Options) -> Samples:
    """Samples from a CSV file whose first line names its columns: a path, and unless there are none a label.

    Labels that are all whole numbers are classes, that are all numbers are values; anything else are names of classes.

    Raises:
        DataError: no such columns, a line that is cut short, a label that is missing or out of range.
        RefusedError: the file is too long, or a path leads out of its folder.
    """
    options.limits.check("header_bytes", path.stat().st_size, name)
    rows = _rows(path, name)
    root = root_of(options.images or path.parent, name)
    for row in rows:
        inside(root, row.path, f"{name}, line {row.line}", trust=options.trust)
    labels, task, classes, notes = _labels(rows, name, options)
    pictures = Pictures(
        name, root, [row.path for row in rows], preprocessing, strict=options.strict, trust=options.trust
    )
    return Samples({"x": pictures}, labels, name, task, notes=notes, classes=classes)  # type: ignore[arg-type]  # a literal


def _rows(path: Path, name: str) -> list[_Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            delimiter = max(_DELIMITERS, key=first.count)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = next(reader, [])
            where = _column(header, PATHS)
            if where is None:
                raise DataError(
                    f"{name}: its first line has no column of paths ({', '.join(header)[:200]}); name one path, and "
                    "the labels label"
                )
            label = _column(header, LABELS)
            rows = []
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise DataError(
                        f"{name}, line {reader.line_num}: has {len(cells)} cells, the first line {len(header)}; put "
                        f"text that holds {delimiter!r} into quotes"
                    )
                rows.append(_Row(reader.line_num, cells[where], None if label is None else cells[label].strip()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{name}: cannot be read: {error}; a CSV file in UTF-8 is expected") from error
    if not rows:
        raise DataError(f"{name}: has no line but the first")
    if empty := next((row for row in rows if not row.path), None):
        raise DataError(f"{name}, line {empty.line}: has no path")
    return rows


def _column(header: Sequence[str], names: Sequence[str]) -> int | None:
    """Which column has the first of these names that occurs."""
    found = [cell.strip().lower() for cell in header]
    return next((found.index(wanted) for wanted in names if wanted in found), None)


def _labels(
    rows: Sequence[_Row], name: str, options: Options
) -> tuple[np.ndarray | None, str | None, int | None, tuple[str, ...]]:
    """Labels, the task, the number of classes where it was found here, and notes."""
    written = [row.label for row in rows if row.label is not None]
    if not written:
        return None, None, None, (f"{name}: no column of labels",)
    for row in rows:
        if row.label is not None and row.label.lower() in _MISSING:
            raise DataError(f"{name}, line {row.line}: the label is missing ({row.label!r}); every sample needs one")
    given = None if options.classes is None else read_classes(Path(options.classes))
    numbers = [_number(text) for text in written]
    if any(number is None for number in numbers) or (given is not None and set(written) <= set(given)):
        classes, note = numbered(set(written), given, name)
        labels = np.array([classes[text] for text in written], np.int64)
        return labels, "classification", len(classes) if given is None else None, (note,)
    values = [number for number in numbers if number is not None]
    if any(isinstance(value, float) for value in values):
        return np.array(values, np.float64), None, None, (f"{name}: labels are numbers",)
    for row, value in zip(rows, values, strict=True):
        _check_class(row, int(value), None if given is None else max(given.values()) + 1, name)
    return np.array(values, np.int64), "classification", None, ()


def _check_class(row: _Row, number: int, classes: int | None, name: str) -> None:
    if number < 0:
        raise DataError(f"{name}, line {row.line}: the class is {number}; classes are counted from 0")
    if classes is not None and number >= classes:
        raise DataError(f"{name}, line {row.line}: the class {number} is out of range, {classes} were given")
    if number > np.iinfo(np.int64).max:
        raise DataError(f"{name}, line {row.line}: the class {number} is out of any range")


def _number(text: str) -> int | float | None:
    try:
        return int(text) if text.lstrip("+-").isdecimal() and len(text) < 40 else _finite(float(text))
    except ValueError:
        return None


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
