"""What a module's forward takes, by name."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


def parameters_of(module: nn.Module) -> Mapping[str, inspect.Parameter]:
    """The parameters of a module's forward; those of TorchScript, which Python cannot inspect, from its schema."""
    if not isinstance(module, torch.jit.ScriptModule):
        return inspect.signature(module.forward).parameters
    forward: Any = module.forward
    taken = [argument for argument in forward.schema.arguments if argument.name != "self"]
    return {
        a.name: inspect.Parameter(
            a.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=a.default_value if a.has_default_value() else inspect.Parameter.empty,
        )
        for a in taken
    }
