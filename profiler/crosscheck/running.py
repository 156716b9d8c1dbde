"""Which modules are running, by the rules of torch.utils.module_tracker, which torch's counter books by.

The tracker itself cannot be used below autograd, where it looks for the gradients of a module's inputs.
"""

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook


class Running:
    """Names of the modules of a tree that are running, "" for the outermost, which always is.

    A module that hangs in several places goes by the last of them, and what is below it by the first. One that calls
    itself is left when the inner call returns.

    Attributes:
        names: of the modules that are running.
        open: modules entered and not left; an exception that the model catches leaves some for good.
    """

    def __init__(self, model: nn.Module) -> None:
        self.restart()
        self._paths: dict[nn.Module, str] = {}
        self._name(model, "", set())
        self._hooks = ExitStack()

    def restart(self) -> None:
        """The model is called anew."""
        self.names = {""}
        self.open = 0

    def _name(self, module: nn.Module, path: str, seen: set[nn.Module]) -> None:
        if module in seen:
            return
        for key, child in module.named_children():
            self._paths[child] = f"{path}.{key}" if path else key
            self._name(child, self._paths[child], seen)
        seen.add(module)

    def _enter(self, module: nn.Module, _inputs: object) -> None:
        if module in self._paths:
            self.names.add(self._paths[module])
            self.open += 1

    def _leave(self, module: nn.Module, _inputs: object, _outputs: object) -> None:
        if module in self._paths:
            self.names.discard(self._paths[module])
            self.open -= 1

    def __enter__(self) -> Self:
        self._hooks.callback(register_module_forward_pre_hook(self._enter).remove)
        self._hooks.callback(register_module_forward_hook(self._leave).remove)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.close()
