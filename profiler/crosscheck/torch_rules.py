"""What torch.utils.flop_counter documents that it counts, operator by operator (torch 2.13.0).

FlopCounterMode sees what is left once torch has split its composite operators: linear, matmul, einsum, attention and
recurrences come to it as mm, addmm, bmm and convolution. Which of mm, addmm and bmm it is depends on strides; the
count does not, so that the three, and baddbmm, are one kind here. Nothing here reads the counter's formulas: the rules
are restated from its documentation. Rules give multiply-accumulates; the counter reports two operations for each.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from profiler.aten.call import Call, tensors_of
from profiler.aten.convolution import geometry
from profiler.crosscheck.on_meta import without
from profiler.crosscheck.result import PeerRule

PRODUCT, CONVOLUTION = "matrix product", "convolution"
# The operators that the counter has formulas for, and the kind of row that each is part of.
KINDS = {
    **dict.fromkeys(("aten.mm", "aten.addmm", "aten.bmm", "aten.baddbmm", "aten._scaled_mm"), PRODUCT),
    **dict.fromkeys(("aten.convolution", "aten._convolution", "aten.convolution_overrideable"), CONVOLUTION),
}
VECTOR = "torch runs a product with a vector as mv or dot, and its counter has no formula for them: it counts 0"
FEWER = (
    "torch does an einsum in fewer products where an index is 1 long or one operand alone has it, or of three operands"
)


def _convolution(call: Call) -> int:
    """Batch times weight elements times positions; a transposed convolution's positions are its input's."""
    weight = call.shape("weight")
    axes = len(weight) - 2
    positions = call.shape("input") if geometry(call).transposed else call.out
    batch = call.shape("input")[0] if len(call.shape("input")) == axes + 2 else 1
    return batch * prod(weight) * prod(positions[-axes:])


def _product(call: Call) -> int:
    """Every output element is one sum over the inner size."""
    left = next(name for name in ("mat1", "batch1", "self") if name in call)
    return call.out_elements * call.shape(left)[-1]


def _linear(call: Call) -> int:
    return call.out_elements * call.shape("input")[-1] if len(call.shape("weight")) == 2 else 0


def _matmul(call: Call) -> int:
    """Two vectors are a dot, matrix and vector an mv; so is a stack of matrices that lies in memory as one matrix."""
    left, right = call["self"], call["other"]
    if right.dim() == 1 and (left.dim() <= 2 or _one_matrix(left)):
        return 0
    if left.dim() == 1 and right.dim() >= 3 and _one_matrix(right.mT):
        return 0
    return call.out_elements * call.shape("self")[-1]


def _one_matrix(stack: torch.Tensor) -> bool:
    """Whether the leading axes can be joined without a copy; one of size 1 is always joined."""
    shape, strides = stack.shape, stack.stride()
    joined = [(size, step) for size, step in zip(shape[:-1], strides[:-1], strict=True) if size != 1]
    return stack.numel() == 0 or all(a[1] == b[1] * b[0] for a, b in pairwise(joined))


def _attention(call: Call) -> int:
    """Scores and weighted sums; keys and values are repeated where queries have more heads."""
    *batch, queries, _ = call.out
    keys = call.shape("key")[-2]
    return prod(batch) * queries * keys * (call.shape("query")[-1] + call.shape("value")[-1])


def _recurrence(call: Call) -> int:
    """Every weight matrix once for each sample at each time."""
    first = "data" if "data" in call else "input"
    rows = prod(call.shape(first)[:-1])
    return rows * sum(p.numel() for p in call.tensors if p.dim() == 2 and p is not call[first])


def _cell(call: Call) -> int:
    rows = prod(call.shape("input")[:-1])
    return rows * (prod(call.shape("w_ih")) + prod(call.shape("w_hh")))


def _by_a_vector(call: Call) -> bool:
    return call.out_elements > 0 and _matmul(call) == 0


def _in_fewer_products(call: Call) -> bool:
    """Whether torch may do an einsum in fewer products than one for every combination of its indices."""
    left, arrow, right = str(call["equation"]).replace(" ", "").partition("->")
    operands = left.split(",")
    alone = (c for c in left if c.isalpha() and sum(c in operand for operand in operands) == 1)
    return len(operands) != 2 or any(1 in t.shape for t in call.tensors) or any(arrow and c not in right for c in alone)


def _composite(func: torch._ops.OpOverload) -> bool:
    """Whether torch splits the operator into others before any counter sees it."""
    key, name = torch._C.DispatchKey.CompositeImplicitAutograd, func._schema.name  # noqa: SLF001  # no public way
    overload = func._schema.overload_name  # noqa: SLF001  # as above
    full = f"{name}.{overload}" if overload else name
    return key in func.py_kernels or bool(torch._C._dispatch_has_kernel_for_dispatch_key(full, key))  # noqa: SLF001  # as above


class _Split(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves its hook untyped
    """Splits composite operators as torch does and adds up the products and convolutions they come to."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.count = 0

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        _types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  # what the operator returns
        """Run one operator, or what it is made of."""
        kwargs = kwargs or {}
        with self:
            result = func.decompose(*args, **kwargs)
        if result is NotImplemented:
            result = func(*args, **kwargs)
            call = Call(func, args, kwargs, tuple(tensors_of(result)))
            if call.packet in KINDS:
                self.count += RULES[call.packet].count(call)
        return result


def split(call: Call) -> int:
    """What a composite operator comes to, by the rules above, on tensors of the same sizes without storage.

    0 where that takes values.
    """
    args, kwargs = tree_map(without, (call.args, call.kwargs))
    mode = _Split()
    try:
        mode.__torch_dispatch__(call.func, (), args, kwargs)
    except RuntimeError:  # of which NotImplementedError is one
        return 0
    return mode.count


_PRODUCT = PeerRule(PRODUCT, _product)
_CONV = PeerRule(CONVOLUTION, _convolution)
_RNN = PeerRule(PRODUCT, _recurrence)
_CELL = PeerRule(PRODUCT, _cell)

RULES: dict[str, PeerRule] = {
    **{f"aten.conv{n}d": _CONV for n in (1, 2, 3)},
    **{f"aten.conv_transpose{n}d": _CONV for n in (1, 2, 3)},
    **dict.fromkeys(("aten.convolution", "aten._convolution"), _CONV),
    **dict.fromkeys(("aten.mm", "aten.bmm", "aten.addmm", "aten.baddbmm", "aten._scaled_mm"), _PRODUCT),
    "aten.linear": PeerRule(PRODUCT, _linear, VECTOR, when=lambda call: call["weight"].dim() == 1),
    **dict.fromkeys(("aten.matmul", "aten.linalg_matmul"), PeerRule(PRODUCT, _matmul, VECTOR, when=_by_a_vector)),
    "aten.einsum": PeerRule(PRODUCT, split, FEWER, when=_in_fewer_products),
    "aten.scaled_dot_product_attention": PeerRule(PRODUCT, _attention),
    **{f"aten.{name}": _RNN for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
    **{f"aten.{name}_cell": _CELL for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
}


def rule_for(call: Call) -> PeerRule | None:
    """The counter's rule for a call, None where it counts nothing."""
    rule = RULES.get(call.packet)
    if rule is None and _composite(call.func) and split(call):
        return PeerRule(PRODUCT, split)
    return rule
