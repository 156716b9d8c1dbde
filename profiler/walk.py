"""Runs a module on tensors without storage and shows every operator call to a visitor.

The dispatch mode (`profiler.mode`) sits under autograd, where torch's composite operators (linear, matmul,
scaled_dot_product_attention, lstm) still arrive whole, each with the arguments its documentation names. A model that
branches on a computed floating-point value cannot be followed without values; it is run on real tensors, and the
reader is told.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from profiler.aten.call import tensors_of
from profiler.axes import Settled, Settling, ambiguous, input_axes, likely_sequence, traced_inputs
from profiler.compiled import as_written
from profiler.errors import ModelError, NetgaugeError
from profiler.hints import hint, where_raised
from profiler.inventory import Inventory, take_inventory
from profiler.memory import Memory
from profiler.mode import NeedsValues, WalkMode, field_of
from profiler.receptive.field import TensorField
from profiler.step import Visitor
from profiler.undisturbed import undisturbed, watched

# How torch says, in Python, that a tensor has no values.
_NO_VALUES = ("meta", "unallocated storage", "no data")
_LAYOUTS = (torch.strided, torch.sparse_coo)
# Axes of an input along which fields are followed, by its size and type.
Axes = Callable[[Sequence[int], torch.dtype], tuple[int, ...]]
_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def stand_in(value: Any) -> Any:  # noqa: ANN401  # any input
    """A tensor for an input that is given as a shape, also inside a nest; everything else as it is.

    Inside a nest a shape is a tuple: a list of numbers there is a list of numbers.

    Raises:
        ModelError: a tensor that is laid out in a way that cannot be followed.
    """
    if isinstance(value, torch.Tensor) and (value.is_nested or value.layout not in _LAYOUTS):
        layout = "nested" if value.is_nested else str(value.layout).removeprefix("torch.")
        raise ModelError(f"an input is a {layout} tensor, which cannot be followed; pass the dense or padded one")
    if isinstance(value, torch.Size | tuple | list) and value and all(type(n) is int for n in value):
        return torch.empty(tuple(value), device="meta")
    if type(value) in (list, tuple, dict, OrderedDict):
        return _nested(value)
    return value


def _nested(nest: Any) -> Any:  # noqa: ANN401  # a list, tuple or dictionary
    def inside(value: Any) -> Any:  # noqa: ANN401  # any input
        return value if isinstance(value, list) and all(type(n) is int for n in value) else stand_in(value)

    if isinstance(nest, dict):
        return type(nest)((key, inside(value)) for key, value in nest.items())
    return type(nest)([inside(value) for value in nest])


def walk(
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    visit: Visitor,
    *,
    restart: Callable[[str], None] | None = None,
    checked: bool = False,
    inventory: Inventory | None = None,
    fields: bool = True,
) -> Memory:
    """Run `model(*args, **kwargs)` without storage and show each operator call to `visit`.

    The receptive fields refer to each floating-point input that has spatial axes, or to the first sequence of tokens.

    Args:
        model: left as it is: parameters, buffers, hooks, training flags, devices.
        args: tensors of any device, shapes, or nests of them; other values are passed on as they are.
        kwargs: the same by name.
        visit: called once per operator call, in order.
        restart: called when the walk begins anew: what `visit` was shown so far is void. With the reason where it does
            so on real tensors, because the model reads computed values; without `restart` such a model is an error.
        inventory: of the model, where it has been taken already.
        fields: follow receptive fields. Which axis of inputs of three they are followed along shows only where the
            model takes one for features: a walk along the wrong one begins anew. Without `restart`, which that takes,
            the first layers are called once before.
        checked: compare the size, type and layout that a formula gives with torch's own, at every call.

    Returns:
        The account of activation memory.

    Raises:
        ModelError: the model raised; the message names the module and the operator it was in.
        FormulaError: `checked`, and a documented formula and torch disagree.
    """
    model = as_written(model)
    inventory = inventory or take_inventory(model)
    run = partial(_walk, model, inventory, args, kwargs, checked=checked)
    axes: Axes | None = input_axes if fields else None
    if fields and ambiguous(tensors_of([[stand_in(a) for a in args], {k: stand_in(v) for k, v in kwargs.items()}])):
        memory, axes = _settling(run, visit, restart, likely_sequence(inventory.modules) if restart else None)
        if memory is not None:
            return memory
    try:
        return run(visit, real=False, axes=axes)
    except NeedsValues as needed:
        missing = _without_storage(model)
        if restart is None or missing:
            raise ModelError(
                f"{needed.where}: the model reads values that it computed ({needed.reason}), which takes real tensors"
                + (f", but {missing} has no storage; load its weights" if missing else "")
            ) from needed
        restart(f"run on real tensors, because {needed.where} reads values that it computed ({needed.reason})")
    try:
        return run(visit, real=True, axes=axes)
    except NeedsValues as needed:
        raise ModelError(f"{needed.where}: {needed.reason}") from needed


def _settling(
    run: Callable[..., Memory], visit: Visitor, restart: Callable[[str], None] | None, likely: int | None
) -> tuple[Memory | None, Axes]:
    """A walk along the likely axis of inputs of three, which is the walk where the axis proves right, and that axis.

    Where the visitor cannot be asked to forget, the walk goes no further than to the first operator that tells.
    """
    settling = Settling(likely, visit if restart else None)
    axes: Axes = partial(input_axes, sequence=likely)
    try:
        memory = run(settling, real=False, axes=axes)
        settling.end()
    except Settled as settled:
        axes = partial(input_axes, sequence=settled.sequence)
    except (NetgaugeError, NeedsValues):  # the walk itself comes to the same end, and says so
        axes = axes if settling.settled else input_axes
    else:
        if restart:
            return memory, axes
    if restart:
        restart("")
    return None, axes


def _without_storage(model: nn.Module) -> str:
    return next((name for name, p in model.named_parameters() if p.is_meta), "")


def _walk(
    model: nn.Module,
    inventory: Inventory,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    visit: Visitor,
    *,
    checked: bool,
    real: bool,
    axes: Axes | None,
) -> Memory:
    memory = Memory()
    mode = WalkMode(inventory, visit, memory, checked=checked, real=real)
    generator = torch.Generator().manual_seed(0)

    def admit(value: Any) -> Any:  # noqa: ANN401  # any input
        return mode.admit_input(value, generator) if isinstance(value, torch.Tensor) else value

    given = (tree_map(admit, [stand_in(a) for a in args]), tree_map(admit, {k: stand_in(v) for k, v in kwargs.items()}))
    inputs = tensors_of(given)
    for tensor in inputs:
        memory.allocate(tensor.untyped_storage())
    traced = traced_inputs(inputs) if axes else []
    if axes and traced:
        for tensor, field in zip(
            traced, TensorField.of_inputs([(t.shape, axes(t.shape, t.dtype)) for t in traced]), strict=True
        ):
            mode.set_field(tensor, field)
    target = as_written(model.module) if isinstance(model, _WRAPPERS) else model
    try:
        with _running(inventory, mode):
            target(*given[0], **given[1])
    except (NetgaugeError, NeedsValues):
        raise
    except (Exception, SystemExit) as error:
        shapes = ", ".join("x".join(map(str, t.shape)) for t in inputs) or "none"
        reason = str(error).strip().split("\n")[0]
        if not real and (isinstance(error, NotImplementedError) or any(sign in reason.lower() for sign in _NO_VALUES)):
            raise NeedsValues(mode.place_of(error), reason.partition(". ")[0]) from error
        where = where_raised(mode.place_of(error), error, WalkMode.__torch_dispatch__)
        raise ModelError(
            f"the model failed in {where} on inputs of size {shapes}: "
            f"{type(error).__name__}: {reason}{hint(target, reason)}"
        ) from error
    return memory


@contextmanager
def _running(inventory: Inventory, mode: WalkMode) -> Iterator[None]:
    with (
        undisturbed(inventory.modules, wrapped=inventory.compiled),
        watched(inventory.modules, inventory.paths, mode.followed, mode.ended),
        torch.no_grad(),
        torch._C._AutoDispatchBelowAutograd(),  # noqa: SLF001  # pinned by a test
    ):
        try:
            with mode:
                yield
        finally:
            mode.foreign.put_back()


__all__ = ["field_of", "input_axes", "stand_in", "walk"]
