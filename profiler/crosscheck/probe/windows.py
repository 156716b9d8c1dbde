"""Operators that move a window: each output reads what running the operator on impulses shows that it reads."""

import torch

from profiler.aten.call import Call, tensors_of
from profiler.crosscheck.probe.calls import Of, Planes, rerun, split
from profiler.crosscheck.probe.impulses import Kernel, Taps, moved, seen_taps


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
