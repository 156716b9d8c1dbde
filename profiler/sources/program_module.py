"""A torch.export program as a module: the tree of modules it was exported from, run by its plan.

Every module of the original is a holder here: its class has the original's name, its parameters and buffers have the
names they had. Forward runs the operators in order; those that lay in a module's forward are run by a call of its
holder, so that whoever follows module calls sees the ones of the original. No code of the original's is involved.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from profiler.errors import ModelError, UsageError
from profiler.sources.program_bounds import Bounds
from profiler.sources.program_plan import Block, Plan, Slot, Step

Held = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the program's forward.

    Attributes:
        name: as the program calls it.
        check: from what was given to what is run on; raises where it does not fit.
        default: what is taken where nothing is given; `inspect.Parameter.empty` where something must be.
    """

    name: str
    check: Callable[[Any], Any]
    default: Any = inspect.Parameter.empty


class Holder(nn.Module):
    """Stands for a module of the original: it holds its parameters and runs the operators that lay in its forward."""

    def forward(self, run: Callable[[], None]) -> None:
        """Run them."""
        run()


class ProgramModule(nn.Module):
    """The whole program; its inputs and outputs are flat."""

    def train(self, mode: bool = True) -> "ProgramModule":  # noqa: FBT001, FBT002  # nn.Module's
        """Evaluation mode only.

        Raises:
            UsageError: training mode was asked for.
        """
        if mode:
            raise UsageError("--train is about modules; an exported program is in the mode that it was exported in")
        return super().train(mode)


