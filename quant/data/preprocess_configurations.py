"""Preprocessing from the files that zoos keep beside their weights: timm's and transformers'.

They are read as data; nothing that they name is imported. What they ask for and is not done here is an error: a picture
that is prepared almost right gives almost the right accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import floor
from typing import TYPE_CHECKING, Any

from profiler.errors import DataError, ModelError, RefusedError
from profiler.sources.strict_json import read_json
from quant.data.preprocessing import INTERPOLATIONS, Preprocessing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# timm.data.constants; what its resolve_data_config takes where a configuration is silent.
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LARGEST_PART = 2  # some are evaluated on pictures smaller than the input, padded
_TIMM_CROP, _TIMM_INTERPOLATION = 0.875, "bicubic"

# Pillow's numbers for its filters, which transformers writes down.
_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
_TRANSFORMERS_MARKS = ("image_processor_type", "feature_extractor_type", "image_mean", "do_resize", "do_normalize")
# Steps that are done here; any other `do_...` that is on changes the picture in a way that is not.
_STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb", "do_flip_channel_order")
# The processors of transformers that do these steps and no others: whether a single number as `size` is both sides
# (else the shorter one), and which steps are on where the file is silent.
_ALWAYS = frozenset({"do_resize", "do_rescale", "do_normalize"})
_CROPPED = _ALWAYS | {"do_center_crop"}
_PROCESSORS = {
    "ViT": (True, _ALWAYS),
    "DeiT": (True, _CROPPED),
    "Beit": (True, _ALWAYS),
    "Pvt": (True, _ALWAYS),
    "Siglip": (True, _ALWAYS),
    "CLIP": (False, _CROPPED),
    "ChineseCLIP": (False, _CROPPED),
    "Bit": (False, _CROPPED),
    "ViTHybrid": (False, _CROPPED),
    "MobileNetV1": (False, _CROPPED),
    "MobileNetV2": (False, _CROPPED),
    "ConvNext": (False, _ALWAYS),
    "MobileViT": (False, frozenset({"do_resize", "do_rescale", "do_center_crop", "do_flip_channel_order"})),
}
_CONVNEXT_WARPED = 384  # from this size on ConvNext's processor warps to a square and crops nothing


def from_configuration(path: Path, from_keys: Callable[[Mapping[str, Any]], Preprocessing]) -> Preprocessing:
    """What a JSON file says: our own keys, timm's configuration or transformers'.

    Args:
        path: the file.
        from_keys: makes a `Preprocessing` of our own keys.

    Raises:
        DataError: it cannot be read, or asks for what is not done here.
        UsageError: a value that makes no sense.
    """
    try:
        content = read_json(path)
    except (ModelError, RefusedError, OSError) as error:
        raise DataError(str(error)) from error
    if not isinstance(content, Mapping):
        raise DataError(f"{path}: is no JSON object; a configuration is expected")
    try:
        if isinstance(content.get("pretrained_cfg"), Mapping):
            return _timm(content["pretrained_cfg"])
        if "input_size" in content:
            return _timm(content)
        if any(mark in content for mark in _TRANSFORMERS_MARKS):
            return _transformers(content)
        return from_keys(content)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise DataError(f"{path}: its configuration of pictures cannot be followed: {error}") from error


def from_timm(target: str) -> Preprocessing:
    """What timm's registry says of a network: `timm:NAME`, with or without the tag of its weights.

    Raises:
        UnavailableError: timm is not installed, or cannot be imported.
        DataError: no such name, or no configuration.
    """
    from profiler.sources.named import package

    timm = package("timm", target)
    found = timm.models.get_pretrained_cfg(target.removeprefix("timm:"))
    if found is None:
        raise DataError(f"{target}: timm has no configuration of that name; timm.list_models() lists them")
    try:
        return _timm(found.to_dict())
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{target}: its configuration of pictures cannot be followed: {error}") from error


def _timm(said: Mapping[str, Any]) -> Preprocessing:
    """As timm's `resolve_data_config` and `transforms_imagenet_eval` read it."""
    channels, height, width = map(int, said["input_size"])
    part = float(said.get("crop_pct") or _TIMM_CROP)
    if not 0 < part <= _LARGEST_PART:
        raise ValueError(f"crop_pct is {part}")
    mode = said.get("crop_mode") or "center"
    sides = floor(height / part), floor(width / part)
    if mode == "center" and height == width:
        by, resize = "shorter", sides
    elif mode == "squash":
        by, resize = "exact", sides
    else:
        raise ValueError(
            f"crop_mode {mode!r} of a picture of {height}x{width} is not done here; give the keys yourself"
        )
    return Preprocessing(
        resize=resize,
        resize_by=by,  # type: ignore[arg-type]  # one of the three
        interpolation=_known(said.get("interpolation") or _TIMM_INTERPOLATION),
        crop=(height, width),
        mean=_three(said.get("mean") or _IMAGENET_MEAN),
        std=_three(said.get("std") or _IMAGENET_STD),
        colour="grey" if channels == 1 else "RGB",
    )


