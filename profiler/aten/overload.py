"""What an operator's schema says, worked out once per overload: where its tensors are, and what becomes of them."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch

Overload = torch._ops.OpOverload  # noqa: SLF001  # torch has no public name for it


class Kind(Enum):
    """What an operator does with the storage of its arguments."""

    VIEW = "its result may share the storage of its first argument"
    IN_PLACE = "it writes to an argument and returns it"
    PLAIN = "its result is new"


@dataclass(frozen=True, slots=True)
class Schema:
    """One overload's schema.

    Attributes:
        packet: the operator's name without its overload: `aten.conv2d`.
        signature: position and default of each argument by name; keyword-only ones have position -1.
        places: positions of arguments that are tensors, and whether it is a list of them.
        named: the same for keyword-only arguments, by name.
        kind: what it does with storage.
        written: names of the arguments it writes to.
    """

    packet: str
    signature: dict[str, tuple[int, Any]]
    places: tuple[tuple[int, bool], ...]
    named: tuple[tuple[str, bool], ...]
    kind: Kind
    written: tuple[str, ...]

    def tensors(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[torch.Tensor, ...]:
        """All tensors among the arguments, in order. A number in a tensor's place is no tensor."""
        found: list[Any] = []
        count = len(args)
        for position, many in self.places:
            if position < count:
                value = args[position]
                if many and isinstance(value, list | tuple):
                    found += value
                else:
                    found.append(value)
        if kwargs:
            for name, many in self.named:
                value = kwargs.get(name)
                if many and isinstance(value, list | tuple):
                    found += value
                else:
                    found.append(value)
        return tuple([t for t in found if isinstance(t, torch.Tensor)])


_SCHEMAS: dict[Overload, Schema] = {}


def schema_of(func: Overload) -> Schema:
    """The schema of an overload."""
    schema = _SCHEMAS.get(func)
    if schema is None:
        schema = _SCHEMAS[func] = _read(func)
    return schema


def _read(func: Overload) -> Schema:
    declared = func._schema  # noqa: SLF001  # the only way to a schema
    signature: dict[str, tuple[int, Any]] = {}
    places: list[tuple[int, bool]] = []
    named: list[tuple[str, bool]] = []
    written: list[str] = []
    for position, argument in enumerate(declared.arguments):
        default = argument.default_value if argument.has_default_value() else None
        signature[argument.name] = (-1 if argument.kwarg_only else position, default)
        declared_type = str(argument.type)
        if "Tensor" in declared_type:
            many = "List" in declared_type
            if argument.kwarg_only:
                named.append((argument.name, many))
            else:
                places.append((position, many))
        if argument.alias_info is not None and argument.alias_info.is_write:
            written.append(argument.name)
    aliases = [r.alias_info for r in declared.returns if r.alias_info is not None]
    kind = Kind.PLAIN
    if aliases:
        kind = Kind.IN_PLACE if any(a.is_write for a in aliases) else Kind.VIEW
    return Schema(str(func.overloadpacket), signature, tuple(places), tuple(named), kind, tuple(written))
