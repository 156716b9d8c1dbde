"""The module tree with sums, from the paths of the nodes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from profiler.profile import Layer, ModuleSum


@dataclass(slots=True)
class _Module:
    type: str = ""
    sums: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    children: dict[str, "_Module"] = field(default_factory=dict)


def module_tree(
    layers: Sequence[Layer], paths: Sequence[tuple[str, ...]], classes: Mapping[str, str], graph: str
) -> ModuleSum:
    """Sums of every module and what is below it.

    Args:
        layers: the rows.
        paths: for each row the names of the modules from below the root down to its own.
        classes: class of each module, where it is known.
        graph: name of the graph, for the root where its class is not known.
    """
    root = _Module(classes.get("", graph or "Graph"))
    for layer, path in zip(layers, paths, strict=True):
        module = root
        _add(module, layer)
        for name in path:
            module = module.children.setdefault(name, _Module(classes.get(name, "")))
            _add(module, layer)
        if path and not module.type:
            module.type = layer.type
    return _frozen("", root)


def _add(module: _Module, layer: Layer) -> None:
    for n, amount in enumerate((layer.macs, layer.flops, layer.params, layer.param_bytes)):
        module.sums[n] += amount


def _frozen(name: str, module: _Module) -> ModuleSum:
    children = tuple(_frozen(child, below) for child, below in module.children.items())
    macs, flops, params, size = module.sums
    return ModuleSum(name, module.type, macs, flops, params, size, children)
