"""Where a model failed, and what to try where it did in a way that many do."""

import inspect
import re
import traceback
from collections.abc import Callable

from torch import nn

_CALLED = "required positional argument|unexpected keyword argument|takes .* positional argument"
_HINTS = (
    ("more than 1 value per channel", "give a batch of 2 or more, or call model.eval() before"),
    (
        "does not require grad",
        "gradients taken inside forward cannot be followed; pass the part that is differentiated",
    ),
    ("compiled with CUDA", "forward names a device that this machine lacks; use the device of its inputs"),
    ("recursion depth", "does the model call itself without end?"),
    ("Nested", "nested tensors cannot be followed; pad the sequences and pass a mask"),
    ("Sparse", "sparse tensors cannot be followed; pass the dense one"),
    ("HigherOrderOperator", "its operator takes functions and cannot be followed; use its plain counterpart"),
    (
        "reduction dim|must match|cannot be multiplied|invalid for input of size|to have .* channels",
        "check the input sizes",
    ),
)


def where_raised(where: str, error: BaseException, dispatch: Callable[..., object]) -> str:
    """A module and its last operator, for messages: an exception that the operator did not raise came after it.

    Args:
        where: the module and, behind a comma, the operator.
        error: the exception.
        dispatch: the function that runs operators.
    """
    codes = (frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__))
    module, comma, operator = where.rpartition(", ")
    return f"{module}, after {operator}" if comma and dispatch.__code__ not in codes else where


def hint(model: nn.Module, reason: str) -> str:
    """Advice on an error of torch's or of the model's, to be put behind its words; "" where there is none."""
    if re.search(_CALLED, reason):
        return f"; its forward takes {_signature(model.forward)}"
    return next((f"; {advice}" for sign, advice in _HINTS if re.search(sign, reason)), "")


def _signature(function: Callable[..., object]) -> str:
    try:
        names = [str(p).partition(":")[0].partition(" = ")[0] for p in inspect.signature(function).parameters.values()]
    except (ValueError, TypeError):
        return "something else"
    return f"({', '.join(names)})"
