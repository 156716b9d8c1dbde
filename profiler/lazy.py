"""Lazy layers, which take their sizes from the first inputs they see: found out on a copy without storage."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_map

from profiler.errors import ModelError
from profiler.inventory import Inventory

META = torch.device("meta")


def lazy_layers(inventory: Inventory) -> list[str]:
    """Paths of the layers whose sizes are not known yet."""
    lazy = {kind for kind in {type(module) for module in inventory.modules} if issubclass(kind, LazyModuleMixin)}
    if not lazy:
        return []
    return [p for p, m in zip(inventory.paths, inventory.modules, strict=True) if type(m) in lazy]


def initialized(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> nn.Module:
    """A copy of a model, without storage, whose lazy layers have the sizes that these inputs give them.

    Args:
        model: left as it is.
        args: tensors, or nests of them.
        kwargs: the same by name.

    Raises:
        ModelError: it cannot be copied, or it does not run without values.
    """
    try:
        copy = deepcopy(model, {id(t): _without_storage(t) for t in (*model.parameters(), *model.buffers())})
        given, named = tree_map(lambda v: v.to(META) if isinstance(v, torch.Tensor) else v, (list(args), dict(kwargs)))
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            copy(*given, **named)
    except Exception as error:
        raise ModelError(
            f"the model has lazy layers, and these inputs do not tell their sizes "
            f"({type(error).__name__}: {str(error).strip().partition(chr(10))[0]}); call it once on real inputs before"
        ) from error
    return copy


def _without_storage(tensor: torch.Tensor) -> torch.Tensor:
    if is_lazy(tensor):
        kind: Any = type(tensor)
        made: torch.Tensor = kind(requires_grad=tensor.requires_grad, device=META, dtype=tensor.dtype)
        return made
    hollow = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=META)
    return nn.Parameter(hollow, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else hollow
