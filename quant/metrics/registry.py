"""Every metric by its name: one table of families, and how `f1:average=macro` is read.

A family has typed parameters. The text that names a metric is NAME[:PARAMETER=VALUE]..., as in `topk:k=5`; what is not
given has its default.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from profiler.errors import UsageError
from quant.metrics.classification import CLASSIFICATION
from quant.metrics.closeness import FIDELITY
from quant.metrics.detection import DETECTION
from quant.metrics.losses import LOSSES
from quant.metrics.segmentation import SEGMENTATION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from quant.metrics.base import Family, Metric, Parameter

METRICS: Mapping[str, Family] = {
    **CLASSIFICATION,
    **DETECTION,
    **SEGMENTATION,
    **FIDELITY,
    **LOSSES,
}

_NEXT_PARAMETER = re.compile(r":(?=[A-Za-z_]\w*=)")  # a value may hold a colon, as the names of some outputs do
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class Spec:
    """A metric as it was asked for.

    Attributes:
        name: of the family.
        family: its entry in the table.
        given: the parameters that were given, by name, in the table's order.
    """

    name: str
    family: Family
    given: Mapping[str, Any]

    @property
    def title(self) -> str:
        """The canonical text, which names the metric in results: `f1:average=macro`."""
        return ":".join([self.name, *(f"{key}={_written(value)}" for key, value in self.given.items())])

    def build(self) -> Metric:
        """The metric, with defaults for what was not given."""
        defaults = {name: parameter.default for name, parameter in self.family.parameters.items()}
        return self.family.build(**{**defaults, **self.given})


def parse(text: str, families: Mapping[str, Family] | None = None) -> Spec:
    """Read NAME[:PARAMETER=VALUE]...

    Args:
        text: what was asked for.
        families: the table; `METRICS` where None.

    Raises:
        UsageError: an unknown name or parameter, with close ones, or a value that the parameter cannot have.
    """
    table = METRICS if families is None else families
    name, _, rest = text.strip().partition(":")
    if name not in table:
        raise UsageError(f"no metric named {name!r}; there is {_close(name, table)}")
    family, given = table[name], {}
    before, *parts = _NEXT_PARAMETER.split(f":{rest}" if rest else "")
    if before:
        raise UsageError(f"{text!r} cannot be read; metrics are written NAME:PARAMETER=VALUE, as f1:average=macro")
    for part in parts:
        key, _, value = part.partition("=")
        if key not in family.parameters:
            known = f"it has {_close(key, family.parameters)}" if family.parameters else "it has none"
            raise UsageError(f"the metric {name} has no parameter {key!r}; {known}")
        if key in given:
            raise UsageError(f"{text}: {key} is given twice")
        given[key] = _read(value, family.parameters[key], f"{name}:{key}={value}")
    return Spec(name, family, {key: given[key] for key in family.parameters if key in given})


def find(text: str) -> Metric:
    """The metric that a text names, as `parse` reads it.

    Raises:
        UsageError: as for `parse`, or parameters that do not go together.
    """
    return parse(text).build()


def default_metrics(task: str, families: Mapping[str, Family] | None = None) -> tuple[str, ...]:
    """The names that a task reports when none are asked for, in the table's order."""
    return tuple(name for name, family in (families or METRICS).items() if task in family.tasks)


def tasks() -> tuple[str, ...]:
    """Every task that some metric belongs to."""
    return tuple(dict.fromkeys(task for family in METRICS.values() for task in family.tasks))


def _close(name: str, known: Iterable[str]) -> str:
    return ", ".join(difflib.get_close_matches(name, list(known), n=3) or sorted(known))


def _read(text: str, parameter: Parameter, what: str) -> Any:  # noqa: ANN401  # of the type of its default
    try:
        value = _typed(text, parameter.default)
    except ValueError:
        kind = type(parameter.default).__name__
        raise UsageError(f"{what}: {text!r} is no {_KINDS.get(kind, kind)}") from None
    if parameter.choices and value not in parameter.choices:
        raise UsageError(f"{what}: there is {', '.join(map(_written, parameter.choices))}")
    return value


_KINDS = {"int": "whole number", "float": "number", "bool": "yes or no"}


def _typed(text: str, default: object) -> Any:  # noqa: ANN401  # see _read
    """A value of the default's type; None is the word for none, and a default of None takes a number or a word."""
    if isinstance(default, bool):
        if text.lower() not in _WORDS:
            raise ValueError(text)
        return _WORDS[text.lower()]
    if isinstance(default, int | float):
        return type(default)(text)
    if isinstance(default, tuple):
        return tuple(_typed(part, default[0] if default else None) for part in text.split(","))
    if default is None:
        if text.lower() == "none":
            return None
        for kind in (int, float):
            try:
                return kind(text)
            except ValueError:
                continue
    return text


def _written(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(_written, value))
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
