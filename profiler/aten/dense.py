"""Fully connected layers, matrix products, attention and recurrence: ATen arguments to formulas."""

from math import prod

from profiler.aten.call import Call, Cost, Operator, Shape
from profiler.formulas.attention import attention_flops, attention_macs
from profiler.formulas.dense import einsum_cost, einsum_shape, linear_macs, matmul_macs, matmul_shape
from profiler.formulas.recurrent import Recurrence


def _linear_cost(call: Call) -> Cost:
    x, weight = call.shape("input"), call.shape("weight")
    macs = linear_macs(prod(x[:-1]), x[-1], weight[0])
    return Cost(macs, 2 * macs + (call.out_elements if call["bias"] is not None else 0))


def _linear_shape(call: Call) -> Shape:
    return call.shape("input")[:-1] + call.shape("weight")[:1]


def _operands(call: Call) -> tuple[Shape, Shape]:
    """Shapes of the two factors, whatever the overload calls them."""
    for left, right in (("mat1", "mat2"), ("batch1", "batch2"), ("mat", "vec")):
        if left in call and right in call:
            return call.shape(left), call.shape(right)
    right = next(name for name in ("other", "mat2", "vec", "tensor", "vec2") if name in call)
    return call.shape("self"), call.shape(right)


def _product_shape(call: Call) -> Shape:
    return matmul_shape(*_operands(call))


def _product_cost(call: Call) -> Cost:
    macs = matmul_macs(*_operands(call))
    return Cost(macs, 2 * macs)


def _product_add_cost(call: Call) -> Cost:
    """Addmm and its kind: the product, one addition an element, one scaling each where alpha or beta is not 1."""
    macs = matmul_macs(*_operands(call))
    scalings = sum(call.get(name) not in (None, 1) for name in ("alpha", "beta"))
    return Cost(macs, 2 * macs + call.out_elements * (1 + scalings))


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


def _attention_shape(call: Call) -> Shape:
    return call.shape("query")[:-1] + call.shape("value")[-1:]


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


PRODUCT = Operator("matrix product", "Matrix product", _product_cost, _product_shape)
PRODUCT_ADD = Operator("matrix product", "Matrix product", _product_add_cost, _product_shape)
RECURRENT = Operator("recurrence", "Recurrence", _recurrent_cost, _recurrent_shape)
ATTENTION = Operator("attention", "Attention", _attention_cost, _attention_shape)

TABLE = {
    "aten.linear": Operator("fully connected", "Fully connected", _linear_cost, _linear_shape),
    "aten.matmul": PRODUCT,
    "aten.mm": PRODUCT,
    "aten.bmm": PRODUCT,
    "aten.mv": PRODUCT,
    "aten.dot": PRODUCT,
    "aten.addmm": PRODUCT_ADD,
    "aten.baddbmm": PRODUCT_ADD,
    "aten.addmv": PRODUCT_ADD,
    "aten.einsum": Operator(
        "einsum", "Einsum", _einsum_cost, lambda call: einsum_shape(call["equation"], _einsum_shapes(call))
    ),
    "aten.scaled_dot_product_attention": ATTENTION,
    "aten.lstm": RECURRENT,
    "aten.gru": RECURRENT,
    "aten.rnn_tanh": RECURRENT,
    "aten.rnn_relu": RECURRENT,
}
