"""JSON from files nobody vouches for: one meaning for every key, and no deeper than it needs to be."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from profiler.errors import ModelError, RefusedError
from profiler.sources.limits import DEFAULT, Limits


def read_json(path: Path, limits: Limits = DEFAULT, *, special_floats: bool = False) -> Any:  # noqa: ANN401  # whatever the file holds
    """The content of a JSON file.

    Args:
        path: the file.
        limits: how long and how deep it may be.
        special_floats: take `Infinity` and `NaN`, which are no JSON and which Python writes.

    Raises:
        ModelError: it cannot be read, or is no JSON in UTF-8.
        RefusedError: it is too long or too deep, or has a key twice.
    """
    limits.check("header_bytes", path.stat().st_size, str(path))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    return parse_json(data, str(path), limits, special_floats=special_floats)


def parse_json(data: bytes, what: str, limits: Limits = DEFAULT, *, special_floats: bool = False) -> Any:  # noqa: ANN401  # as above
    """The value of a JSON text.

    Args:
        data: the text, in UTF-8.
        what: the file, or the part of it that this is, for messages.
        limits: how deep it may be.
        special_floats: take `Infinity` and `NaN`.

    Raises:
        ModelError: it is no JSON in UTF-8.
        RefusedError: it is too deep, or an object has a key twice.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise RefusedError(f"{what}: has the key {twice[:80]!r} twice, which no honest tool writes; refused")
        return found

    def constant(text: str) -> float:
        if not special_floats:
            raise ValueError(f"{text} is no JSON")
        return float(text)

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=once, parse_constant=constant)
    except RecursionError as error:
        raise RefusedError(f"{what}: is nested too deep to be read; refused") from error
    except ValueError as error:  # a UnicodeDecodeError and a JSONDecodeError are ValueErrors
        raise ModelError(f"{what}: is damaged: no JSON in UTF-8 ({error})") from error
    limits.check("nesting", _depth(value), what)
    return value


def _depth(value: Any) -> int:  # noqa: ANN401  # any JSON value
    """How many objects and lists lie inside each other."""
    depth, level = 0, [value]
    while level := [v for v in level if isinstance(v, dict | list)]:
        depth += 1
        level = [below for v in level for below in (v.values() if isinstance(v, dict) else v)]
    return depth
