"""Operators that move elements to other places in a pattern: padding, rolling, flipping, repetition, shuffles."""

from math import prod

import numpy as np
import torch

from profiler.aten.call import Call, per_axis
from profiler.receptive.field import TensorField
from profiler.receptive.index_map import BORDERS, Border, shifted
from profiler.receptive.layout import new_atom
from profiler.receptive.pick import flipped, taken
from profiler.receptive.reshape import reshaped
from profiler.receptive.rules.base import (
    Fields,
    Result,
    Rule,
    drawn,
    known_values,
    merge,
    unary,
)


def _pad(border: Border | None = None) -> Rule:
    def rule(call: Call, field: TensorField) -> TensorField:
        pad = call["pad"] if "pad" in call else call["padding"]
        mode = border or BORDERS[call.get("mode") or "constant"]
        for n in range(len(pad) // 2):
            axis = len(field.layout) - 1 - n
            if pad[2 * n] < 0 or pad[2 * n + 1] < 0:
                field = field.cut(axis)
            field = field.moved(axis, shifted(-pad[2 * n], mode), call.out[axis])
        return field

    return unary(rule)


def _roll(call: Call, field: TensorField) -> TensorField:
    if not call["dims"]:
        flat = reshaped(field, (prod(field.shape),))
        (shift,) = per_axis(call["shifts"], 1)
        return reshaped(flat.moved(0, shifted(-shift, "wrap"), prod(field.shape)), call.out)
    for shift, dim in zip(per_axis(call["shifts"], 1), per_axis(call["dims"], 1), strict=True):
        axis = dim % len(field.layout)
        field = field.moved(axis, shifted(-shift, "wrap"), field.shape[axis])
    return field


def _rotate(call: Call, field: TensorField) -> TensorField:
    a, b = (d % len(field.layout) for d in call["dims"])
    order = list(range(len(field.layout)))
    for _ in range(call["k"] % 4):
        order[a], order[b] = b, a
        field = flipped(field.permuted(order), [a])
        order[a], order[b] = a, b
    return field


def _repeat(call: Call, field: TensorField) -> TensorField:
    """Each axis again and again: a new outer factor along which all is the same."""
    rank = len(call.out)
    field = reshaped(field, (*(1,) * (rank - len(field.layout)), *field.shape))
    shape: list[int] = []
    layout = list(field.layout)
    for axis, (old, new) in enumerate(zip(field.shape, call.out, strict=True)):
        shape.append(new)
        if old != new and old:
            layout[axis] = (new_atom(new // old), *layout[axis])
    return TensorField(tuple(layout), field.views, field.uneven, tuple(shape))


def _repeat_interleave(call: Call, fields: Fields) -> Result:
    """Each position several times in a row: a new inner factor; or as often as known numbers say."""
    if "self" not in call:
        return [None if fields(call.first) is None else drawn("values say how often")(call, fields)[0]]
    field = fields(call["self"])
    if field is None:
        return merge(call, fields)
    if call["dim"] is None:
        field = reshaped(field, (prod(field.shape),))
    axis = (call["dim"] or 0) % len(field.layout)
    often = call["repeats"]
    if isinstance(often, torch.Tensor):
        values = known_values(often, fields)
        if values is None:
            return drawn("values say how often each position is repeated")(call, fields)
        return [taken(field, axis, np.repeat(np.arange(field.shape[axis]), values))]
    atoms = (*field.layout[axis], new_atom(often))
    return [field.with_layout((*field.layout[:axis], atoms, *field.layout[axis + 1 :]))]


# Channels -----------------------------------------------------------------------------------------------------------


def _pixel_shuffle(call: Call, field: TensorField) -> TensorField:
    """R * r channels become an r by r block of pixels."""
    r = call["upscale_factor"]
    *lead, c, h, w = field.shape
    n = len(lead)
    field = reshaped(field, (*lead, c // (r * r), r, r, h, w))
    return reshaped(field.permuted([*range(n), n, n + 3, n + 1, n + 4, n + 2]), call.out)


def _pixel_unshuffle(call: Call, field: TensorField) -> TensorField:
    r = call["downscale_factor"]
    *lead, c, h, w = field.shape
    n = len(lead)
    field = reshaped(field, (*lead, c, h // r, r, w // r, r))
    return reshaped(field.permuted([*range(n), n, n + 2, n + 4, n + 1, n + 3]), call.out)


def _channel_shuffle(call: Call, field: TensorField) -> TensorField:
    g = call["groups"]
    b, c, *rest = field.shape
    field = reshaped(field, (b, g, c // g, *rest))
    return reshaped(field.permuted([0, 2, 1, *range(3, len(field.layout))]), call.out)


TABLE: dict[str, Rule] = {
    "aten.pad": _pad(),
    "aten.constant_pad_nd": _pad("drop"),
    "aten._pad_circular": _pad("wrap"),
    **{f"aten.reflection_pad{n}d": _pad("reflect") for n in (1, 2, 3)},
    **{f"aten.replication_pad{n}d": _pad("clamp") for n in (1, 2, 3)},
    "aten.roll": unary(_roll),
    "aten.flip": unary(lambda call, field: flipped(field, call["dims"])),
    "aten.fliplr": unary(lambda _, field: flipped(field, [1])),
    "aten.flipud": unary(lambda _, field: flipped(field, [0])),
    "aten.rot90": unary(_rotate),
    "aten.repeat": unary(_repeat),
    "aten.tile": unary(_repeat),
    "aten.repeat_interleave": _repeat_interleave,
    "aten.pixel_shuffle": unary(_pixel_shuffle),
    "aten.pixel_unshuffle": unary(_pixel_unshuffle),
    "aten.channel_shuffle": unary(_channel_shuffle),
    "aten.native_channel_shuffle": unary(_channel_shuffle),
}  # fmt: skip
