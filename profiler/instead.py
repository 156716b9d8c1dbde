"""Instead of a kernel: a result by the documented formula, and the checks that a kernel would have made."""

from typing import Any

import torch

from profiler.aten.call import Call, Operator, tensors_of
from profiler.errors import FormulaError
from profiler.formulas.dense import broadcast_shape

# Operators whose CPU kernels lay out their result otherwise than torch's kernels without storage.
_LAYOUT_OF_THE_CPU = frozenset(
    f"aten.{name}"
    for name in (
        *("scaled_dot_product_attention", "lstm", "gru", "rnn_tanh", "rnn_relu", "group_norm", "batch_norm"),
        *("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
        *("upsample_bicubic2d", "upsample_trilinear3d", "max_pool1d", "_grouped_mm"),
    )
)


def by_formula(call: Call, operator: Operator) -> Any:  # noqa: ANN401  # the operator's result
    """The result that the operator's formula describes, None where it has none or the arguments do not fit it."""
    if operator.make is None or operator.shape is None:
        return None
    check_rows(call)
    shape = operator.shape(call)
    return None if shape is None else operator.make(call, shape)


def compare(call: Call, made: Any, theirs: Any, where: str) -> None:  # noqa: ANN401  # two results
    """Raise where a formula's result and torch's differ in size, type or layout.

    Raises:
        FormulaError: they differ.
    """
    layout = call.packet not in _LAYOUT_OF_THE_CPU
    for mine, torchs in zip(tensors_of(made), tensors_of(theirs), strict=True):
        ours, expected = _described(mine, layout=layout), _described(torchs, layout=layout)
        if ours != expected:
            raise FormulaError(
                f"{where}: the documented formula gives {ours}, torch says {expected}. "
                f"This is a defect of netgauge; please report it with the call's input sizes."
            )


def _described(tensor: torch.Tensor, *, layout: bool) -> tuple[Any, ...]:
    strides = tuple(step for step, size in zip(tensor.stride(), tensor.shape, strict=True) if size != 1)
    return tuple(tensor.shape), tensor.dtype, strides if layout else None


def integral(call: Call) -> bool:
    """Whether no floating-point number goes in or comes out."""
    tensors = (*call.outputs, *call.tensors)
    return not any(t.is_floating_point() or t.is_complex() or t.is_quantized for t in tensors)


def check_rows(call: Call) -> None:
    """What a kernel with storage would refuse: rows that a table does not have."""
    if call.packet != "aten.embedding":
        return
    if call["indices"].is_floating_point():
        size = ", ".join(map(str, call.shape("indices")))
        raise TypeError(f"indices must be whole numbers; pass torch.zeros({size}, dtype=torch.int64) for a size alone")
    if not call["indices"].is_meta and call["indices"].numel():
        low, high = int(call["indices"].min()), int(call["indices"].max())
        if low < 0 or high >= call["weight"].shape[0]:
            raise IndexError(f"indices run from {low} to {high}, the table has {call['weight'].shape[0]} rows")


def check_fit(call: Call, target: torch.Tensor) -> None:
    """An in-place operator's operands must broadcast to what it writes; indices and masks have rules of their own."""
    if "index" in call.packet or "scatter" in call.packet:
        return
    shape = broadcast_shape(*[tuple(t.shape) for t in call.tensors])
    if shape != tuple(target.shape):
        raise RuntimeError(f"a result of size {list(shape)} does not fit into the tensor of size {list(target.shape)}")