def built(
    plan: Plan,
    held: Sequence[tuple[str, str, torch.Tensor]],
    parameters: Sequence[Parameter],
    modules: Sequence[str],
    check: Callable[[Mapping[str, Any]], None],
) -> ProgramModule:
    """The module that runs a plan.

    Args:
        plan: of the program's graph.
        held: tensors that the module holds: each with the name that the graph knows it by, and its dotted name.
        parameters: of its forward, in order.
        modules: dotted paths of all modules in the original, in order.
        check: looks at all inputs together, by name, and raises where they do not fit each other.

    Raises:
        ModelError: names that make no tree, or no signature.
    """
    signature = _signature(parameters)

    def forward(self: ProgramModule, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # as the program takes
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = {p.name: p.check(bound.arguments[p.name]) for p in parameters}
        check(given)
        values: list[Any] = [None] * plan.places
        holders = dict(self.named_modules())  # those of this one, which may be a copy
        for name, (owner, own_name) in owners.items():
            values[plan.inputs[name].number] = _held(holders[owner], own_name)
        for name, value in given.items():
            if name in plan.inputs:
                values[plan.inputs[name].number] = value
        _run(plan.body, holders, values, Bounds())
        outputs = tuple(_filled(v, values) for v in plan.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    forward.__signature__ = signature.replace(  # type: ignore[attr-defined]  # what inspect looks at first
        parameters=[own, *signature.parameters.values()]
    )
    root: ProgramModule = _class(plan.frames.get("", "Program"), ProgramModule, forward)()
    holders = _tree(root, plan.frames, modules)
    owners = {name: _hung(holders, path, tensor) for name, path, tensor in held}
    return root


def _class(name: str, base: type[nn.Module], forward: Callable[..., Any] | None = None) -> Any:  # noqa: ANN401  # a class
    names: dict[str, Any] = {"__module__": __name__, "__doc__": base.__doc__}
    return type(name, (base,), {**names, "forward": forward} if forward else names)


def _signature(parameters: Sequence[Parameter]) -> inspect.Signature:
    try:
        return inspect.Signature(
            [
                inspect.Parameter(p.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=p.default)
                for p in _defaults_last(parameters)
            ]
        )
    except ValueError as error:
        raise ModelError(f"the program's inputs make no signature: {error}") from error


def _defaults_last(parameters: Sequence[Parameter]) -> list[Parameter]:
    """Python takes no parameter without a default behind one with it; a constant in between must be passed."""
    empty = inspect.Parameter.empty
    last = max((n for n, p in enumerate(parameters) if p.default is empty), default=-1)
    return [Parameter(p.name, p.check) if n < last else p for n, p in enumerate(parameters)]


def _tree(root: nn.Module, types: Mapping[str, str], modules: Sequence[str]) -> dict[str, nn.Module]:
    """Every module by its path, hung into the root."""
    holders: dict[str, nn.Module] = {"": root}
    classes: dict[str, Any] = {}
    for path in (*modules, *types):
        _holder(holders, path, types, classes)
    return holders


def _holder(holders: dict[str, nn.Module], path: str, types: Mapping[str, str], classes: dict[str, Any]) -> nn.Module:
    """The module of a path, made with those above it where it is not there yet."""
    above, at = holders[""], ""
    for name in path.split(".") if path else ():
        if not name:
            raise ModelError(f"the program has a module of the name {path[:100]!r}")
        at = f"{at}.{name}" if at else name
        if at not in holders:
            kind = types.get(at, "Module")
            if kind not in classes:
                classes[kind] = _class(kind, Holder)
            holders[at] = above._modules[name] = classes[kind]()  # noqa: SLF001  # any name is fit, also one of nn.Module's
        above = holders[at]
    return above


def _hung(holders: dict[str, nn.Module], path: str, tensor: torch.Tensor) -> tuple[str, str]:
    """Hang a tensor into the module that it belongs to; gives that module's path and its name there."""
    above, _, name = path.rpartition(".")
    owner = _holder(holders, above, {}, {})
    if not name or name in owner._modules:  # noqa: SLF001  # as above
        raise ModelError(f"the program has a tensor of the name {path[:100]!r}")
    place: dict[str, Any] = owner._parameters if isinstance(tensor, nn.Parameter) else owner._buffers  # noqa: SLF001
    place[name] = tensor
    return above, name


def _held(owner: nn.Module, name: str) -> torch.Tensor:
    found = owner._parameters.get(name)  # noqa: SLF001  # as above
    return found if found is not None else owner._buffers[name]  # type: ignore[return-value]  # noqa: SLF001


# Running -----------------------------------------------------------------------------------------------------------


def _run(block: Block, holders: Mapping[str, nn.Module], values: list[Any], bounds: Bounds) -> None:
    for step in block.steps:
        if isinstance(step, Step):
            _do(step, values, bounds)
        elif step.frame is not None:
            holders[step.frame.path](partial(_run, step, holders, values, bounds))
        elif step.context is not None:
            with step.context():
                _run(step, holders, values, bounds)


def _do(step: Step, values: list[Any], bounds: Bounds) -> None:
    args = [_filled(value, values) for value in step.args]
    kwargs = {name: _filled(value, values) for name, value in step.kwargs.items()}
    _keep(step.outputs, bounds.called(step.target, args, kwargs), values)
    for number in step.dead:
        values[number] = None


def _filled(value: Any, values: list[Any]) -> Any:  # noqa: ANN401  # any argument
    if type(value) is Slot:
        return values[value.number]
    if type(value) is list:
        return [_filled(v, values) for v in value]
    if type(value) is dict:
        return {k: _filled(v, values) for k, v in value.items()}
    return value


def _keep(place: Any, result: Any, values: list[Any]) -> None:  # noqa: ANN401  # what an operator gives
    if type(place) is Slot:
        values[place.number] = result
    elif isinstance(place, list) and place:
        if not isinstance(result, list | tuple) or len(result) != len(place):
            raise ModelError(f"an operator gives {_count(result)} where the program expects {len(place)} results")
        for p, r in zip(place, result, strict=True):
            _keep(p, r, values)


def _count(result: Any) -> int:  # noqa: ANN401  # as above
    return len(result) if isinstance(result, list | tuple) else 1
