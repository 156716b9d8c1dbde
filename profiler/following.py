"""Which module call is running: the walk's account of where it is."""

from collections.abc import Callable
from sys import _getframe
from threading import get_ident
from typing import TYPE_CHECKING, Any

from torch import nn

from profiler.step import ModuleCall
from profiler.undisturbed import CALLERS

if TYPE_CHECKING:
    from profiler.known import Known


class Following:
    """Follows the calls of a model's modules in the thread that made it.

    Args:
        kind: class of the model.
    """

    def __init__(self, kind: str) -> None:
        self._last: Known | None = None
        self._thread = get_ident()
        self._root = ModuleCall("", kind, 0)
        self._stack: list[ModuleCall] = []
        self._failure: BaseException | None = None
        self._failed_in = ""

    def followed(self, module: nn.Module, name: str) -> Callable[..., Any]:
        """What takes the place of a module's forward: runs it, and keeps account of where the walk is."""
        forward, kind, stack, thread = module.forward, type(module).__name__, self._stack, self._thread
        calls, hooked = 0, bool(module._forward_hooks)  # noqa: SLF001  # hooks have no public name

        def followed_forward(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # what the module takes
            nonlocal calls
            if get_ident() != thread or id(_getframe(1).f_code) not in CALLERS:
                return forward(*args, **kwargs)
            stack.append(ModuleCall(name, kind, calls))
            calls += 1
            try:
                return forward(*args, **kwargs)
            except BaseException as error:
                if error is not self._failure:
                    self._failure, self._failed_in = error, self.where
                raise
            finally:
                if not hooked:
                    stack.pop()

        return followed_forward

    def ended(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """What takes the place of the call of a module with hooks: what they do with its result is its own work."""

        def ended_call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # what the module takes
            depth = len(self._stack)
            try:
                return call(*args, **kwargs)
            finally:
                if get_ident() == self._thread:
                    del self._stack[depth:]

        return ended_call

    def place_of(self, failure: BaseException) -> str:
        """The innermost module and the operator that an exception came out of, for messages."""
        return self._failed_in if failure is self._failure else self.where

    @property
    def where(self) -> str:
        """The innermost module that is running and its operator, for messages."""
        module = self._stack[-1] if self._stack else self._root
        place = f"{module.name} ({module.type})" if module.name else f"the model itself ({module.type})"
        return f"{place}, {self._last.schema.packet}" if self._last else place
