"""Class names and their numbers: from a file, or in sorted order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from profiler.errors import DataError, ModelError, RefusedError
from profiler.sources.strict_json import read_json

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_LARGEST_FILE = 64 << 20
_SHOWN = 5


def read_classes(path: Path) -> dict[str, int]:
    """Name -> number, from a text file with a name a line, the first for 0, or a JSON object or list of the same.

    Raises:
        DataError: it cannot be read, is empty, or gives a name or a number twice.
    """
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise DataError(f"{path}: is too large for a list of class names")
        if path.suffix == ".json":
            found = _from_json(read_json(path), path)
        else:
            lines = path.read_text("utf-8-sig").splitlines()
            while lines and not lines[-1].strip():
                lines.pop()
            found = [(line.strip(), number) for number, line in enumerate(lines)]
    except (ModelError, RefusedError) as error:
        raise DataError(str(error)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not found:
        raise DataError(f"{path}: names no class")
    for part, what in (([name for name, _ in found], "name"), ([number for _, number in found], "number")):
        twice, times = Counter(part).most_common(1)[0]
        if times > 1:
            raise DataError(f"{path}: gives the {what} {twice!r} {times} times; each class has one line")
    return dict(found)


def _from_json(content: Any, path: Path) -> list[tuple[str, int]]:  # noqa: ANN401  # JSON
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return [(name, number) for number, name in enumerate(content)]
    if isinstance(content, Mapping):
        if all(type(number) is int and number >= 0 for number in content.values()):
            return list(content.items())
        if all(key.isdecimal() and isinstance(name, str) for key, name in content.items()):
            return [(name, int(key)) for key, name in content.items()]  # as transformers' id2label
    raise DataError(f"{path}: wanted a list of names, or an object from name to number")


def numbered(names: Collection[str], given: Mapping[str, int] | None, what: str) -> tuple[dict[str, int], str]:
    """The number of each name, and a note that says it.

    Args:
        names: that occur.
        given: their numbers; None numbers them from 0 in sorted order.
        what: the data, for messages.

    Raises:
        DataError: a name that has no number.
    """
    if given is None:
        found = {name: number for number, name in enumerate(sorted(names))}
        return found, f"{what}: {len(found)} classes, numbered in the sorted order of their names: {_listed(found)}"
    if unknown := sorted(set(names) - set(given)):
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise DataError(f"{what}: the class {unknown[0]!r}{more} is not among the {len(given)} that were given")
    found = {name: given[name] for name in sorted(names)}
    return found, f"{what}: {len(found)} of {len(given)} classes occur, numbered as given: {_listed(found)}"


def _listed(numbers: Mapping[str, int]) -> str:
    shown = [f"{name}={number}" for name, number in list(numbers.items())[:_SHOWN]]
    return ", ".join(shown) + (", ..." if len(numbers) > _SHOWN else "")
