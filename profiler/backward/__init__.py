"""The backward half of a training step, counted from the operators that autograd runs.

The model is run with gradients enabled on tensors without storage, in the mode (training or evaluation) that it is in,
and the sum of its floating-point outputs is differentiated for every parameter that requires a gradient: no loss of
netgauge's own, and no gradient of the inputs, as in a training step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from profiler.backward.counting import Pass
from profiler.backward.mode import NeedsValuesError
from profiler.backward.stand_ins import Keep
from profiler.compiled import as_written
from profiler.errors import ModelError
from profiler.inventory import take_inventory
from profiler.lazy import initialized, lazy_layers
from profiler.profile import Backward
from profiler.walk import stand_in


def backward_pass(
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    inputs: bool = False,
) -> Backward:
    """Count what the backward pass of a training step computes.

    Args:
        model: left as it is: parameters, gradients, buffers, hooks, training flags, random state. It is run in the
            mode that it is in: call `model.train()` before for dropout and batch statistics.
        args: tensors of any device, shapes, or nests of them.
        kwargs: the same by name.
        inputs: compute the gradients of the floating-point inputs, too.

    Returns:
        One row per operator of the backward pass, under the module call whose forward operator it differentiates, and
        the peak of activations and gradients over both passes.

    Raises:
        ModelError: the model fails, or nothing that it returns depends on a parameter that requires a gradient.
    """
    model = as_written(model)
    if lazy_layers(take_inventory(model)):
        named = {name: stand_in(value) for name, value in (kwargs or {}).items()}
        model = initialized(model, [stand_in(a) for a in args], named)
    notes = _of_the_mode(model)
    for keep in (Keep.INTEGERS, Keep.CONSTANTS):
        try:
            return replace(Pass(model, keep).run(args, kwargs or {}, inputs=inputs), notes=notes)
        except NeedsValuesError as needed:
            reason = needed
    if any(p.is_meta for p in model.parameters()):
        raise ModelError(f"{reason}; that takes real tensors, but the model's parameters have no storage") from reason
    found = Pass(model, Keep.ALL).run(args, kwargs or {}, inputs=inputs)
    return replace(found, notes=(*notes, f"backward pass: run on real tensors ({reason})"))


_EVALUATION = (
    "backward pass: in evaluation mode, without dropout and with the batch norms' fixed statistics; "
    "call model.train() before, or pass --train, to count a training step"
)


def _of_the_mode(model: nn.Module) -> tuple[str, ...]:
    """A training step of a model in evaluation mode is seldom what is meant."""
    differs = nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd  # noqa: SLF001  # torch has no public name
    if not any(isinstance(module, differs) and not module.training for module in model.modules()):
        return ()
    return (_EVALUATION,)


__all__ = ["backward_pass"]
