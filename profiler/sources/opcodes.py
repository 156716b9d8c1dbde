"""Reads a pickle without running it: a symbolic interpreter of the opcodes that torch.save writes.

The result says what the pickle *would* build: plain values stay what they are, everything else becomes one of the
nodes below. Nothing is imported, nothing is called. Opcodes outside the set that torch uses are refused.
"""

import io
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from profiler.errors import ModelError, RefusedError
from profiler.sources.limits import DEFAULT, Limits

_LONGEST = 120  # characters of a name in a message


@dataclass(frozen=True, slots=True)
class Global:
    """A name that the pickle asks for."""

    module: str
    name: str

    def __str__(self) -> str:
        written = f"{self.module}.{self.name}" if self.module else self.name
        return written if len(written) <= _LONGEST else f"{written[:_LONGEST]}..."


@dataclass(slots=True, eq=False)
class Instance:
    """An object made by NEWOBJ, with what BUILD, APPENDS and SETITEMS would put into it."""

    kind: Global
    args: Any
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)


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


class ForeignPickleError(RefusedError):
    """A pickle that does what torch.save never does; what it holds is not known."""


# Stands for what a pickle calls without naming it, such as a method: no rule allows it.
COMPUTED = Global("", "something that it computed itself")
_SET = Global("builtins", "set")
_FROZENSET = Global("builtins", "frozenset")
_HASHABLE = str | bytes | int | float | bool | None | Global | Instance | Result | Persistent


class _Machine:
    """A stack, a memo and one method per opcode."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # stacks that a MARK has set aside
        self.memo: dict[int, Any] = {}
        self.names: dict[Global, None] = {}

    def mark(self, _argument: object) -> None:
        self.below.append(self.stack)
        self.stack = []

    def marked(self) -> list[Any]:
        """Everything above the last mark."""
        items, self.stack = self.stack, self.below.pop()
        return items

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

    def newobj_ex(self, _argument: object) -> None:
        named, args, kind = (self.stack.pop() for _ in range(3))
        self.push(Instance(self._callable(kind), (args, named)))

    def persistent(self, _argument: object) -> None:
        key = self.stack.pop()
        # Files of torch 1.5 and older name a class this way, beside its source, which is left alone.
        named = isinstance(key, tuple) and len(key) == 4 and key[0] == "module" and isinstance(key[1], Global)
        self.push(key[1] if named else Persistent(key))

    @staticmethod
    def _callable(value: object) -> Global:
        return value if isinstance(value, Global) else COMPUTED

    def build(self, _argument: object) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, Instance | Result):
            raise ForeignPickleError(f"{self.source}: the pickle sets the state of a {type(target).__name__}; refused")
        target.state = state

    def setitems(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        items = target.items if isinstance(target, Result | Instance) else target
        if not isinstance(items, dict):
            raise ForeignPickleError(f"{self.source}: the pickle sets items of a {type(target).__name__}; refused")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            # Hashing tuples inside tuples can be made to take for ever.
            flat = key if isinstance(key, tuple) else (key,)
            if not all(isinstance(part, _HASHABLE) for part in flat):
                raise ForeignPickleError(f"{self.source}: the pickle has a key that is a {type(key).__name__}; refused")
            items[key] = value

    def appends(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(values)
        elif isinstance(target, Result | Instance):
            target.items.update({len(target.items) + n: value for n, value in enumerate(values)})
        else:
            raise ForeignPickleError(f"{self.source}: the pickle appends to a {type(target).__name__}; refused")

    def added(self) -> None:
        """ADDITEMS: into a set that EMPTY_SET has made."""
        values, target = self.marked(), self.stack[-1]
        if not isinstance(target, Result) or target.function != _SET:
            raise ForeignPickleError(f"{self.source}: the pickle adds to a {type(target).__name__}; refused")
        target.args[0].extend(values)

    def tuple_of(self, count: int) -> None:
        items = [self.stack.pop() for _ in range(count)][::-1]
        self.push(tuple(items))

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise ValueError(f"it refers to entry {index} of its memo, which it never made")
        self.push(self.memo[index])


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
    "MARK": _Machine.mark,
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
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "BINPERSID": _Machine.persistent,
    "GLOBAL": _Machine.global_,
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.newobj,
    # What Python writes where a file was saved with a later protocol of pickle.
    "NEWOBJ_EX": _Machine.newobj_ex,
    "EMPTY_SET": lambda m, _: m.push(Result(_SET, ([],))),
    "ADDITEMS": lambda m, _: m.added(),
    "FROZENSET": lambda m, _: m.push(Result(_FROZENSET, (m.marked(),))),
    "BUILD": _Machine.build,
}


class _Bounded:
    """A file of which no more than `limits.header_bytes` are read; what `pickletools` asks of one."""

    def __init__(self, file: BinaryIO, source: str, limits: Limits) -> None:
        self.file, self.source, self.limits = file, source, limits
        self.room = limits.header_bytes

    def read(self, count: int) -> bytes:
        return self._counted(self.file.read(min(count, self.room + 1)))

    def readline(self) -> bytes:
        return self._counted(self.file.readline(self.room + 1))

    def _counted(self, data: bytes) -> bytes:
        self.room -= len(data)
        if self.room < 0:
            self.limits.check("header_bytes", self.limits.header_bytes - self.room, f"{self.source}, its pickle")
        return data


def read_symbolically(data: bytes, source: str, limits: Limits = DEFAULT) -> tuple[Any, tuple[Global, ...]]:
    """What a pickle would build, and every name it asks for.

    Args:
        data: the pickle and nothing else.
        source: the file, for messages.
        limits: how many bytes and opcodes there may be.

    Raises:
        ForeignPickleError: it uses an opcode, or a way to build things, that torch.save never does.
        RefusedError: it asks for too much.
        ModelError: it is truncated, malformed, or followed by something else.
    """
    limits.check("header_bytes", len(data), f"{source}, its pickle")
    file = io.BytesIO(data)
    found = _read(file, source, limits)
    if file.tell() < len(data):
        raise ModelError(f"{source}: {len(data) - file.tell():,} bytes follow the end of the pickle inside")
    return found


def read_next(file: BinaryIO, source: str, limits: Limits = DEFAULT) -> tuple[Any, tuple[Global, ...]]:
    """The same for the pickle that begins where `file` stands; leaves it standing behind that.

    Raises:
        ForeignPickleError: as above.
        RefusedError: as above.
        ModelError: it is truncated or malformed.
    """
    return _read(cast("BinaryIO", _Bounded(file, source, limits)), source, limits)


def _read(file: BinaryIO, source: str, limits: Limits) -> tuple[Any, tuple[Global, ...]]:
    machine = _Machine(source)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file), 1):
            handler = OPCODES.get(opcode.name)
            if handler is None:
                raise ForeignPickleError(
                    f"{source}: the pickle uses the opcode {opcode.name}, which torch.save never writes"
                )
            if count > limits.opcodes:
                limits.check("opcodes", count, f"{source}, its pickle")
            handler(machine, argument)
        result = machine.stack.pop()
        if machine.stack or machine.below:
            raise ModelError(f"{source}: the pickle inside ends in the middle of something; it is damaged")
        return result, tuple(machine.names)
    except (IndexError, KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ModelError(f"{source}: the pickle inside is damaged ({error})") from error
