"""Receptive fields against what really reaches what, position by position.

`probe` carries, through the very operators that the walk shows, which inputs reach each element; here every field that
the algebra has computed is compared with it: every view of every output of every call, at every place of the view.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from profiler.analyzer import Subject
from profiler.aten.call import Call, tensors_of
from profiler.crosscheck.probe.propagation import Propagation, Reach, reach_of, start
from profiler.receptive.field import TensorField
from profiler.receptive.summary import summarize
from profiler.receptive.view import AxisView
from profiler.step import Step
from profiler.walk import field_of, input_axes, stand_in, walk

_LOST = "_netgauge_lost"


@dataclass(frozen=True, slots=True)
class FieldCheck:
    """One operator call's field beside what the probe saw.

    Attributes:
        name: the module's path.
        op: the operator.
        status: what is claimed and was compared: "exact" or "bounded"; "not probed" where nothing was.
        equal: whether every view that claims to be exact is equal at every place; true where nothing was probed.
        contained: whether what was seen lies inside what the field says; true where nothing was probed.
        call: how often the module had been called before.
        packet: the ATen operator.
        reported: the status in the profile's row: "exact", "whole-input", "bounded", "data-dependent", "unknown".
        settled: whether each axis is exact, or the whole input and the probe saw the whole input at every place.
        reason: why nothing was probed; or where the field is not settled, the first operator behind it that lost it.
        detail: the first place at which claim and probe differ, empty where there is none.
        free: whether the operator computes nothing and has no row of its own; then it is here because it is wrong.
    """

    name: str
    op: str
    status: str
    equal: bool
    contained: bool
    call: int = 0
    packet: str = ""
    reported: str = ""
    settled: bool = True
    reason: str = ""
    detail: str = ""
    free: bool = False

    @property
    def contradicted(self) -> bool:
        """Whether the probe shows the field to be wrong."""
        return not (self.equal and self.contained)


def verify_receptive_fields(subject: Subject) -> list[FieldCheck]:
    """Compare the receptive field of every operator call with what reaches its outputs.

    Args:
        subject: a model and its inputs, given as tensors or shapes. The first tensor is the one that is followed.

    Returns:
        One entry per row of the profile whose outputs the input reaches, in the order of the calls, and one for each
        operator without a row whose field is contradicted. Nothing where the input has no axis that is followed.
    """
    args, kwargs = [stand_in(a) for a in subject.args], {k: stand_in(v) for k, v in subject.kwargs.items()}
    inputs = tensors_of((args, kwargs))
    axes = input_axes(tuple(inputs[0].shape), inputs[0].dtype) if inputs else ()
    if not axes:
        return []
    verifier = _Verifier(axes, Propagation(len(axes)))
    walk(subject.model, subject.args, subject.kwargs, verifier)
    return verifier.checks


@dataclass(slots=True)
class _Verifier:
    """The walk's visitor: carries the numbers on, then compares."""

    axes: tuple[int, ...]
    propagation: Propagation
    checks: list[FieldCheck] = field(default_factory=list)
    started: bool = False

    def __call__(self, step: Step) -> None:
        if not self.started:
            self._look_for_input(step.call)
        self.propagation.step(step.call)
        check = _checked(step)
        if check is not None:
            self.checks.append(check)

    def _look_for_input(self, call: Call) -> None:
        # Among the tensors that no operator has given, only the walk's first input has a field.
        for tensor in call.tensors:
            if field_of(tensor) is not None:
                start(tensor, self.axes)
                self.started = True
                return


