"""The module tree with sums."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from profiler.inventory import Inventory, size_of
from profiler.memory import storage_key
from profiler.profile import Layer, ModuleSum

if TYPE_CHECKING:
    from torch import nn


def module_tree(inventory: Inventory, layers: Iterable[Layer]) -> ModuleSum:
    """Sums of every module and what is below it.

    A module that hangs in several places is shown where it comes first. Parameters are counted once in each sum, also
    where they are tied.
    """
    count = len(inventory.modules)
    macs, flops = dict.fromkeys(inventory.paths, 0), dict.fromkeys(inventory.paths, 0)
    for layer in layers:
        macs[layer.name] += layer.macs
        flops[layer.name] += layer.flops
    sizes = _sizes_with_ties(inventory) if inventory.tied else _sizes(inventory)
    children: list[list[ModuleSum]] = [[] for _ in range(count)]
    for n in range(count - 1, -1, -1):  # children come after their parents
        below = children[n][::-1]
        path = inventory.paths[n]
        summed = ModuleSum(
            name=path,
            type=type(inventory.modules[n]).__name__,
            macs=macs[path] + sum([child.macs for child in below]),
            flops=flops[path] + sum([child.flops for child in below]),
            params=sizes[n][0],
            param_bytes=sizes[n][1],
            children=tuple(below),
        )
        if n:
            children[inventory.parents[n]].append(summed)
    return summed


def _sizes(inventory: Inventory) -> list[tuple[int, int]]:
    """Elements and bytes of the parameters in and below each module."""
    sizes = [size_of(own) if own else (0, 0) for own in inventory.own]
    for n in range(len(sizes) - 1, 0, -1):
        parent = inventory.parents[n]
        sizes[parent] = (sizes[parent][0] + sizes[n][0], sizes[parent][1] + sizes[n][1])
    return sizes


def _sizes_with_ties(inventory: Inventory) -> list[tuple[int, int]]:
    stored: list[dict[int, nn.Parameter]] = [{storage_key(p): p for p in own} for own in inventory.own]
    for n in range(len(stored) - 1, 0, -1):
        stored[inventory.parents[n]].update(stored[n])
    return [size_of(list(found.values())) for found in stored]
