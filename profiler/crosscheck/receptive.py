"""Receptive fields against what really reaches what, position by position.

`probe` carries, through the very operators that the walk shows, which inputs reach each element; here every field that
the algebra has computed is compared with it: every view of every output of every call, at every element. An exact
view must be right for each of them, but for those that see nothing at all because their window lies in the padding of
another axis; elements that the field calls uneven (channels that were concatenated) count together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.weak import WeakTensorKeyDictionary

from profiler.analyzer import Subject
from profiler.crosscheck.probe.propagation import Propagation, Reach
from profiler.receptive.field import TensorField
from profiler.receptive.summary import summarize
from profiler.receptive.view import AxisView
from profiler.step import Step
from profiler.walk import field_of, walk


@dataclass(frozen=True, slots=True)
class FieldCheck:
    """One operator call's field beside what the probe saw.

    Attributes:
        name: the module's path.
        op: the operator.
        status: what is claimed and was compared: "exact" or "bounded"; "not probed" where nothing was.
        equal: whether every view that claims to be exact is equal for every element; true where nothing was probed.
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
        subject: a model and its inputs, given as tensors or shapes.

    Returns:
        One entry per row of the profile whose outputs the input reaches, in the order of the calls, and one for each
        operator without a row whose field is contradicted. Nothing where no input has an axis that is followed.
    """
    verifier = _Verifier()
    walk(subject.model, subject.args, subject.kwargs, verifier, restart=verifier.restart)
    return verifier.checks


class _Verifier:
    """The walk's visitor: carries the numbers on, then compares."""

    def __init__(self) -> None:
        self.checks: list[FieldCheck] = []
        self.restart("")

    def restart(self, _reason: str) -> None:
        """The walk begins, or begins anew."""
        self.checks.clear()
        self._propagation = Propagation()
        self._lost = WeakTensorKeyDictionary()

    def __call__(self, step: Step) -> None:
        propagation = self._propagation
        for tensor in step.call.tensors:
            claimed = field_of(tensor)
            # An input comes into use: it has a field, and no operator has given it.
            if claimed is not None and not propagation.knows(tensor):
                axes = [claimed.axis_of(view) for view in claimed.true]
                propagation.start(tensor, list(zip(claimed.extent, axes, strict=True)))
        propagation.step(step.call)
        check = self._checked(step)
        if check is not None:
            self.checks.append(check)

    def _checked(self, step: Step) -> FieldCheck | None:
        """The check of a step's outputs; None where there is nothing to say."""
        free = step.operator is not None and step.operator.free and not step.parameters
        reaches = [self._propagation.reach_of(out) for out in step.call.outputs]
        results = [_compared(f, reach) for f, reach in zip(step.fields, reaches, strict=True)]
        first, claimed = results[0], step.fields[0]
        reported = summarize(claimed)
        settled = first.settled and not first.unprobed
        reason = first.unprobed or ("" if settled else self._first_loss(step, reported.reason if reported else ""))
        for out in step.call.outputs:
            self._lost[out] = reason
        equal, contained = all(r.equal for r in results), all(r.contained for r in results)
        if (claimed is None or not claimed.true or free) and equal and contained:
            return None
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

    def _first_loss(self, step: Step, why: str) -> str:
        """The operator that was the first to give, on the way to this one, a field that is not settled, and why."""
        earlier = (self._lost[t] for t in step.call.tensors if t in self._lost)
        here = f"{step.call.packet} in {step.module.name or '.'} ({step.module.type})"
        return next(filter(None, earlier), f"{here}: {why}" if why else here)


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
        planes = reach.planes[2 * n : 2 * n + 2] if reach else (torch.zeros(claimed.shape),) * 2
        said, seen = _said(view, extent), [_seen(claimed, view, plane) for plane in planes]
        places = seen[0].most.size
        if places != said[0].size:
            result.contained = result.settled = False
            result.detail = f"input axis {n}: said at {said[0].size} places, there are {places}"
            continue
        outside = np.any([one.most > claim for one, claim in zip(seen, said, strict=True)], axis=0)
        pairs = [(one, claim) for one, claim in zip(seen, said, strict=True) if view.exact]
        differs = np.any([(one.most != claim) | (one.least != claim) for one, claim in pairs] or [outside], axis=0)
        result.contained &= not outside.any()
        result.equal &= not (view.exact and differs.any())
        whole = view.mixed and all((one.least == extent).all() for one in seen)
        result.settled &= whole or (view.exact and not differs.any())
        if differs.any() and not result.detail:
            result.detail = f"input axis {n}, {_at(int(np.flatnonzero(differs)[0]), extent, said, seen)}"
    return result


class _Seen(NamedTuple):
    """The largest and the smallest number per place of a view, over the elements that should be alike."""

    most: npt.NDArray[np.float32]
    least: npt.NDArray[np.float32]


def _said(view: AxisView, extent: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """What a view says, as the probe writes it: `extent - first` and `last + 1`, zero for nothing."""
    first, last = view.span.first, view.span.last
    nothing = first > last
    return np.where(nothing, 0, extent - first), np.where(nothing, 0, last + 1)


def _seen(claimed: TensorField, view: AxisView, plane: torch.Tensor) -> _Seen:
    """What is seen at each place of a view. Elements differ along uneven atoms: there they count together."""
    atoms = [atom for axis in claimed.layout for atom in axis]
    order = [atom.uid for atom in atoms if atom.uid in view.atoms]
    others = [n for n, atom in enumerate(atoms) if atom.uid not in view.atoms]
    together = [n for n in others if atoms[n].uid in claimed.uneven]
    alike = [n for n in others if n not in together]
    parts = plane.reshape([atom.size for atom in atoms])
    parts = parts.amax(together, keepdim=True) if together else parts
    most = parts.amax(alike, keepdim=True) if alike else parts
    least = parts.where(parts > 0, torch.inf).amin(alike, keepdim=True).where(most > 0, 0.0) if alike else parts
    places = [order.index(uid) for uid in view.atoms]
    both = (one.squeeze(others) if others else one for one in (most, least))
    return _Seen(*(one.permute(places).reshape(-1).numpy() for one in both))


def _at(place: int, extent: int, said: Sequence[npt.NDArray[Any]], seen: Sequence[_Seen]) -> str:
    """One place, in words."""

    def interval(low: float, high: float) -> str:
        return f"{extent - int(low)} to {int(high) - 1}" if low and high else "nothing"

    claim = interval(*(numbers[place] for numbers in said))
    most = interval(*(one.most[place] for one in seen))
    less = any(one.least[place] < one.most[place] for one in seen)
    return f"place {place}: said {claim}, seen {most}" + (", by some elements less" if less else "")
