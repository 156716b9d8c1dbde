"""Operators that move a window: which inputs each output reads, seen by running the operator on impulses."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from profiler.aten.call import Call, tensors_of
from profiler.crosscheck.probe.calls import Of, Planes, rerun, split

# Impulses run in batches of at most so many elements.
MOST_ELEMENTS = 1 << 24
# Along the axes that are not looked at, the input is no longer than this.
STRIP = 24
# Kernels run in double precision: a weight that is zero by the formula comes out below this, all others far above.
ROUNDING = 1e-9
# Windows with more taps than this are gathered at once; others one tap after the other, which needs less memory.
MANY_TAPS = 48

Kernel = Callable[[torch.Tensor], torch.Tensor]


class Taps(NamedTuple):
    """Inputs that each output along an axis reads: two tensors of shape (outputs, most taps).

    Attributes:
        inputs: ascending; repeats fill the rows of outputs that read fewer.
        valid: which entries count.
    """

    inputs: torch.Tensor
    valid: torch.Tensor


def seen_taps(kernel: Kernel, sizes: tuple[int, ...], axis: int) -> Taps:
    """Run a kernel with one row after the other lit, and note which rows of the result light up.

    What is read along one axis does not depend on the size of the others, so that a strip is enough, unless the kernel
    does not fit into it or reads nothing there.

    Args:
        kernel: takes and gives tensors of shape (batch, 1, *spatial sizes).
        sizes: spatial sizes of the input.
        axis: the spatial axis along which rows are lit.
    """
    strip = tuple(n if at == axis else min(n, STRIP) for at, n in enumerate(sizes))
    try:
        reads = _reads(kernel, strip, axis)
    except RuntimeError:
        reads = None
    if reads is None or (strip != sizes and not bool(reads.any())):
        reads = _reads(kernel, sizes, axis)
    most = max(1, int(reads.sum(1).max())) if reads.numel() else 1
    inputs = torch.argsort(reads.to(torch.uint8), dim=1, descending=True, stable=True)[:, :most]
    return Taps(inputs, reads.gather(1, inputs))


def _reads(kernel: Kernel, sizes: tuple[int, ...], axis: int) -> torch.Tensor:
    """Which rows of the input each row of the result reads: (outputs, inputs)."""
    inputs, batch, first = sizes[axis], 1, 0
    lit: list[torch.Tensor] = []
    while first < inputs:
        count = min(batch, inputs - first)
        x = torch.zeros((count, 1, *sizes), dtype=torch.float64)
        for n in range(count):
            x[n].select(axis + 1, first + n).fill_(1.0)
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


class Windows:
    """Structures of the windowed operators; calls with the same geometry share what the impulses showed."""

    def __init__(self) -> None:
        self._known: dict[object, tuple[Taps, ...]] = {}

    def _through(self, plane: torch.Tensor, kernel: Kernel, axes: int, key: object) -> torch.Tensor:
        sizes = tuple(plane.shape[-axes:])
        if (key, sizes) not in self._known:
            self._known[key, sizes] = tuple(seen_taps(kernel, sizes, axis) for axis in range(axes))
        for axis, taps in enumerate(self._known[key, sizes]):
            plane = moved(plane, axis - axes, taps)
        return plane

    def convolution(self, call: Call, of: Of) -> Planes:
        """Each output reads its window in all channels of its group; weights count as positive."""
        weight = call["weight"]
        axes, groups = weight.dim() - 2, int(call["groups"])
        ones = torch.ones((1, 1, *weight.shape[2:]), dtype=torch.float64)
        plane, channel = of(call["input"]), call["input"].dim() - axes - 1
        out = torch.zeros(call.out)
        if plane is not None:
            plane = split(plane, channel, (groups, -1)).amax(channel + 1)
            key = (call.packet, tuple(weight.shape[2:]), _plain(call))
            plane = self._through(plane, lambda x: rerun(call, input=x, weight=ones, bias=None, groups=1), axes, key)
            out = plane.repeat_interleave(call.out[channel] // groups, channel)
        seen = of(weight)
        if seen is not None:  # weights that are computed from the input
            transposed = "transpose" in call.packet or bool(call.get("transposed"))
            over = [n for n in range(weight.dim()) if n != (1 if transposed else 0)]
            each = seen.amax(over).repeat(groups if transposed else 1)
            out = torch.maximum(out, each.view(-1, *(1,) * axes))
        return [out]

    def pool(self, call: Call, of: Of) -> Planes:
        """An average pool, adaptive or not, or an interpolation: every axis has its own window."""
        plane = of(call.first)
        if plane is None:
            raise TypeError("the window's input is not what is reached")
        axes = int(call.packet.removesuffix("_aa").removesuffix("d")[-1])
        name = "self" if "self" in call else "input"
        kernel: Kernel = lambda x: rerun(call, **{name: x})  # noqa: E731  # two names for one argument
        return [self._through(plane, kernel, axes, (call.packet, _plain(call)))]


def _plain(call: Call) -> str:
    """All arguments of a call that are no tensors, as a key."""
    plain = [a for a in call.args if not tensors_of([a])]
    return repr((plain, sorted((k, v) for k, v in call.kwargs.items() if not tensors_of([v]))))
