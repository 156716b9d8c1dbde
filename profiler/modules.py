"""The module tree with sums."""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import nn

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

    def build(module: nn.Module, name: str) -> ModuleSum:
        seen.add(id(module))
        children = tuple(
            build(child, f"{name}.{key}" if name else key)
            for key, child in module.named_children()
            if id(child) not in seen
        )
        parameters = list(_unique(module.parameters()))
        return ModuleSum(
            name=name,
            type=type(module).__name__,
            macs=macs[name] + sum(child.macs for child in children),
            flops=flops[name] + sum(child.flops for child in children),
            params=sum(p.numel() for p in parameters),
            param_bytes=sum(p.numel() * p.element_size() for p in parameters),
            children=children,
        )

    return build(model, "")


def _unique(parameters: Iterable[nn.Parameter]) -> Iterable[torch.Tensor]:
    return {storage_key(p): p for p in parameters}.values()