def _checked(step: Step) -> FieldCheck | None:
    """The check of a step's outputs; None where there is nothing to say."""
    free = step.operator is not None and step.operator.free and not step.parameters
    results = [_compared(f, reach_of(t)) for f, t in zip(step.fields, step.call.outputs, strict=True)]
    first, claimed = results[0], step.fields[0]
    settled = first.settled and not first.unprobed
    reason = first.unprobed or ("" if settled else _first_loss(step))
    for out in step.call.outputs:
        setattr(out, _LOST, reason)
    equal, contained = all(r.equal for r in results), all(r.contained for r in results)
    if (claimed is None or free) and equal and contained:
        return None
    reported = summarize(claimed)
    return FieldCheck(
        name=step.module.name,
        op=step.operator.op if step.operator else step.call.packet.removeprefix("aten."),
        status="not probed" if first.unprobed else "exact" if first.exact else "bounded",
        equal=equal,
        contained=contained,
        call=step.module.number,
        packet=step.call.packet,
        reported=reported.status if reported else "",
        settled=settled,
        reason=reason,
        detail=next((r.detail for r in results if r.detail), ""),
        free=free,
    )


def _first_loss(step: Step) -> str:
    """The operator that was the first to give, on the way to this one, a field that is not settled."""
    earlier = (getattr(t, _LOST, "") for t in step.call.tensors)
    return next(filter(None, earlier), f"{step.call.packet} in {step.module.name or '.'} ({step.module.type})")


@dataclass(slots=True)
class _Comparison:
    """One output's field beside its reach."""

    equal: bool = True
    contained: bool = True
    exact: bool = True
    settled: bool = True
    unprobed: str = ""
    detail: str = ""


def _compared(claimed: TensorField | None, reach: Reach | None) -> _Comparison:
    result = _Comparison()
    if claimed is None:
        if reach is not None and any(bool(plane.any()) for plane in reach.planes):
            result.contained, result.detail = False, "said to be out of the input's reach, but is reached"
        return result
    result.exact = all(view.exact for view in claimed.true)
    if reach is not None and reach.unknown:
        result.unprobed = reach.unknown
        return result
    for n, (view, extent) in enumerate(zip(claimed.true, claimed.extent, strict=True)):
        seen = _seen(claimed, view, extent, reach.planes[2 * n : 2 * n + 2] if reach else ())
        said = _said(view, seen.first.shape, extent)
        outside = (seen.first < said.first) | (seen.last > said.last)
        differs = (seen.first != said.first) | (seen.last != said.last)
        result.contained &= not outside.any()
        result.equal &= not (view.exact and differs.any())
        whole = view.mixed and said.covers(extent) and seen.covers(extent)
        result.settled &= whole or (view.exact and not differs.any())
        wrong = differs if view.exact else outside
        if wrong.any() and not result.detail:
            place = int(np.flatnonzero(wrong)[0])
            result.detail = f"input axis {n}, place {place}: said {said.at(place)}, seen {seen.at(place)}"
    return result


class _Intervals(NamedTuple):
    """First and last input per place; where nothing is seen, the first is the axis' size and the last is -1."""

    first: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]

    def covers(self, extent: int) -> bool:
        """Whether every place sees the axis from end to end."""
        return bool((self.first == 0).all() and (self.last == extent - 1).all())

    def at(self, place: int) -> str:
        """One place, in words."""
        first, last = int(self.first[place]), int(self.last[place])
        return f"{first} to {last}" if first <= last else "nothing"


def _said(view: AxisView, shape: tuple[int, ...], extent: int) -> _Intervals:
    first, last = np.broadcast_to(view.span.first, shape), np.broadcast_to(view.span.last, shape)
    nothing = first > last
    return _Intervals(np.where(nothing, extent, first), np.where(nothing, -1, last))


def _seen(claimed: TensorField, view: AxisView, extent: int, planes: tuple[torch.Tensor, ...]) -> _Intervals:
    """What is seen at each place of a view, over all elements of the tensor that share the place."""
    atoms = [atom for axis in claimed.layout for atom in axis]
    order = [atom.uid for atom in atoms if atom.uid in view.atoms]
    joined = tuple(n for n, atom in enumerate(atoms) if atom.uid not in view.atoms)
    numbers = []
    for plane in planes or (torch.zeros(claimed.shape),) * 2:
        parts = plane.reshape([atom.size for atom in atoms])
        parts = parts.amax(joined) if joined else parts
        parts = parts.permute([order.index(uid) for uid in view.atoms])
        numbers.append(parts.reshape(-1).numpy().astype(np.int64))
    low, high = numbers
    return _Intervals(extent - low, high - 1)
