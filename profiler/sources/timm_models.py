"""`timm:NAME`: the networks of timm's registry, on the size of picture that timm's configuration gives."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from profiler.errors import ModelError
from profiler.sources.limits import DEFAULT, Limits
from profiler.sources.named import built, package, refuse_arguments, unknown
from profiler.sources.opened import ExampleInputs, OpenedModel

# Arguments of timm's by which weights would come in.
_REFUSED = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir")


def open_timm(
    name: str,
    *,
    weights: str | Path | None = None,
    kwargs: Mapping[str, Any] | None = None,
    trust: bool = False,  # noqa: ARG001  # an opener; nothing of the zoo's asks for it
    limits: Limits = DEFAULT,
) -> OpenedModel:
    """Build a network of timm's registry.

    Args:
        name: with or without the tag of its weights, which sets the size of the picture.
        weights: a state dict that will be loaded, for which the network needs storage.
        kwargs: arguments for timm's builder, such as num_classes or in_chans.
        trust: makes no difference here.
        limits: how many parameters it may have, as tensors.

    Raises:
        UnavailableError: timm is not installed, or cannot be imported.
        ModelError: no such name, or it cannot be built.
    """
    target, kwargs = f"timm:{name}", dict(kwargs or {})
    timm = package("timm", target)
    refuse_arguments(target, kwargs, _REFUSED)
    if not name or not timm.is_model(name):
        raise unknown(target, name.partition(".")[0], timm.list_models(), "timm")
    build = partial(timm.create_model, name, pretrained=False, **kwargs)
    module, notes = built(target, build, limits=limits, stored=weights is not None)
    size = input_size(module, kwargs)
    if size is None:
        return OpenedModel(target, "module", module=module, notes=notes)
    channels, height, width = size
    fixed = " only" if configuration(module).get("fixed_input_size") else ""

    def inputs(dims: Mapping[str, int]) -> ExampleInputs:
        chosen = {"batch": 1, "height": height, "width": width, **dims}
        shape = (chosen["batch"], channels, chosen["height"], chosen["width"])
        written = "x".join(map(str, shape))
        source = (
            f"; timm's configuration has {channels}x{height}x{width}{fixed}" if dims else " from timm's configuration"
        )
        return ExampleInputs((torch.empty(shape, device="meta"),), note=f"input {written}{source}")

    dims = {"batch": 1, "height": height, "width": width}
    return OpenedModel(target, "module", module=module, notes=notes, inputs=inputs, dims=dims)


def configuration(module: nn.Module) -> Mapping[str, Any]:
    """What timm says of a network that it has built: `pretrained_cfg`, or `default_cfg` in older releases."""
    for name in ("pretrained_cfg", "default_cfg"):
        found = getattr(module, name, None)
        if isinstance(found, Mapping):
            return found
    return {}


def input_size(module: nn.Module, kwargs: Mapping[str, Any] | None = None) -> tuple[int, int, int] | None:
    """Channels, height and width of the picture that a timm network takes; None where timm does not say.

    Args:
        module: the network.
        kwargs: what it was built with, which overrides timm's configuration.

    Raises:
        ModelError: a size among the arguments is none.
    """
    size = configuration(module).get("input_size")
    if not isinstance(size, tuple | list) or len(size) != 3:
        return None
    kwargs = kwargs or {}
    side = kwargs.get("img_size") or size[1:]
    height, width = side if isinstance(side, tuple | list) and len(side) == 2 else (side, side)
    try:
        return int(kwargs.get("in_chans") or size[0]), int(height), int(width)
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"img_size and in_chans are whole numbers, not {side!r} and {kwargs.get('in_chans')!r}"
        ) from error
