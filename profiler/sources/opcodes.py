"""Reads a pickle without running it: a symbolic interpreter of the opcodes that torch.save writes.

The result says what the pickle *would* build: plain values stay what they are, everything else becomes one of the
nodes below. Nothing is imported, nothing is called. Opcodes outside the set that torch uses are refused.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from profiler.errors import ModelError, RefusedError
from profiler.sources.limits import DEFAULT, Limits


class UnusualPickleError(RefusedError):
    """A pickle that does what torch.save's own never do."""


@dataclass(frozen=True, slots=True)
class Global:
    """A name that the pickle asks for."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False)
class Instance:
    """An object made by NEWOBJ, with what BUILD would put into it."""

    kind: Global
    args: Any
    state: Any = None


@dataclass(slots=True, eq=False)
class Result:
    """The result of a call (REDUCE), with what BUILD, APPENDS and SETITEMS would put into it."""

    function: Global
    args: Any
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Persistent:
    """A reference to data outside the pickle: torch's storages."""

    key: Any


_MARK = object()


class _Machine:
    """A stack, a memo and one method per opcode."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.names: dict[Global, None] = {}

    def marked(self) -> list[Any]:
        """Pop everything above the last mark."""
        items: list[Any] = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def push(self, value: Any) -> None:  # noqa: ANN401  # values of the pickle
        self.stack.append(value)

    def global_(self, argument: str) -> None:
        self._named(*argument.split(" ", 1))

    def stack_global(self, _argument: object) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._named(str(module), str(name))

    def _named(self, module: str, name: str) -> None:
        found = Global(module, name)
        self.names[found] = None
        self.push(found)

    def reduce(self, _argument: object) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        self.push(Result(self._callable(function), args))

    def newobj(self, _argument: object) -> None:
        args, kind = self.stack.pop(), self.stack.pop()
        self.push(Instance(self._callable(kind), args))

    def _callable(self, value: object) -> Global:
        if not isinstance(value, Global):
            asked = ", ".join(map(str, self.names))
            raise UnusualPickleError(
                f"{self.source}: the pickle calls something that it computed itself from {asked}; refused"
            )
        return value

    def build(self, _argument: object) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, Instance | Result):
            raise UnusualPickleError(f"{self.source}: the pickle sets the state of a {type(target).__name__}; refused")
        target.state = state

    def setitems(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        items = target.items if isinstance(target, Result) else target
        if not isinstance(items, dict):
            raise UnusualPickleError(f"{self.source}: the pickle sets items of a {type(target).__name__}; refused")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            items[key if isinstance(key, str | int | float | bool | tuple | None) else id(key)] = value

    def appends(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise UnusualPickleError(f"{self.source}: the pickle appends to a {type(target).__name__}; refused")
        target.extend(values)

    def tuple_of(self, count: int) -> None:
        items = [self.stack.pop() for _ in range(count)][::-1]
        self.push(tuple(items))

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]


Opcode = Callable[[_Machine, Any], None]


def _nothing(_machine: _Machine, _argument: object) -> None:
    """The opcode changes nothing that matters here."""


# Opcodes whose argument is the value itself.
_PLAIN = (
    *("BININT", "BININT1", "BININT2", "LONG1", "INT", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"),
)

OPCODES: dict[str, Opcode] = {
    "PROTO": _nothing,
    "FRAME": _nothing,
    "STOP": _nothing,
    "MARK": lambda m, _: m.push(_MARK),
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.stack.append(True),
    "NEWFALSE": lambda m, _: m.stack.append(False),
    **dict.fromkeys(_PLAIN, _Machine.push),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "TUPLE": lambda m, _: m.push(tuple(m.marked())),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "APPEND": lambda m, _: m.appends([m.stack.pop()]),
    "APPENDS": lambda m, _: m.appends(m.marked()),
    "SETITEM": lambda m, _: m.setitems([m.stack.pop() for _ in range(2)][::-1]),
    "SETITEMS": lambda m, _: m.setitems(m.marked()),
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": lambda m, _: m.put(len(m.memo)),
    "BINGET": lambda m, index: m.push(m.memo[index]),
    "LONG_BINGET": lambda m, index: m.push(m.memo[index]),
    "BINPERSID": lambda m, _: m.push(Persistent(m.stack.pop())),
    "GLOBAL": _Machine.global_,
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.newobj,
    "BUILD": _Machine.build,
}


def read_symbolically(data: bytes, source: str, limits: Limits = DEFAULT) -> tuple[Any, tuple[Global, ...]]:
    """What a pickle would build, and every name it asks for.

    Args:
        data: the pickle.
        source: the file, for messages.
        limits: how many opcodes there may be.

    Raises:
        UnusualPickleError: it uses an opcode, or a way to build things, that torch.save never does.
        ModelError: it is truncated or malformed.
    """
    machine = _Machine(source)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            handler = OPCODES.get(opcode.name)
            if handler is None:
                raise UnusualPickleError(
                    f"{source}: the pickle uses the opcode {opcode.name}, which torch.save never writes"
                )
            if count > limits.opcodes:
                limits.check("opcodes", count, f"{source}, its pickle")
            handler(machine, argument)
        return machine.stack.pop(), tuple(machine.names)
    except (IndexError, KeyError, ValueError, TypeError, UnicodeDecodeError) as error:
        raise ModelError(f"{source}: the pickle inside is damaged ({error})") from error
