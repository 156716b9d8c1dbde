"""What a transformers model is called with, from its configuration: text, pictures, films, sound, and pairs of them.

A model's `main_input_name` and the names that its forward takes say what it wants; the configuration says how large.
Sizes that are free have names: `batch`, `tokens`, `height`, `width`, `frames`, `samples`.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product

import torch
from torch import nn

from profiler.errors import ModelError, NetgaugeError
from profiler.sources.hf_sizes import Sizes
from profiler.sources.opened import ExampleInputs

_MOST_TRIED = 8
# Tokens of their own that stand for a picture or a sound in the text.
_PLACES = ("image_token_id", "image_token_index", "video_token_id", "audio_token_id", "audio_token_index",
           "image_seq_length")  # fmt: skip
_OTHERS = ("pixel_values", "input_features", "input_values")


@dataclass(frozen=True, slots=True)
class Call:
    """How a model is called.

    Attributes:
        dims: free sizes and what they are where none is given.
        inputs: from sizes to the inputs.
    """

    dims: Mapping[str, int]
    inputs: Callable[[Mapping[str, int]], ExampleInputs]


def is_transformers(model: nn.Module) -> bool:
    """Whether a module is one of transformers', by what it carries."""
    return isinstance(getattr(model, "main_input_name", None), str) and hasattr(
        getattr(model, "config", None), "model_type"
    )


def call_of(model: nn.Module, target: str) -> Call:
    """How a transformers model is called.

    Args:
        model: with its `config` and `main_input_name`.
        target: what the user named, for messages.
    """
    names = _wanted(model)
    sizes = Sizes(model)
    dims = {"batch": 1} | {dim: sizes.default(dim) for name in names for dim in _DIMS.get(name, ())}
    if "pixel_values" in names and sizes.films:
        dims["frames"] = sizes.frames

    def inputs(given: Mapping[str, int]) -> ExampleInputs:
        unknown = [name for name in names if name not in _MAKERS]
        if unknown or not names:
            flags = " ".join(f"--input {name}=SIZE" for name in names) or "--input NAME=SIZE for each that it needs"
            what = f"what {unknown[0]} is" if unknown else f"what it takes of forward({', '.join(_parameters(model))})"
            raise ModelError(f"{target}: {what} cannot be told from its configuration; pass {flags}")
        sizes.given = {**dims, **given}
        choices = [_MAKERS[name](sizes) for name in names]
        kwargs = _that_runs(model, [dict(zip(names, chosen, strict=True)) for chosen in product(*choices)])
        written = ", ".join(f"{name} {_size(value)}" for name, value in kwargs.items())
        left_out = _left_out(model, names)
        return ExampleInputs((), kwargs, f"input {written}, from the model's configuration{left_out}")

    return Call(dims, inputs)


def _size(value: torch.Tensor) -> str:
    kind = "" if value.is_floating_point() else f":{str(value.dtype).removeprefix('torch.')}"
    return "x".join(map(str, value.shape)) + kind