def _transformers(said: Mapping[str, Any]) -> Preprocessing:
    kind = str(said.get("image_processor_type") or said.get("feature_extractor_type") or "")
    family = kind.removesuffix("Fast").removesuffix("ImageProcessor").removesuffix("FeatureExtractor")
    if family not in _PROCESSORS:
        raise ValueError(
            f"the processor {kind or '(none named)'} is not known here; give --preprocess KEY=VALUE instead"
        )
    square, defaults = _PROCESSORS[family]
    steps = {name: said.get(name, name in defaults) for name in _STEPS}
    others = [name for name, on in said.items() if name.startswith("do_") and on and name not in _STEPS]
    if others:
        raise ValueError(f"{others[0]} is not done here; give --preprocess KEY=VALUE for what can stand in its place")
    resize, by, crop = None, "shorter", None
    if steps["do_resize"]:
        resize, by = _transformers_size(_said(said, "size"), square=square)
    if steps["do_center_crop"]:
        crop = _both(_said(said, "crop_size"))
    if family == "ConvNext" and by == "shorter" and resize is not None:
        resize, by, crop = _convnext(resize[0], float(said.get("crop_pct") or 224 / 256))
    return Preprocessing(
        resize=resize,
        resize_by=by,  # type: ignore[arg-type]  # one of the three
        interpolation=_RESAMPLE[int(_said(said, "resample"))] if resize else "bilinear",
        crop=crop,
        scale=float(said.get("rescale_factor", 1 / 255)) if steps["do_rescale"] else 1.0,
        mean=_three(_said(said, "image_mean")) if steps["do_normalize"] else (0.0,),
        std=_three(_said(said, "image_std")) if steps["do_normalize"] else (1.0,),
        half_pixel="floor",
        colour="BGR" if steps["do_flip_channel_order"] else "RGB",
    )


def _transformers_size(size: Any, *, square: bool) -> tuple[tuple[int, int], str]:  # noqa: ANN401  # JSON
    if isinstance(size, Mapping) and set(size) == {"height", "width"}:
        return (int(size["height"]), int(size["width"])), "exact"
    if isinstance(size, Mapping) and set(size) == {"shortest_edge"}:
        return (int(size["shortest_edge"]), int(size["shortest_edge"])), "shorter"
    if isinstance(size, int):
        return (size, size), "exact" if square else "shorter"
    raise ValueError(f"size {size} has no single meaning; give --preprocess resize=... and the other keys yourself")


def _convnext(side: int, part: float) -> tuple[tuple[int, int], str, tuple[int, int] | None]:
    """Small pictures are resized to more and cropped, large ones warped."""
    if side >= _CONVNEXT_WARPED:
        return (side, side), "exact", None
    larger = int(side / part)
    return (larger, larger), "shorter", (side, side)


def _said(said: Mapping[str, Any], key: str) -> Any:  # noqa: ANN401  # JSON
    if said.get(key) is None:
        raise ValueError(f"it does not say {key}; give --preprocess KEY=VALUE instead")
    return said[key]


def _both(size: Any) -> tuple[int, int]:  # noqa: ANN401  # JSON
    if isinstance(size, Mapping):
        return int(size["height"]), int(size["width"])
    return int(size), int(size)


def _three(values: Any) -> tuple[float, ...]:  # noqa: ANN401  # JSON
    return tuple(map(float, values)) if isinstance(values, list | tuple) else (float(values),)


def _known(name: str) -> str:
    if name not in INTERPOLATIONS:
        raise ValueError(f"interpolation {name!r} is not Pillow's; there is {', '.join(INTERPOLATIONS)}")
    return name
