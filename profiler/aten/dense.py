"""Fully connected layers, matrix products, attention and recurrence: ATen arguments to formulas."""

from math import isqrt, prod
from typing import Any

import torch

from profiler.aten.allocate import FLOATS, empty, like_first, rows
from profiler.aten.call import Call, Cost, Operator, Shape
from profiler.formulas.attention import attention_flops, attention_macs
from profiler.formulas.dense import einsum_cost, einsum_shape, linear_macs, matmul_macs, matmul_shape
from profiler.formulas.recurrent import Recurrence


def _linear_cost(call: Call) -> Cost:
    x, weight = call.shape("input"), call.shape("weight")
    macs = linear_macs(prod(x[:-1]), x[-1], weight[0])
    return Cost(macs, 2 * macs + (call.out_elements if call["bias"] is not None else 0))


def _linear_shape(call: Call) -> Shape | None:
    x, weight = call.shape("input"), call.shape("weight")
    return (*x[:-1], weight[0]) if len(weight) == 2 and x and x[-1] == weight[1] else None


def _operands(call: Call) -> tuple[Shape, Shape]:
    """Shapes of the two factors, whatever the overload calls them."""
    for left, right in (("mat1", "mat2"), ("batch1", "batch2"), ("mat", "vec")):
        if left in call and right in call:
            return call.shape(left), call.shape(right)
    right = next(name for name in ("other", "mat2", "vec", "tensor", "vec2") if name in call)
    return call.shape("self"), call.shape(right)


def _product_shape(call: Call) -> Shape | None:
    left, right = _operands(call)
    if not left or not right or left[-1] != right[max(len(right) - 2, 0)]:
        return None
    try:
        return matmul_shape(left, right)
    except ValueError:
        return None


def _product(call: Call, shape: Shape) -> torch.Tensor | None:
    """A small left factor beside a batch is multiplied the other way round and comes out transposed: torch's case."""
    left, right = _operands(call)
    return None if len(left) < 3 <= len(right) else rows(call, shape)


def _product_cost(call: Call) -> Cost:
    macs = matmul_macs(*_operands(call))
    return Cost(macs, 2 * macs)


def _product_add_cost(call: Call) -> Cost:
    """Addmm and its kind: the product, one addition an element, one scaling each where alpha or beta is not 1."""
    macs = matmul_macs(*_operands(call))
    scalings = sum(call.get(name) not in (None, 1) for name in ("alpha", "beta"))
    return Cost(macs, 2 * macs + call.out_elements * (1 + scalings))


def _product_sum_cost(call: Call) -> Cost:
    """Addbmm: a batch of products, summed, added."""
    macs = matmul_macs(*_operands(call))
    return Cost(macs, 2 * macs + call.out_elements)


def _einsum_shapes(call: Call) -> list[Shape]:
    return [tuple(t.shape) for t in call["tensors"]]


def _einsum_cost(call: Call) -> Cost:
    return Cost(*einsum_cost(call["equation"], _einsum_shapes(call)))


def _attention_sizes(call: Call) -> tuple[int, int, int, int, int]:
    q, k, v = call.shape("query"), call.shape("key"), call.shape("value")
    return prod(q[:-2]), q[-2], k[-2], q[-1], v[-1]


def _attention_cost(call: Call) -> Cost:
    sizes = _attention_sizes(call)
    masked = call.get("attn_mask") is not None
    return Cost(attention_macs(*sizes), attention_flops(*sizes, masked=masked))


def _attention_shape(call: Call) -> Shape | None:
    q, k, v = call.shape("query"), call.shape("key"), call.shape("value")
    fits = len(q) == len(k) == len(v) and q[-1] == k[-1] and k[-2] == v[-2]
    heads = bool(call.get("enable_gqa")) or q[:-2] == k[:-2] == v[:-2]
    return (*q[:-1], v[-1]) if fits and heads else None


def _attended(call: Call, shape: Shape) -> torch.Tensor | None:
    """Torch's CPU kernel for equal widths lays the result out as the queries are: joining the heads copies nothing."""
    q, k, v = call.args[:3]
    dtype = q.dtype
    if dtype not in FLOATS or k.dtype is not dtype or v.dtype is not dtype:
        return None
    fused = len(shape) == 4 and q.shape[:2] == k.shape[:2] == v.shape[:2] and q.shape[-1] == v.shape[-1]
    fused = fused and q.stride()[-1] == k.stride()[-1] == v.stride()[-1] == 1
    return like_first(call, shape) if fused else empty(shape, dtype)


def recurrence(call: Call) -> Recurrence:
    """Sizes of an lstm, gru or rnn call, from its input and its list of weights."""
    kind = call.packet.removeprefix("aten.")
    params = call["params"]
    bias = bool(call["has_biases"])
    gates = {"lstm": 4, "gru": 3}.get(kind, 1)
    hidden = params[0].shape[0] // gates
    state = params[1].shape[1]
    packed = "batch_sizes" in call
    x = tuple((call["data"] if packed else call["input"]).shape)
    return Recurrence(
        kind=kind,
        steps=prod(x[:-1]),
        features=x[-1],
        hidden=hidden,
        layers=call["num_layers"],
        directions=2 if call["bidirectional"] else 1,
        projection=0 if state == hidden else state,
        bias=bias,
    )


def _recurrent_cost(call: Call) -> Cost:
    sizes = recurrence(call)
    return Cost(sizes.macs(), sizes.flops())


def _recurrent_shape(call: Call) -> Shape:
    sizes = recurrence(call)
    x = tuple((call["data"] if "batch_sizes" in call else call["input"]).shape)
    return (*x[:-1], sizes.state * sizes.directions)


