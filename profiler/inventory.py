"""What hangs in a model: its modules by path and its parameters, each once.

The same as `named_modules()` and `parameters()` without their nested generators, which take longer than a walk.
"""

from dataclasses import dataclass

from torch import nn
from torch.nn.parameter import UninitializedParameter

from profiler.compiled import WRAPPED, as_written
from profiler.memory import storage_key

_WITHOUT_SIZE: type = UninitializedParameter


@dataclass(frozen=True, slots=True)
class Inventory:
    """A model's modules and parameters at one moment.

    Attributes:
        modules: every module, parents first; one that hangs in several places only where it comes first.
        paths: their paths from the root.
        parents: for each the position of its parent, -1 for the model itself.
        own: for each its own parameters, those of its submodules and those without a size yet left out.
        parameters: every parameter object once, in order, by identity.
        stored: by storage, the first parameter that lies in it: tied parameters once.
        compiled: whether one of the modules hangs in what torch.compile wrapped around it.
    """

    modules: list[nn.Module]
    paths: list[str]
    parents: list[int]
    own: list[list[nn.Parameter]]
    parameters: dict[int, nn.Parameter]
    stored: dict[int, nn.Parameter]
    compiled: bool

    @property
    def tied(self) -> bool:
        """Whether a parameter hangs in several places, or several lie in one storage."""
        return sum([len(own) for own in self.own]) != len(self.stored)


def take_inventory(model: nn.Module) -> Inventory:
    """The modules and parameters of a model."""
    modules: list[nn.Module] = []
    paths: list[str] = []
    parents: list[int] = []
    own: list[list[nn.Parameter]] = []
    seen: set[int] = set()
    compiled = False

    def descend(module: nn.Module, path: str, parent: int) -> None:
        below = module._modules  # noqa: SLF001  # what named_modules() reads
        if below and WRAPPED in below:
            nonlocal compiled
            compiled = True
            inner = as_written(module)
            if inner is not module:
                if id(inner) not in seen:
                    descend(inner, path, parent)
                return
        here = len(modules)
        seen.add(id(module))
        modules.append(module)
        paths.append(path)
        parents.append(parent)
        found = module._parameters  # noqa: SLF001  # what parameters() reads
        mine = [p for p in found.values() if p is not None and type(p) is not _WITHOUT_SIZE] if found else []
        own.append(mine)
        if below:
            start = f"{path}." if path else ""
            for name, child in below.items():
                if child is not None and id(child) not in seen:
                    descend(child, start + name, here)

    descend(as_written(model), "", -1)
    unique = {id(parameter): parameter for mine in own for parameter in mine}
    stored: dict[int, nn.Parameter] = {}
    for parameter in unique.values():
        stored.setdefault(storage_key(parameter), parameter)
    return Inventory(modules, paths, parents, own, unique, stored, compiled)


def modules_by_path(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every module with its path, parents first; one that hangs in several places only where it comes first."""
    inventory = take_inventory(model)
    return list(zip(inventory.paths, inventory.modules, strict=True))


def size_of(parameters: list[nn.Parameter]) -> tuple[int, int]:
    """Elements and bytes of parameters."""
    return sum([p.numel() for p in parameters]), sum([p.nbytes for p in parameters])
