"""Which inputs a kernel reads along one axis, seen by lighting them; and numbers moved along the axis accordingly."""

from collections.abc import Callable
from math import isqrt
from typing import NamedTuple

import torch

from profiler.crosscheck.probe.calls import split

# Impulses run in batches of at most so many elements.
MOST_ELEMENTS = 1 << 24
# Along the axes that are not looked at, the input is no longer than this.
STRIP = 24
# An axis longer than this is not lit input by input; one longer than the second is not lit input by input at all.
LONG, TOO_LONG = 1 << 12, 1 << 15
# Kernels run in double precision: a weight that is zero by the formula comes out below this, all others far above.
ROUNDING = 1e-9
# Windows with more taps than this are gathered at once; others one tap after the other, which needs less memory.
MANY_TAPS = 48

Kernel = Callable[[torch.Tensor], torch.Tensor]


class Taps(NamedTuple):
    """Inputs that each output along an axis reads: two tensors of shape (outputs, most taps).

    Attributes:
        inputs: their places; anything fills the rows of outputs that read fewer.
        valid: which entries count.
    """

    inputs: torch.Tensor
    valid: torch.Tensor


def seen_taps(kernel: Kernel, sizes: tuple[int, ...], axis: int) -> Taps:
    """Light the inputs along an axis in turn, and note which outputs light up.

    What is read along one axis does not depend on the size of the others, so that a strip is enough, unless the kernel
    does not fit into it or reads nothing there.

    Args:
        kernel: takes and gives tensors of shape (batch, 1, *spatial sizes).
        sizes: spatial sizes of the input.
        axis: the spatial axis along which inputs are lit.

    Raises:
        ValueError: the axis is very long, and the kernel reads more than a small part of it at once.
    """
    strip = tuple(n if at == axis else min(n, STRIP) for at, n in enumerate(sizes))
    try:
        taps = _taps(kernel, strip, axis)
    except RuntimeError:
        taps = None
    if taps is None or (strip != sizes and not bool(taps.valid.any())):
        taps = _taps(kernel, sizes, axis)
    return taps


def _taps(kernel: Kernel, sizes: tuple[int, ...], axis: int) -> Taps:
    inputs = sizes[axis]
    places = torch.arange(inputs)
    period = 2 * isqrt(inputs)
    while inputs > LONG and period < inputs // 4:
        taps = _long_taps(kernel, sizes, axis, period)
        if taps is not None:
            return taps
        period *= 4
    if inputs > TOO_LONG:
        raise ValueError(f"windows on an axis of {inputs} are too wide to be seen by impulses")
    return _first(_lit(kernel, sizes, axis, places))


def _long_taps(kernel: Kernel, sizes: tuple[int, ...], axis: int, period: int) -> Taps | None:
    """Where windows are short: one input of every `period` lit at a time, then one block of `period` inputs.

    A window that lies in one block, of those that start at 0 or of those that start half a block earlier, reads from
    each comb the one input that lies in the block. None where some window lies in no block.
    """
    places = torch.arange(sizes[axis])
    combs = _first(_lit(kernel, sizes, axis, places % period))
    start = torch.full((len(combs.inputs),), -1)
    for offset in (0, period // 2):
        blocks = _lit(kernel, sizes, axis, (places + offset) // period)
        single = (blocks.sum(1) <= 1) & (start < 0)
        start = torch.where(single, (blocks.to(torch.uint8).argmax(1) * period - offset).clamp_min(0), start)
    if bool((start < 0).any()):
        return None
    start = start[:, None]
    inputs = start + (combs.inputs - start) % period
    return Taps(torch.where(combs.valid, inputs, 0), combs.valid)


def _first(reads: torch.Tensor) -> Taps:
    """The columns that are lit in each row."""
    most = max(1, int(reads.sum(1).max())) if reads.numel() else 1
    inputs = torch.argsort(reads.to(torch.uint8), dim=1, descending=True, stable=True)[:, :most]
    return Taps(inputs, reads.gather(1, inputs))


def _lit(kernel: Kernel, sizes: tuple[int, ...], axis: int, group: torch.Tensor) -> torch.Tensor:
    """Which outputs light up as the inputs of each group are lit together: (outputs, groups)."""
    groups, batch, first = int(group.max()) + 1, 1, 0
    after = (1,) * (len(sizes) - axis - 1)
    lit: list[torch.Tensor] = []
    while first < groups:
        count = min(batch, groups - first)
        rows = group == torch.arange(first, first + count)[:, None]
        shape = (count, 1, *(1,) * axis, sizes[axis], *after)
        x = rows.double().view(shape).expand(count, 1, *sizes).contiguous()
        out = kernel(x).abs() > ROUNDING
        lit.append(out.movedim(axis + 2, 1).flatten(2).any(2))
        first += count
        batch = max(1, MOST_ELEMENTS * count // max(x.numel(), out.numel(), 1))
    return torch.cat(lit).T


def moved(plane: torch.Tensor, axis: int, taps: Taps) -> torch.Tensor:
    """The largest number among each output's taps."""
    axis %= plane.dim()
    outputs, most = taps.inputs.shape
    tail = (1,) * (plane.dim() - axis - 1)
    if most == plane.shape[axis] and bool(taps.valid.all()):
        whole = plane.amax(axis, keepdim=True)
        return whole.expand(*plane.shape[:axis], outputs, *plane.shape[axis + 1 :])
    if most > MANY_TAPS:
        picked = split(plane.index_select(axis, taps.inputs.flatten()), axis, (outputs, most))
        joined: torch.Tensor = (picked * taps.valid.view(outputs, most, *tail)).amax(axis + 1)
        return joined
    result = plane.new_zeros((*plane.shape[:axis], outputs, *plane.shape[axis + 1 :]))
    for n in range(most):
        picked = plane.index_select(axis, taps.inputs[:, n])
        result = torch.maximum(result, picked * taps.valid[:, n].view(outputs, *tail))
    return result
