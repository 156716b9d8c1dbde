"""Which module call a backward operator belongs to.

Autograd numbers its nodes in the order in which the forward pass makes them. The module at the top of the stack changes
only where a module is entered or left, so that the number reached at each such moment says who made which nodes.
"""

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import get_ident

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from profiler.inventory import modules_by_path
from profiler.step import ModuleCall


def _reached() -> int:
    """The number that autograd will give to the next node."""
    return int(torch._C._autograd._get_sequence_nr())  # noqa: SLF001  # pinned by a test


def _current_node() -> torch.autograd.graph.Node | None:
    """The autograd node that is being evaluated; None outside a backward pass."""
    node: torch.autograd.graph.Node | None = torch._C._current_autograd_node()  # noqa: SLF001  # pinned by a test
    return node


class Attribution:
    """Follows the modules through the forward pass and finds the owners of nodes in the backward pass."""

    def __init__(self, model: nn.Module) -> None:
        self._names = {id(module): name for name, module in modules_by_path(model)}
        self._root = ModuleCall("", type(model).__name__, 0)
        self._calls: dict[int, int] = {}
        self._stack: list[tuple[int, ModuleCall]] = []
        self._ends: list[int] = []
        self._owners: list[ModuleCall] = []
        self._last = self._root
        self._forward: dict[int, int] | None = None
        self._failed: ModuleCall | None = None
        self._thread = get_ident()

    @contextmanager
    def following(self) -> Iterator[None]:
        """Follow the modules, also where they raise, by hooks for all modules; the model's own stay as they are."""
        with ExitStack() as stack:
            stack.callback(register_module_forward_pre_hook(self._enter).remove)
            stack.callback(register_module_forward_hook(self._leave, always_call=True).remove)
            yield

    # Forward -----------------------------------------------------------------------------------------------------

    def _enter(self, module: nn.Module, _inputs: object) -> None:
        """A module is called. One that is not part of the tree counts as its caller."""
        if get_ident() != self._thread:
            return
        self._failed = None
        key = id(module)
        name = self._names.get(key)
        if name is not None:
            self._mark()
            self._stack.append((key, ModuleCall(name, type(module).__name__, self._number(key))))

    def _leave(self, module: nn.Module, _inputs: object, outputs: object) -> None:
        """A module returns; nothing, perhaps because it raised."""
        if get_ident() != self._thread:
            return
        if outputs is None and self._failed is None:
            self._failed = self.here
        if self._stack and self._stack[-1][0] == id(module):
            self._mark()
            self._stack.pop()

    def _number(self, key: int) -> int:
        """How often the module had been called before.

        In the backward pass checkpoints run modules again, the last call first.
        """
        count = self._calls.get(key, 0)
        self._calls[key] = count + 1
        if self._forward is None:
            return count
        before = self._forward.get(key, 0)
        return (before - 1 - (count - before)) % before if before else count

    def _mark(self) -> None:
        """Nodes made since the last mark belong to whoever has been running since."""
        reached = _reached()
        if not self._ends or reached > self._ends[-1]:
            self._ends.append(reached)
            self._owners.append(self.here)

    # Backward ----------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """The forward pass is over."""
        self._mark()
        self._stack.clear()
        self._forward = dict(self._calls)

    @property
    def here(self) -> ModuleCall:
        """The module call that is running; in the backward pass the one that made the node that is running."""
        if self._stack:
            return self._stack[-1][1]
        node = _current_node()
        if node is not None:
            at = bisect_right(self._ends, node._sequence_nr())  # noqa: SLF001  # the only way to a node's number
            if at < len(self._owners):
                self._last = self._owners[at]
        # A leaf's node has no place in the order. It runs right after the one that brought the leaf a gradient.
        return self._last

    @property
    def where(self) -> str:
        """The innermost module that is running or was left by an exception, for messages."""
        call = self._failed or self.here
        return f"{call.name} ({call.type})" if call.name else f"the model itself ({call.type})"
