"""The module tree with sums."""

from collections import defaultdict
from collections.abc import Iterable

from torch import nn

from profiler.inventory import own_parameters
from profiler.memory import storage_key
from profiler.profile import Layer, ModuleSum


def module_tree(model: nn.Module, layers: Iterable[Layer]) -> ModuleSum:
    """Sums of every module and what is below it.

    A module that hangs in several places is shown where it comes first. Parameters are counted once in each sum, also
    where they are tied.
    """
    macs: defaultdict[str, int] = defaultdict(int)
    flops: defaultdict[str, int] = defaultdict(int)
    for layer in layers:
        macs[layer.name] += layer.macs
        flops[layer.name] += layer.flops
    seen: set[int] = set()

    def build(module: nn.Module, name: str) -> tuple[ModuleSum, dict[int, tuple[int, int]]]:
        seen.add(id(module))
        stored = {storage_key(p): (p.numel(), p.nbytes) for p in own_parameters(module)}
        children = []
        for key, child in module._modules.items():  # noqa: SLF001  # what named_children() reads
            if child is not None and id(child) not in seen:
                below, inside = build(child, f"{name}.{key}" if name else key)
                children.append(below)
                stored.update(inside)
        summed = ModuleSum(
            name=name,
            type=type(module).__name__,
            macs=macs[name] + sum([child.macs for child in children]),
            flops=flops[name] + sum([child.flops for child in children]),
            params=sum([count for count, _ in stored.values()]),
            param_bytes=sum([size for _, size in stored.values()]),
            children=tuple(children),
        )
        return summed, stored

    return build(model, "")[0]
