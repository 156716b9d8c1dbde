"""What a module's forward takes, by name."""

import inspect
from collections.abc import Mapping

from torch import nn


def parameters_of(module: nn.Module) -> Mapping[str, inspect.Parameter]:
    """The parameters of a module's forward; those of TorchScript, which Python cannot inspect, from its schema."""
    schema = getattr(module.forward, "schema", None)
    if schema is None:
        return inspect.signature(module.forward).parameters
    taken = [argument for argument in schema.arguments if argument.name != "self"]
    return {
        a.name: inspect.Parameter(
            a.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=a.default_value if a.has_default_value() else inspect.Parameter.empty,
        )
        for a in taken
    }
