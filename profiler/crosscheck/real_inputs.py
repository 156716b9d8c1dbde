"""A model's inputs with values, and its outputs, as plain tensors: what a peer that runs for real needs."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from profiler.analyzer import Subject
from profiler.aten.call import tensors_of
from profiler.environment import available_memory
from profiler.profile import Profile
from profiler.values import with_values as value_in
from profiler.walk import stand_in

ROOT = "model"  # the attribute of `Flat` under which the model is


def with_values(subject: Subject) -> Subject:
    """The same call with a value in every tensor, on the model's device.

    Values that the user gave are copied, because the run may write to them; the others are those that a walk with
    values takes, so that a model that branches on them takes the same branches.
    """
    device = next((p.device for p in subject.model.parameters()), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    made: dict[int, torch.Tensor] = {}

    def real(value: Any) -> Any:  # noqa: ANN401  # any input
        if not isinstance(value, torch.Tensor):
            return value
        if id(value) not in made:  # a tensor that is passed twice stays one tensor
            filled = value_in(value, generator)
            made[id(value)] = filled.to(device) if value.is_meta else filled.to(value.device)
        return made[id(value)]

    args = [stand_in(a) for a in subject.args]
    kwargs = {k: stand_in(v) for k, v in subject.kwargs.items()}
    args, kwargs = tree_map(real, (args, kwargs))
    return Subject(subject.model, tuple(args), kwargs)


def cannot_run(profile: Profile, subject: Subject) -> str:
    """Why a run with values is impossible here; "" where it is not."""
    if any(p.is_meta for p in subject.model.parameters()):
        return "the parameters have no storage"
    need, free = 2 * profile.totals.peak_bytes, available_memory()
    if free is not None and need > free:
        return f"its run would need about {need / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free"
    return ""


class Flat(nn.Module):
    """The model as a function of a flat row of tensors to a flat row of tensors, which is all that a tracer takes.

    Attributes:
        model: the model; its modules keep their names behind this one.
        tensors: the tensors among its inputs.
    """

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self.model = subject.model
        self._call = (subject.args, dict(subject.kwargs))
        self.tensors = tuple({id(t): t for t in tensors_of(self._call)}.values())
        self._places = {id(t): n for n, t in enumerate(self.tensors)}

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Call the model and return the tensors in its output, each as a result of this call."""
        args, kwargs = tree_map(lambda v: tensors[self._places[id(v)]] if id(v) in self._places else v, self._call)
        return tuple(torch.ops.aten.alias(t) for t in output_tensors(self.model(*args, **kwargs)))


def output_tensors(value: Any) -> list[torch.Tensor]:  # noqa: ANN401  # whatever a model returns
    """All tensors in a model's output: nests, dataclasses, and objects that hold them as attributes; each once."""
    return list({id(t): t for t in _found(value, set())}.values())


def _found(value: Any, seen: set[int]) -> Iterator[torch.Tensor]:  # noqa: ANN401  # as above
    if isinstance(value, torch.Tensor):
        yield value
        return
    if id(value) in seen or isinstance(value, nn.Module | type) or callable(value):
        return
    seen.add(id(value))
    if isinstance(value, dict):
        parts = list(value.values())
    elif isinstance(value, list | tuple | set):
        parts = list(value)
    elif dataclasses.is_dataclass(value):
        parts = [getattr(value, f.name, None) for f in dataclasses.fields(value)]
    else:
        parts = list(getattr(value, "__dict__", {}).values())
    for part in parts:
        yield from _found(part, seen)
