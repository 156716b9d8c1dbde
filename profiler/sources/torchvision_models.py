"""`torchvision:NAME`: the networks of torchvision's registry, each called as its kind is."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from profiler.sources.limits import DEFAULT, Limits
from profiler.sources.named import built, package, refuse_arguments, unknown
from profiler.sources.opened import ExampleInputs, OpenedModel

# Arguments of torchvision's by which weights would come in, and be downloaded.
_REFUSED = ("weights", "weights_backbone", "pretrained", "pretrained_backbone")
# Their constructors would draw weights by a slow method of their own, after a warning.
_OPTIONS = {"googlenet": {"init_weights": False}, "inception_v3": {"init_weights": False}}
_SIDE, _FRAMES = 224, 16
# What torchvision's example of optical flow resizes its pictures to.
_FLOW = (520, 960)
_SEGMENTED, _DETECTED = 520, 800


def open_torchvision(
    name: str,
    *,
    weights: str | Path | None = None,
    kwargs: Mapping[str, Any] | None = None,
    trust: bool = False,  # noqa: ARG001  # an opener; nothing of the zoo's asks for it
    limits: Limits = DEFAULT,
) -> OpenedModel:
    """Build a network of torchvision's registry.

    Args:
        name: as torchvision lists it, also behind its module: "fcn_resnet50" or "segmentation.fcn_resnet50".
        weights: a state dict that will be loaded, for which the network needs storage.
        kwargs: arguments for torchvision's builder, such as num_classes.
        trust: makes no difference here.
        limits: how many parameters it may have, as tensors.

    Raises:
        UnavailableError: torchvision is not installed, or does not go with the installed torch.
        ModelError: no such name, or it cannot be built.
    """
    target, kwargs = f"torchvision:{name}", dict(kwargs or {})
    models = package("torchvision.models", target)
    refuse_arguments(target, kwargs, _REFUSED)
    module_name, _, plain = name.rpartition(".")
    known = models.list_models()
    builder = models.get_model_builder(plain) if plain in known else None
    kind = kind_of_builder(builder) if builder else ""
    if builder is None or module_name not in ("", kind):
        raise unknown(target, name, [*known, *(f"{kind}.{plain}" for _ in range(bool(kind)))], "torchvision")
    options: dict[str, Any] = {"weights": None, **_OPTIONS.get(plain, {})}
    if "weights_backbone" in inspect.signature(builder).parameters:
        options["weights_backbone"] = None
    build = partial(builder, **(options | kwargs))
    module, notes = built(target, build, limits=limits, stored=weights is not None)
    dims, make, source = _CALLS.get(kind, _classified)(module, _entries(models, plain))

    def inputs(given: Mapping[str, int]) -> ExampleInputs:
        args = make({**dims, **given})
        written = ", ".join("x".join(map(str, t.shape)) for t in _tensors(args))
        return ExampleInputs(args, note=f"input {written}: {source}")

    return OpenedModel(target, "module", module=module, notes=notes, inputs=inputs, dims=dims)


def kind_of_builder(builder: Callable[..., nn.Module]) -> str:
    """The part of torchvision.models that a builder is from: "segmentation", "video", ...; "classification"."""
    parts = builder.__module__.split(".")
    return parts[2] if len(parts) > 3 else "classification"


def _entries(models: Any, name: str) -> list[Any]:  # noqa: ANN401  # a module, weights entries
    """The published weights of a network, which say what pictures they were made for."""
    try:
        return list(models.get_model_weights(name))
    except (ValueError, KeyError, AttributeError):  # a network without any
        return []


def _transform(entries: list[Any], name: str) -> list[int]:
    """The sizes that the weights' transforms take, least first."""
    found = []
    for entry in entries:
        value = getattr(entry.transforms, "keywords", {}).get(name)
        value = value[-1] if isinstance(value, tuple | list) and value else value
        if isinstance(value, int):
            found.append(value)
    return sorted(found)


Sizes = Mapping[str, int]
# Free sizes, what they make the network be called with, and where they come from.
_Call = tuple[dict[str, int], Callable[[Sizes], tuple[Any, ...]], str]


def _picture(sizes: Sizes) -> torch.Tensor:
    return _zeros(sizes["batch"], 3, sizes["height"], sizes["width"])


def _zeros(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta")


def _square(side: int, **others: int) -> dict[str, int]:
    return {"batch": 1, **others, "height": side, "width": side}


def _classified(module: nn.Module, entries: list[Any]) -> _Call:
    own = getattr(module, "image_size", None)
    sides = _transform(entries, "crop_size")
    if isinstance(own, int):  # a vision transformer is made for one size
        return _square(own), lambda sizes: (_picture(sizes),), "the size it was built for"
    if sides:
        return _square(sides[0]), lambda sizes: (_picture(sizes),), "the size of its published weights"
    return _square(_SIDE), lambda sizes: (_picture(sizes),), "the usual size of a picture"


def _segmented(_module: nn.Module, entries: list[Any]) -> _Call:
    side = (_transform(entries, "resize_size") or [_SEGMENTED])[0]
    return _square(side), lambda sizes: (_picture(sizes),), "the size that its published weights resize to"


def _detected(module: nn.Module, _entries: list[Any]) -> _Call:
    transform = getattr(module, "transform", None)
    fixed, least = getattr(transform, "fixed_size", None), getattr(transform, "min_size", None)
    side = fixed or least
    side = side[-1] if isinstance(side, tuple | list) and side else side

    def pictures(sizes: Sizes) -> tuple[Any, ...]:
        return ([_zeros(3, sizes["height"], sizes["width"]) for _ in range(sizes["batch"])],)

    return _square(side if isinstance(side, int) else _DETECTED), pictures, "a list of pictures that it need not resize"


def _filmed(_module: nn.Module, entries: list[Any]) -> _Call:
    sides = _transform(entries, "crop_size") or [_SIDE]

    def film(sizes: Sizes) -> tuple[Any, ...]:
        return (_zeros(sizes["batch"], 3, sizes["frames"], sizes["height"], sizes["width"]),)

    return _square(sides[0], frames=_FRAMES), film, f"{_FRAMES} frames of the size of its published weights"


def _flowing(_module: nn.Module, _entries: list[Any]) -> _Call:
    height, width = _FLOW
    sizes = {"batch": 1, "height": height, "width": width}
    return (
        sizes,
        lambda sizes: (_picture(sizes), _picture(sizes)),
        "two pictures of the size in torchvision's example",
    )


_CALLS: dict[str, Callable[[nn.Module, list[Any]], _Call]] = {
    "segmentation": _segmented,
    "detection": _detected,
    "video": _filmed,
    "optical_flow": _flowing,
}


def _tensors(args: tuple[Any, ...]) -> list[torch.Tensor]:
    return [t for arg in args for t in (arg if isinstance(arg, list) else [arg])]