def _recurred(call: Call, shape: Shape) -> Any:  # noqa: ANN401  # output and last states
    """The output and, per layer and direction, the last states; batch first is a view of time first."""
    sizes = recurrence(call)
    x = call["data"] if "batch_sizes" in call else call["input"]
    if any(t.dtype is not x.dtype for t in call["params"]) or len(shape) not in (2, 3):
        return None
    packed = "batch_sizes" in call
    if not packed and call["batch_first"]:
        output = empty((shape[1], shape[0], shape[2]), x.dtype).transpose(0, 1)
    else:
        output = empty(shape, x.dtype)
    initial = call["hx"]
    states = [empty(tuple(h.shape), x.dtype) for h in (initial if isinstance(initial, list | tuple) else [initial])]
    return (output, *states) if sizes.steps else None


def _grouped_shape(call: Call) -> Shape | None:
    """Rows that each meet the matrix of their group; groups of the inner axis where both factors are flat."""
    left, right = call.shape("self"), call.shape("mat2")
    if len(left) == len(right) == 2:
        groups = call["offs"].shape[0]
        return (groups, left[0], right[1])
    if len(left) == len(right) == 3:
        return (*left[:2], right[2])
    return (left[-2], right[-1])


def _grouped_cost(call: Call) -> Cost:
    left, right = call.shape("self"), call.shape("mat2")
    macs = left[-2] * left[-1] * right[-1] * (left[0] if len(left) == len(right) == 3 else 1)
    return Cost(macs, 2 * macs + (call.out_elements if call["bias"] is not None else 0))


def _grouped(call: Call, shape: Shape) -> torch.Tensor | None:
    return empty(shape, call["out_dtype"] or call.first.dtype)


def _outer_cost(call: Call) -> Cost:
    return Cost(0, call.out_elements)


def _contracted_cost(call: Call) -> Cost:
    """Inner and tensordot: every element of the result sums over the axes that the factors share."""
    left, right = call.first, call.tensors[1]
    shared = isqrt(left.numel() * right.numel() // max(call.out_elements, 1))
    macs = call.out_elements * shared
    return Cost(macs, 2 * macs)


def _triangular_cost(call: Call) -> Cost:
    """Back substitution for each right-hand side of n unknowns: n (n - 1) / 2 multiply-accumulates and n divisions."""
    n = call.shape("self")[-1]
    columns = call.out_elements // max(n, 1)
    macs = columns * n * (n - 1) // 2
    return Cost(macs, 2 * macs + call.out_elements)


def _bilinear_cost(call: Call) -> Cost:
    out, left, right = call.shape("weight")
    rows = call.out_elements // out
    macs = rows * out * (left * right + right)
    return Cost(macs, 2 * macs + (call.out_elements if call["bias"] is not None else 0))


def _distance_cost(call: Call) -> Cost:
    """Of each pair of vectors of width d: differences, their powers, the sum and the root, 3 d."""
    return Cost(0, 3 * call.first.shape[-1] * call.out_elements)


def _cosine_cost(call: Call) -> Cost:
    """Of each pair: one product and two squared lengths, then roots, their product and a division."""
    width = max(t.numel() for t in call.tensors) // max(call.out_elements, 1)
    return Cost(0, (6 * width + 3) * call.out_elements)


PRODUCT = Operator("matrix product", "Matrix product", _product_cost, _product_shape, _product)
PRODUCT_ADD = Operator("matrix product", "Matrix product", _product_add_cost, _product_shape, rows)
PRODUCT_SUM = Operator("matrix product", "Matrix product", _product_sum_cost)
OUTER = Operator("outer product", "Element by element", _outer_cost)
CONTRACTED = Operator("matrix product", "Matrix product", _contracted_cost)
RECURRENT = Operator("recurrence", "Recurrence", _recurrent_cost, _recurrent_shape, _recurred)
ATTENTION = Operator("attention", "Attention", _attention_cost, _attention_shape, _attended)

TABLE = {
    "aten.linear": Operator("fully connected", "Fully connected", _linear_cost, _linear_shape, rows),
    "aten.matmul": PRODUCT,
    "aten.mm": PRODUCT,
    "aten.bmm": PRODUCT,
    "aten.mv": PRODUCT,
    "aten.dot": PRODUCT,
    "aten.addmm": PRODUCT_ADD,
    "aten.baddbmm": PRODUCT_ADD,
    "aten.addmv": PRODUCT_ADD,
    "aten.addbmm": PRODUCT_SUM,
    "aten.addr": OUTER,
    "aten.outer": OUTER,
    "aten.ger": OUTER,
    "aten.kron": OUTER,
    "aten.inner": CONTRACTED,
    "aten.tensordot": CONTRACTED,
    "aten.vdot": CONTRACTED,
    "aten.bilinear": Operator("bilinear", "Matrix product", _bilinear_cost),
    "aten.linalg_solve_triangular": Operator("triangular solve", "Matrix product", _triangular_cost),
    "aten.cdist": Operator("distance", "Distances", _distance_cost),
    "aten._cdist_forward": Operator("distance", "Distances", _distance_cost),
    "aten.pairwise_distance": Operator("distance", "Distances", _distance_cost),
    "aten.cosine_similarity": Operator("cosine similarity", "Distances", _cosine_cost),
    "aten._grouped_mm": Operator("matrix product", "Matrix product", _grouped_cost, _grouped_shape, _grouped),
    "aten.einsum": Operator(
        "einsum", "Einsum", _einsum_cost, lambda call: einsum_shape(call["equation"], _einsum_shapes(call))
    ),
    "aten.scaled_dot_product_attention": ATTENTION,
    "aten.lstm": RECURRENT,
    "aten.gru": RECURRENT,
    "aten.rnn_tanh": RECURRENT,
    "aten.rnn_relu": RECURRENT,
}
