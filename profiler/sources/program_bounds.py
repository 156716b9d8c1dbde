"""Bounds on what a program may compute with values while it is followed.

The walk keeps the values of small tensors, masks and positions, because models branch on them. A file that nobody
vouches for could make much of that: a row of numbers repeated a million times, products of integers without end. What
goes beyond the bounds here is followed by its size alone, as large tensors are.
"""

from math import inf
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from profiler.aten import Call, find
from profiler.environment import available_memory
from profiler.errors import ModelError
from profiler.sources.program_targets import Target

# Elements that one operator may make of far fewer, and integers that a whole run may compute.
_MOST_MADE = 1 << 26
_FAR_FEWER = 64
_MOST_INTEGERS = 1 << 33
# Operators whose result is as large as their values say.
_SIZED_BY_VALUES = frozenset(f"aten.{name}" for name in ("repeat_interleave", "one_hot", "bincount"))


class Bounds:
    """What one run has computed with integer values so far."""

    def __init__(self) -> None:
        self._integers = 0
        self._most = (available_memory() or inf) / 16  # elements of eight bytes that fill half of it

    def called(self, target: Target, args: list[Any], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401  # what it gives
        """Call a target, without the values of its arguments where it goes beyond a bound.

        Raises:
            ModelError: it may not see values, and there is nothing to follow by size, or what runs is a tracer.
        """
        function = target.function
        tensors = tensors_in([*args, *kwargs.values()])
        if any(t.is_meta for t in tensors):  # it is followed by sizes anyway
            return function(*args, **kwargs)
        # Nothing public tells whether TorchScript traces.
        tracing = torch._C._get_tracing_state() is not None or torch.compiler.is_compiling()  # noqa: SLF001
        if not target.documented and (tracing or not tensors):
            raise ModelError(f"{function} is not run on values: what it does with any is not documented")
        if tracing or (
            target.documented and self._within(target, args, kwargs, tensors)
        ):  # a tracer would note ours, too
            return function(*args, **kwargs)
        args, kwargs = _hollow_call(target, args, kwargs)
        if tensors:
            return function(*args, **kwargs)
        with _disable_current_modes():  # a walk with values would give it some
            return function(*args, **kwargs)

    def _within(self, target: Target, args: list[Any], kwargs: dict[str, Any], tensors: list[torch.Tensor]) -> bool:
        taken = sum(t.numel() for t in tensors)
        made, macs = _planned(target, args, kwargs, tensors)
        if made > self._most or (tensors and made > _MOST_MADE and made > _FAR_FEWER * taken):
            return False
        if any(t.is_floating_point() or t.is_complex() for t in tensors):
            return True
        self._integers += taken + made + macs
        return self._integers <= _MOST_INTEGERS


def hollow(value: Any) -> Any:  # noqa: ANN401  # any argument
    """The same without values: tensors, also in lists, by their sizes and strides alone."""
    if isinstance(value, torch.Tensor):
        with _disable_current_modes():
            return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
    if isinstance(value, list):
        return [hollow(v) for v in value]
    return value


def tensors_in(values: list[Any]) -> list[torch.Tensor]:
    """The tensors among arguments, also in lists."""
    found = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, list):
            found += tensors_in(value)
    return found


def _hollow_call(target: Target, args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments without values, and what they make without any."""
    named = {name: hollow(value) for name, value in kwargs.items()}
    if "device" in target.keyword_only:
        named["device"] = torch.device("meta")
    return [hollow(value) for value in args], named


def _planned(target: Target, args: list[Any], kwargs: dict[str, Any], tensors: list[torch.Tensor]) -> tuple[int, int]:
    """Elements that a call would make, and its multiply-accumulates; nothing where neither sizes nor values tell."""
    function = target.function
    if not isinstance(function, torch._ops.OpOverload):  # noqa: SLF001  # torch has no public name for it
        return 0, 0
    positional, named = _hollow_call(target, args, kwargs)
    with _disable_current_modes():
        try:
            result = function(*positional, **named)
        except Exception:  # noqa: BLE001  # torch says in any way that it takes values; the call will say what is wrong
            return _by_values(function, tensors), 0
    outputs = tensors_in([list(result) if isinstance(result, tuple) else result])
    call = Call(function, tuple(positional), named, tuple(outputs))
    operator = find(call.packet)
    macs = operator.cost(call).macs if operator and operator.cost and outputs else 0
    return sum(t.numel() for t in outputs), macs


def _by_values(function: torch._ops.OpOverload, tensors: list[torch.Tensor]) -> int:
    """No fewer elements than such an operator makes of these."""
    if str(function.overloadpacket) not in _SIZED_BY_VALUES:
        return 0
    values = sum(int(t.abs().double().sum()) for t in tensors if not t.is_floating_point() and not t.is_complex())
    return (values + 1) * sum(t.numel() for t in tensors)