def _parameters(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(model.forward).parameters


def _wanted(model: nn.Module) -> list[str]:
    """Names of the inputs to be given."""
    parameters = _parameters(model)
    required = [p.name for p in parameters.values() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    main = str(getattr(model, "main_input_name", ""))
    names = [name for name in dict.fromkeys([main, *required]) if name in parameters]
    together = [name for name in ("input_ids", *_OTHERS) if name in parameters]
    if "input_ids" in together and len(together) == 2 and not _has_places(model):  # a text beside a picture or a sound
        names += [name for name in together if name not in names]
    if "input_ids" in names and "attention_mask" in parameters and "attention_mask" not in names:
        names.append("attention_mask")
    if "past_time_features" in names:  # the decoder reads on where the past ends
        names += [name for name in ("future_values", "future_time_features") if name in parameters]
    if "decoder_input_ids" in parameters and "decoder_input_ids" not in names:
        names.append("decoder_input_ids")
    return names


def _has_places(model: nn.Module) -> bool:
    return any(getattr(model.config, name, None) is not None for name in _PLACES)


def _left_out(model: nn.Module, names: Sequence[str]) -> str:
    if "input_ids" not in names or not _has_places(model):
        return ""
    return ": its text alone; pass what its processor makes of pictures or sound with --inputs FILE.npz"


def _that_runs(model: nn.Module, choices: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The first choice that the model takes; the first of all where it takes none."""
    from profiler.walk import walk

    for kwargs in islice(choices, _MOST_TRIED) if len(choices) > 1 else ():
        try:
            walk(model, (), kwargs, lambda _: None, fields=False)
        except NetgaugeError:
            continue
        return kwargs
    return choices[0]


Makers = list[torch.Tensor]


def _text(sizes: Sizes) -> Makers:
    return [sizes.ids(sizes.whole("vocab_size", "encoder_vocab_size") or 1000)]


def _decoder_text(sizes: Sizes) -> Makers:
    decoder = sizes.find("vocab_size", among="decoder") if hasattr(sizes.config, "decoder") else None
    return [sizes.ids(decoder or sizes.whole("decoder_vocab_size", "vocab_size") or 1000)]


def _ones(sizes: Sizes) -> Makers:
    return [torch.ones(sizes.given["batch"], sizes.given["tokens"], dtype=torch.int64)]


def _zeros(sizes: Sizes) -> Makers:
    return [torch.zeros(sizes.given["batch"], sizes.given["tokens"], dtype=torch.int64)]


def _boxes(sizes: Sizes) -> Makers:
    return [torch.tensor([10, 20, 30, 40]).repeat(sizes.given["batch"], sizes.given["tokens"], 1)]


def _picture(sizes: Sizes) -> Makers:
    channels = sizes.whole("num_channels", "in_channels", "in_chans") or 3
    side = (sizes.given["height"], sizes.given["width"])
    if sizes.films:
        return [sizes.floats(sizes.given["frames"], channels, *side)]
    return [sizes.floats(channels, *side)]


def _film(sizes: Sizes) -> Makers:
    channels = sizes.whole("num_channels", "in_channels", "in_chans") or 3
    return [sizes.floats(sizes.given["frames"], channels, sizes.given["height"], sizes.given["width"])]


def _spectrogram(sizes: Sizes) -> Makers:
    """Features of a sound: each kind of model has its own order of axes, so several are tried."""
    windows, bins = sizes.given["windows"], sizes.whole("num_mel_bins", "n_mels", "num_mel_channels")
    found = []
    positions = sizes.whole("max_source_positions")
    if bins and positions:
        found.append(sizes.floats(bins, 2 * positions))  # as Whisper has it
    for name in ("feature_projection_input_dim", "input_feat_per_channel", "input_dim", "feature_size"):
        features = sizes.whole(name)
        if features:
            found.append(sizes.floats(windows, features))
    if bins:
        found += [sizes.floats(windows, bins), sizes.floats(bins, windows), sizes.floats(1, 1001, bins)]
    return found or [sizes.floats(windows, 80)]


def _sound(sizes: Sizes) -> Makers:
    """A sound as a wave, or as its spectrogram under the same name."""
    samples, bins = sizes.given["samples"], sizes.whole("num_mel_bins")
    length = sizes.whole("max_length")
    if bins and length:
        return [sizes.floats(length, bins)]
    if sizes.find("conv_stride", "conv_dim") is not None:
        return [sizes.floats(samples)]
    channels = sizes.whole("audio_channels", "num_channels") or 1
    return [sizes.floats(channels, samples), sizes.floats(samples), sizes.floats(sizes.default("windows"), bins or 80)]


def _past(sizes: Sizes) -> int:
    """Steps of a series that come before what is to be predicted, those that lags reach back to included."""
    lags: list[int] = getattr(sizes.config, "lags_sequence", None) or [0]
    return (sizes.whole("context_length", "prediction_length") or 32) + max(lags)


def _series(sizes: Sizes) -> Makers:
    if hasattr(sizes.config, "lags_sequence"):
        width = sizes.whole("input_size") or 1
        return [sizes.floats(_past(sizes)) if width == 1 else sizes.floats(_past(sizes), width)]
    return [sizes.floats(_past(sizes), sizes.whole("num_input_channels", "input_size") or 1)]


def _past_times(sizes: Sizes) -> Makers:
    return [sizes.floats(_past(sizes), sizes.whole("num_time_features") or 1)]


def _future_times(sizes: Sizes) -> Makers:
    return [sizes.floats(sizes.whole("prediction_length") or 1, sizes.whole("num_time_features") or 1)]


def _future(sizes: Sizes) -> Makers:
    return [sizes.floats(sizes.whole("prediction_length") or 1)]


# By the name of an input: what it may look like, the likeliest first; and its free sizes.
_MAKERS: dict[str, Callable[[Sizes], Makers]] = {
    "input_ids": _text,
    "decoder_input_ids": _decoder_text,
    "attention_mask": _ones,
    "decoder_attention_mask": _ones,
    "token_type_ids": _zeros,
    "bbox": _boxes,
    "pixel_values": _picture,
    "pixel_values_videos": _film,
    "input_features": _spectrogram,
    "input_values": _sound,
    "past_values": _series,
    "past_time_features": _past_times,
    "past_observed_mask": _series,
    "future_values": _future,
    "future_time_features": _future_times,
}
_DIMS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("input_ids", "decoder_input_ids", "attention_mask", "decoder_attention_mask"), ("tokens",)),
    **dict.fromkeys(("token_type_ids", "bbox"), ("tokens",)),
    "pixel_values": ("height", "width"),
    "pixel_values_videos": ("frames", "height", "width"),
    "input_features": ("windows",),
    "input_values": ("samples",),
}
