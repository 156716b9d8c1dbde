"""`--set NAME=VALUE`: arguments for what builds a model."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import click

from profiler.errors import UsageError

# What people write who think of Python.
_PYTHON = {"True": True, "False": False, "None": None}


def arguments(texts: Iterable[str]) -> dict[str, Any]:
    """Arguments by name: values are JSON where they can be read as JSON, else text.

    Args:
        texts: each NAME=VALUE; a dot in a name leads into a nested configuration.

    Raises:
        UsageError: no name, or one given twice.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not all(part.isidentifier() for part in name.split(".")):
            raise UsageError(f"--set {text}: write NAME=VALUE, such as num_classes=10")
        if name in found:
            raise UsageError(f"--set {text}: {name} is given twice")
        found[name] = _value(value)
    return found


def _value(text: str) -> Any:  # noqa: ANN401  # any JSON value
    if text in _PYTHON:
        return _PYTHON[text]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


option: Callable[[Any], Any] = click.option(
    "--set",
    "kwargs",
    multiple=True,
    metavar="NAME=VALUE",
    callback=lambda _context, _option, texts: arguments(texts),
    help="An argument for the factory or the named model, such as num_classes=10; repeat.",
)
