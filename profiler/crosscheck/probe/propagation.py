"""The numbers carried along a walk: a visitor that gives every tensor what reaches it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.weak import WeakTensorKeyDictionary

from profiler.aten.call import Call, tensors_of
from profiler.crosscheck.probe.calls import Of, Planes, Structure, as_it_is
from profiler.crosscheck.probe.structures import PLACES, is_pointwise, pointwise, table

# Tensors that the model makes from nothing, and may write into afterwards.
_BLANK = (
    *(f"aten.{made}{name}" for made in ("", "new_") for name in ("zeros", "ones", "empty", "full", "empty_strided")),
    *(f"aten.{name}_like" for name in ("zeros", "ones", "empty", "full", "rand", "randn")),
)


@dataclass(frozen=True, slots=True)
class Reach:
    """What reaches each element of a tensor.

    Attributes:
        planes: two per followed axis, each of the tensor's size: `size - first` and `last + 1`, zero for nothing.
        unknown: why nothing is known, where nothing is; then there are no planes.
    """

    planes: tuple[torch.Tensor, ...] = ()
    unknown: str = ""


class Propagation:
    """Gives the outputs of each call their reach; an operator without a structure makes it unknown, and says why."""

    def __init__(self) -> None:
        self._structures = table()
        self._planes = 0
        self._reach = WeakTensorKeyDictionary()
        self._early: list[Call] = []

    def reach_of(self, tensor: torch.Tensor) -> Reach | None:
        """What reaches a tensor of the walk, None where no input does."""
        reach: Reach | None = self._reach.get(tensor, None)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return reach

    def knows(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor has been started, or given by an operator."""
        return tensor in self._reach

    def start(self, tensor: torch.Tensor, followed: Sequence[tuple[int, int | None]]) -> None:
        """Make a tensor an input, each element of which is reached by itself.

        Args:
            tensor: one of the inputs.
            followed: for each axis of an input that is followed its size, and which axis of this tensor it is, if any.
        """
        shape = tuple(tensor.shape)
        planes: list[torch.Tensor] = []
        for size, axis in followed:
            if axis is None:
                planes += [torch.zeros(shape), torch.zeros(shape)]
                continue
            after = (1,) * (len(shape) - axis - 1)
            both = torch.arange(size, 0, -1.0), torch.arange(1.0, size + 1)
            planes += [numbers.view(size, *after).expand(shape).contiguous() for numbers in both]
        self._planes = len(planes)
        self._reach[tensor] = Reach(tuple(planes))
        early, self._early = self._early, []
        for call in early:
            self.step(call)

    def step(self, call: Call) -> None:
        """Give the outputs of a call their reach; those before the first input starts wait for it."""
        if not self._planes:
            self._early.append(call)
            return
        with _disable_current_modes():
            reaches = [r for r in map(self.reach_of, call.tensors) if r is not None]
            if call.packet in _BLANK:
                for out in call.outputs:
                    blank = tuple(torch.zeros(tuple(out.shape)) for _ in range(self._planes))
                    self._reach[out] = Reach(blank) if out.is_floating_point() else None
            elif not reaches:
                for out in call.outputs:
                    self._reach[out] = None
            elif not _hands_on(call):
                unknown = next((r.unknown for r in reaches if r.unknown), "")
                for out, reach in zip(call.outputs, self._outputs(call, unknown), strict=True):
                    self._reach[out] = reach

    def _outputs(self, call: Call, unknown: str) -> list[Reach]:
        structure = self._structure(call)
        reason = unknown or (structure if isinstance(structure, str) else "")
        if not isinstance(structure, str) and not reason:
            try:
                return self._run(call, structure)
            except (RuntimeError, TypeError, ValueError, IndexError, KeyError) as error:
                reason = f"{call.packet}: {str(error).partition(chr(10))[0]}"
        return [Reach(unknown=reason)] * len(call.outputs)

    def _structure(self, call: Call) -> Structure | str:
        """The structure of a call, or why it has none."""
        name = call.packet
        place = PLACES.get(name.rstrip("_"), "")
        if place in call and any(self.reach_of(t) is not None for t in tensors_of([call[place]])):
            return f"{name} reads or writes at places that depend on the input"
        structure = self._structures.get(name) or self._structures.get(name.removesuffix("_"))
        if structure is None and is_pointwise(call):
            structure = pointwise
        return structure or f"{name} has no structure"

    def _run(self, call: Call, structure: Structure) -> list[Reach]:
        results = []
        for n in range(self._planes):
            of = partial(self._plane, n)
            planes = structure(call, of)
            for plane, out in zip(planes, call.outputs, strict=True):
                if plane.shape != out.shape:
                    raise ValueError(f"the structure gives the size {tuple(plane.shape)}, not {tuple(out.shape)}")
            if structure is not as_it_is:
                planes = _stored(call, of, planes)
            results.append(planes)
        return [Reach(tuple(planes)) for planes in zip(*results, strict=True)]

    def _plane(self, n: int, tensor: object) -> torch.Tensor | None:
        reach = self.reach_of(tensor) if isinstance(tensor, torch.Tensor) else None
        return reach.planes[n] if reach is not None and reach.planes else None


def _writes(call: Call) -> bool:
    info = call.func._schema.arguments[0].alias_info if call.func._schema.arguments else None  # noqa: SLF001  # the only way to a schema
    return info is not None and info.is_write


def _hands_on(call: Call) -> bool:
    """Whether the result is an argument itself: a dropout that is switched off, a change to the same type."""
    return not _writes(call) and any(out is tensor for out in call.outputs for tensor in call.tensors)


def _stored(call: Call, of: Of, planes: Planes) -> Planes:
    """The numbers in memory of their own, or, where the operator writes into its argument, in that one's.

    A view shares its numbers with what it is a view of, so that what is written into a slice is seen in the whole.
    """
    written = of(call.first) if _writes(call) else None
    if written is None:
        shared = {plane.untyped_storage().data_ptr() for plane in map(of, call.tensors) if plane is not None}
        return [
            p.clone(memory_format=torch.contiguous_format)
            if p.untyped_storage().data_ptr() in shared or not p.is_contiguous()
            else p
            for p in planes
        ]
    (plane,) = planes
    written.copy_(plane)
    return [written]
