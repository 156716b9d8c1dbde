"""Sizes that a torch.export program leaves free: what an expression comes to, and what a size given says of a symbol.

torch reads these expressions with sympy, which evaluates them as Python. Here only numbers, symbols and the arithmetic
below are known; everything else in their place is an error.
"""

import ast
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod

from profiler.errors import ModelError
from profiler.sources.program_schema import Expression

MOST = 1 << 62
Size = int | Expression


class _Unknown(Exception):  # noqa: N818  # an error only where the caller says so
    """The expression has a symbol without a value, or something in it is not known."""


def _divided(a: int, b: int) -> int:
    return _no_zero(b) and a // b


def _up(a: int, b: int) -> int:
    return _no_zero(b) and -(-a // b)


def _rest(a: int, b: int) -> int:
    return _no_zero(b) and a % b


def _no_zero(b: int) -> int:
    if b == 0:
        raise _Unknown("a division by zero")
    return b


def _power(a: int, b: int) -> int:
    if not 0 <= b <= 64:
        raise _Unknown("a power out of range")
    return int(a**b)


def _sum(*values: int) -> int:
    return sum(values)


def _product(*values: int) -> int:
    return prod(values)


_FUNCTIONS: dict[str, Callable[..., int]] = {
    "Integer": int, "Add": _sum, "Mul": _product, "Pow": _power, "PowByNatural": _power, "FloorDiv": _divided,
    "CleanDiv": _divided, "IntTrueDiv": _divided, "CeilDiv": _up, "Mod": _rest, "PythonMod": _rest, "Max": max,
    "Min": min, "Identity": int,
}  # fmt: skip
_BINARY: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: _divided,
    ast.Mod: _rest,
    ast.Pow: _power,
}


def value_of(size: Size, symbols: Mapping[str, int], source: str) -> int | None:
    """What a size comes to, None where a symbol in it has no value.

    Raises:
        ModelError: it is written in a way that is not known, or comes to no size.
    """
    if isinstance(size, int):
        return size
    tree = _parsed(size.text, source)
    if not set(_symbols(tree)) <= symbols.keys():
        return None
    try:
        found = _value(tree, symbols)
    except (_Unknown, TypeError, ValueError, RecursionError) as error:
        raise ModelError(f"{source}: the size {size.text[:100]!r} cannot be computed ({error})") from error
    if found < 0:
        raise ModelError(f"{source}: the size {size.text[:100]!r} comes to {found}")
    return found


def symbols_of(size: Size, source: str) -> tuple[str, ...]:
    """Symbols in a size, each once, in order.

    Raises:
        ModelError: it is written in a way that is not known.
    """
    return () if isinstance(size, int) else tuple(dict.fromkeys(_symbols(_parsed(size.text, source))))


def solved(pairs: Sequence[tuple[Size, int]], source: str) -> dict[str, int]:
    """Values of symbols, from sizes and what they come to: symbols that stand alone, then `a * s + b`.

    Raises:
        ModelError: a size is written in a way that is not known.
    """
    found: dict[str, int] = {}
    free = [(size, value) for size, value in pairs if not isinstance(size, int)]
    for alone in (True, False):
        for size, value in free:
            names = symbols_of(size, source)
            if len(names) != 1 or names[0] in found:
                continue
            root = _root(size, names[0], value, source)
            if root is not None and (not alone or root == value):
                found[names[0]] = root
    return found


def _root(size: Expression, name: str, value: int, source: str) -> int | None:
    """The symbol's value where the size is `a * s + b`, None where it is not or that is no whole number."""
    try:
        tree = _parsed(size.text, source)
        base, step = _value(tree, {name: 0}), _value(tree, {name: 1}) - _value(tree, {name: 0})
        root = (value - base) // step if step else None
        return root if root is not None and _value(tree, {name: root}) == value else None
    except (_Unknown, TypeError, ValueError, RecursionError):
        return None


def _parsed(text: str, source: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body  # its length is within a limit
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ModelError(f"{source}: the size {text[:100]!r} is no expression") from error


def _symbol(node: ast.AST) -> str | None:
    """The symbol that a node is: `Symbol('s0', ...)`, as torch 2.13 writes it, or plain `s0`."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Call) and _called(node) == "Symbol" and len(node.args) == 1:
        (name,) = node.args
        text = name.value if isinstance(name, ast.Constant) else None
        return text if isinstance(text, str) and text.isidentifier() else None
    return None


def _called(node: ast.Call) -> str:
    function = node.func
    return (
        function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    )


def _symbols(node: ast.expr) -> Iterator[str]:
    pending = [node]
    while pending:
        inner = pending.pop()
        name = _symbol(inner)
        if name is not None:
            yield name
        elif isinstance(inner, ast.Call):
            pending += reversed(inner.args)
        elif isinstance(inner, ast.BinOp):
            pending += [inner.right, inner.left]
        elif isinstance(inner, ast.UnaryOp):
            pending.append(inner.operand)


def _value(node: ast.expr, symbols: Mapping[str, int]) -> int:
    name = _symbol(node)
    if name is not None:
        if name not in symbols:
            raise _Unknown(f"{name} has no value")
        return symbols[name]
    if isinstance(node, ast.Constant) and type(node.value) is int:
        found = node.value
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        found = -_value(node.operand, symbols)
    elif isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        found = _BINARY[type(node.op)](_value(node.left, symbols), _value(node.right, symbols))
    elif isinstance(node, ast.Call) and _called(node) in _FUNCTIONS:
        found = _FUNCTIONS[_called(node)](*(_value(a, symbols) for a in node.args))
    else:
        raise _Unknown(f"{ast.unparse(node)[:40]} is not known")
    if abs(found) > MOST:
        raise _Unknown("too large")
    return found
