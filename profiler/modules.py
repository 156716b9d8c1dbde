"""The module tree with sums."""

from collections.abc import Iterable

from profiler.inventory import Inventory, size_of
from profiler.memory import storage_key
from profiler.profile import Layer, ModuleSum


def module_tree(inventory: Inventory, layers: Iterable[Layer]) -> ModuleSum:
    """Sums of every module and what is below it.

    A module that hangs in several places is shown where it comes first. Parameters are counted once in each sum, also
    where they are tied.
    """
    modules, paths, parents = inventory.modules, inventory.paths, inventory.parents
    at = {path: n for n, path in enumerate(paths)}
    macs, flops = [0] * len(paths), [0] * len(paths)
    for layer in layers:
        n = at[layer.name]
        macs[n] += layer.macs
        flops[n] += layer.flops
    sizes = _sizes_with_ties(inventory) if inventory.tied else _sizes(inventory)
    children: list[list[ModuleSum]] = [[] for _ in paths]
    for n in range(len(paths) - 1, 0, -1):  # children come after their parents
        above = parents[n]
        macs[above] += macs[n]
        flops[above] += flops[n]
        below = tuple(reversed(children[n])) if children[n] else ()
        children[above].append(ModuleSum(paths[n], type(modules[n]).__name__, macs[n], flops[n], *sizes[n], below))
    return ModuleSum("", type(modules[0]).__name__, macs[0], flops[0], *sizes[0], tuple(reversed(children[0])))


def _sizes(inventory: Inventory) -> list[tuple[int, int]]:
    """Elements and bytes of the parameters in and below each module."""
    sizes = [size_of(own) if own else (0, 0) for own in inventory.own]
    for n in range(len(sizes) - 1, 0, -1):
        parent = inventory.parents[n]
        sizes[parent] = (sizes[parent][0] + sizes[n][0], sizes[parent][1] + sizes[n][1])
    return sizes


def _sizes_with_ties(inventory: Inventory) -> list[tuple[int, int]]:
    inside = [{storage_key(p): None for p in own} for own in inventory.own]
    for n in range(len(inside) - 1, 0, -1):
        inside[inventory.parents[n]].update(inside[n])
    return [size_of([inventory.stored[key] for key in keys]) for keys in inside]
