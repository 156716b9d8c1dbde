"""What hangs in a model: its modules by path and its parameters, each once.

The same as `named_modules()` and `parameters()` without their nested generators, which take longer than a walk.
"""

from collections.abc import Iterable, Iterator

from torch import nn


def modules_by_path(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every module with its path, parents first; one that hangs in several places only where it comes first."""
    found: list[tuple[str, nn.Module]] = []
    seen: set[int] = set()

    def descend(module: nn.Module, path: str) -> None:
        seen.add(id(module))
        found.append((path, module))
        for name, child in module._modules.items():  # noqa: SLF001  # what named_modules() reads
            if child is not None and id(child) not in seen:
                descend(child, f"{path}.{name}" if path else name)

    descend(model, "")
    return found


def own_parameters(module: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters of a module itself, those of its submodules left out."""
    return (p for p in module._parameters.values() if p is not None)  # noqa: SLF001  # what parameters() reads


def unique_parameters(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    """The parameters of all these modules, each object once, in order."""
    return list({id(p): p for module in modules for p in own_parameters(module)}.values())
