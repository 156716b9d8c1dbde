"""Builds a module from the symbolic tree that `checkpoint.check_module` has passed.

No unpickler sees the file: what was checked is what is built, so the two cannot understand it differently. Instances
are made as unpickling makes them, bare and then given their state; nothing is called but what stands here.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from profiler.errors import ModelError, RefusedError
from profiler.sources.checkpoint import FUNCTIONS, ORDERED, PARAMETER, SETS, SIZE, stock_classes
from profiler.sources.described import pairs
from profiler.sources.layouts import layout_of, sizes
from profiler.sources.opcodes import Global, Instance, Result
from profiler.sources.stored import Reader, Stored


def build_module(stored: Stored) -> nn.Module:
    """The module that a checked file holds, in evaluation mode.

    Raises:
        ModelError: its parts do not make a module.
        RefusedError: it holds something that no module of torch.nn has.
    """
    try:
        module = _Builder(stored).value(stored.tree, 0)
        if not isinstance(module, nn.Module):
            raise ModelError(f"{stored.path}: holds a {type(module).__name__}, no module")
        return module.eval()
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError, IndexError) as error:
        raise ModelError(f"{stored.path}: its parts make no module ({type(error).__name__}: {error})") from error


_MOST_HEIGHT = 8
# What a module's dictionaries may hold beside None.
_HELD = {"_modules": nn.Module, "_parameters": torch.Tensor, "_buffers": torch.Tensor}


class _Builder:
    """Nodes to values, each node once: what was shared stays shared."""

    def __init__(self, stored: Stored) -> None:
        self.stored = stored
        self.reader = Reader(stored)
        self.made: dict[int, Any] = {}
        self.heights: dict[int, int] = {}

    def value(self, node: Any, depth: int) -> Any:  # noqa: ANN401  # what a module is made of
        self.stored.limits.check("nesting", depth, str(self.stored.path))
        if isinstance(node, str | bytes | int | float | None):
            return node
        if id(node) in self.made:
            return self.made[id(node)]
        maker = _MAKERS.get(type(node))
        return self.refused(type(node).__name__) if maker is None else maker(self, node, depth)

    def tuple_(self, node: tuple[Any, ...], depth: int) -> tuple[Any, ...]:
        made = self.made[id(node)] = tuple(self.value(item, depth + 1) for item in node)
        self.measure(node, node)
        return made

    # What can hold itself is entered before it is filled.
    def list_(self, node: list[Any], depth: int) -> list[Any]:
        made = self.made[id(node)] = []
        made += [self.value(item, depth + 1) for item in node]
        self.measure(node, node)
        return made

    def measure(self, node: Any, parts: Iterable[Any]) -> None:  # noqa: ANN401  # a container
        """Refuse containers deep inside each other: sixty of them can be made to print for ever."""
        height = 1 + max((self.heights.get(id(part), 0) for part in parts), default=0)
        self.heights[id(node)] = height
        if height > _MOST_HEIGHT:
            self.refused(f"containers more than {_MOST_HEIGHT} deep")

    def dict_(self, node: dict[Any, Any], depth: int) -> dict[Any, Any]:
        made = self.made[id(node)] = {}
        self.filled(made, node.items(), depth)
        self.measure(node, node.values())
        return made

    def global_(self, node: Global, _depth: int) -> Any:  # noqa: ANN401  # a function or a type
        return FUNCTIONS[node] if node in FUNCTIONS else self.refused(str(node))

    def filled(self, table: dict[Any, Any], items: Iterable[tuple[Any, Any]], depth: int) -> dict[Any, Any]:
        for key, below in items:
            if not isinstance(key, str | int):
                self.refused(f"a {type(key).__name__} as a key")
            table[key] = self.value(below, depth + 1)
        return table

    def instance(self, node: Instance, depth: int) -> nn.Module:
        kind = stock_classes()[node.kind]
        module = self.made[id(node)] = kind.__new__(kind)
        state = self.value(node.state, depth + 1)
        for name, held in _HELD.items():
            inside = state.get(name, {})
            if not isinstance(inside, Mapping) or not all(v is None or isinstance(v, held) for v in inside.values()):
                self.refused(f"an instance of {node.kind} with odd {name}")
        module.__setstate__(state)  # type: ignore[no-untyped-call]
        return module

    def result(self, node: Result, depth: int) -> Any:  # noqa: ANN401  # as above
        made = self.made[id(node)] = self.called(node, depth)
        return made

    def called(self, node: Result, depth: int) -> Any:  # noqa: ANN401  # as above
        if node.function == ORDERED:
            items = [*pairs(node), *node.items.items()]
            made = self.filled(OrderedDict(), items, depth)
            self.measure(node, [value for _, value in items])
            return made
        if node.function == PARAMETER:
            return nn.Parameter(self.value(node.args[0], depth + 1), requires_grad=bool(node.args[1]))
        if node.function in SETS:
            held = self.value(node.args[0], depth + 1) if node.args else ()
            # Hashing tuples inside tuples can be made to take for ever.
            return set(held) if all(isinstance(i, str | int) for i in held) else self.refused("a set of other things")
        if node.function == SIZE:
            return torch.Size(sizes(node))
        layout = layout_of(node, "", str(self.stored.path))
        return self.refused(str(node.function)) if layout is None else self.reader.read(layout)

    def refused(self, what: str) -> Any:  # noqa: ANN401  # never returns
        raise RefusedError(f"{self.stored.path}: holds {what}, which no module of torch.nn does; refused")


_MAKERS: dict[type, Callable[[_Builder, Any, int], Any]] = {
    tuple: _Builder.tuple_,
    list: _Builder.list_,
    dict: _Builder.dict_,
    Instance: _Builder.instance,
    Result: _Builder.result,
    Global: _Builder.global_,
}
