"""Guesses at a module's inputs: its first layer fixes channels or features, names of parameters tell tokens apart."""

import inspect
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import nn

from profiler.signatures import parameters_of

# Picture sizes that networks are commonly made for, the most common first.
_SIZES = (224, 32, 28, 64, 96, 128, 256, 299, 384, 512, 48, 16, 8)
_LENGTHS = (16, 128, 512, 64, 1024, 16000)
# More inputs than this are not guessed at.
_MOST_INPUTS = 4
Guess = tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]


def guesses(model: nn.Module) -> Iterator[Guess]:
    """What the module may be called with, by position and by name, the likeliest first."""
    wanted = _required(model)
    if len(wanted) > _MOST_INPUTS:
        return
    known = {p.name: _BY_NAME[p.name]() for p in wanted if p.name in _BY_NAME}
    if len(wanted) > 1 and len(known) == len(wanted):
        yield _call(wanted, known, torch.empty(0))
        return
    # Where tokens have a name of their own, the others are no tokens.
    layers = {k: v for k, v in _FIRST_LAYERS.items() if k is not nn.Embedding or not known}
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    for candidate in _candidates(model, layers) if len(wanted) > 1 else _candidates(model, _FIRST_LAYERS):
        if candidate.is_floating_point() and candidate.dtype != dtype:  # a network in half precision takes no other
            candidate = candidate.to(dtype)  # noqa: PLW2901  # the same in another type
        yield _call(wanted, known if len(wanted) > 1 else {}, candidate)


def flags(model: nn.Module) -> str:
    """The options that give a module its inputs, as an example."""
    names = [p.name for p in _required(model)]
    shown = [f"{name}={_written(_BY_NAME[name]()) if name in _BY_NAME else '1x3x224x224'}" for name in names]
    return " ".join(f"--input {text}" for text in islice(shown or ["1x3x224x224"], 8))


def _written(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) + ("" if tensor.is_floating_point() else ":int64")


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _required(model: nn.Module) -> list[inspect.Parameter]:
    """Forward's parameters without a default; the first of all where every one has a default."""
    named = [p for p in parameters_of(model).values() if p.kind in (*_POSITIONAL, inspect.Parameter.KEYWORD_ONLY)]
    return [p for p in named if p.default is p.empty] or named[:1]


def _call(wanted: list[inspect.Parameter], known: dict[str, torch.Tensor], other: torch.Tensor) -> Guess:
    values = {p: known.get(p.name, other) for p in wanted}
    args = tuple(value for p, value in values.items() if p.kind in _POSITIONAL)
    return args or (() if wanted else (other,)), {p.name: v for p, v in values.items() if p.kind not in _POSITIONAL}


def _ids() -> torch.Tensor:
    return torch.zeros((1, _LENGTHS[0]), dtype=torch.int64)


def _mask() -> torch.Tensor:
    return torch.ones((1, _LENGTHS[0]), dtype=torch.int64)


_BY_NAME: dict[str, Callable[[], torch.Tensor]] = {
    **dict.fromkeys(
        ("input_ids", "decoder_input_ids", "ids", "tokens", "token_ids", "text", "texts", "captions"), _ids
    ),
    **dict.fromkeys(("attention_mask", "text_mask", "token_mask"), _mask),
    "token_type_ids": _ids,
}


def _pictures(axes: int) -> Callable[[Any], Iterator[torch.Tensor]]:
    def shapes(layer: Any) -> Iterator[torch.Tensor]:  # noqa: ANN401  # a convolution
        for n in _LENGTHS if axes == 1 else _SIZES:
            yield torch.empty((1, layer.in_channels, *(n,) * axes), device="meta")

    return shapes


def _sequence(features: int, *, batch_first: bool) -> torch.Tensor:
    batch_and_length = (1, _LENGTHS[0]) if batch_first else (_LENGTHS[0], 1)
    return torch.empty((*batch_and_length, features), device="meta")


def _recurrent(layer: Any) -> Iterator[torch.Tensor]:  # noqa: ANN401  # a recurrent layer
    yield _sequence(layer.input_size, batch_first=layer.batch_first)


def _attended(layer: Any) -> Iterator[torch.Tensor]:  # noqa: ANN401  # an attention layer
    yield _sequence(layer.embed_dim, batch_first=layer.batch_first)


def _features(layer: Any) -> Iterator[torch.Tensor]:  # noqa: ANN401  # a fully connected layer
    yield torch.empty((1, layer.in_features), device="meta")
    yield _sequence(layer.in_features, batch_first=True)


def _tokens(_layer: Any) -> Iterator[torch.Tensor]:  # noqa: ANN401  # an embedding
    yield _ids()


_FIRST_LAYERS: dict[type[nn.Module], Callable[[Any], Iterator[torch.Tensor]]] = {
    nn.Conv1d: _pictures(1),
    nn.Conv2d: _pictures(2),
    nn.Conv3d: _pictures(3),
    nn.ConvTranspose2d: _pictures(2),
    nn.RNNBase: _recurrent,
    nn.MultiheadAttention: _attended,
    nn.Embedding: _tokens,
    nn.Linear: _features,
}


def _candidates(
    model: nn.Module, layers: dict[type[nn.Module], Callable[[Any], Iterator[torch.Tensor]]]
) -> Iterator[torch.Tensor]:
    for module in model.modules():
        for kind, shapes in layers.items():
            if isinstance(module, kind):
                yield from shapes(module)
                return
