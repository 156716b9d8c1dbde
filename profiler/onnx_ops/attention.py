"""Attention in the standard domain and in ONNX Runtime's, and rotary position embeddings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from profiler.formulas.attention import attention_flops, attention_macs
from profiler.formulas.dense import linear_macs
from profiler.formulas.rotary import rotary_flops
from profiler.onnx_ops.call import Cost, Fields, NodeCall, Operator
from profiler.onnx_ops.fields import unary, unknown
from profiler.onnx_ops.normalization import same
from profiler.onnx_ops.value import FLOATS, Shape
from profiler.receptive.field import TensorField
from profiler.receptive.merge import merged
from profiler.receptive.reshape import expanded_to

SOFTCAP = 3  # division, tanh, multiplication


@dataclass(frozen=True, slots=True)
class Heads:
    """Sizes of one attention.

    Attributes:
        batch, queries, keys: samples and lengths; keys include those of the past.
        heads: query heads.
        kv_heads: key and value heads.
        width, value_width: of one head.
        projected: width of the input where the node projects it itself, else 0.
        masked: whether a mask or bias is added to the scores.
        softcap: whether the scores are capped.
    """

    batch: int
    queries: int
    keys: int
    heads: int
    kv_heads: int
    width: int
    value_width: int
    projected: int = 0
    masked: bool = False
    softcap: bool = False

    def cost(self) -> Cost:
        """The attention, and the projections to queries, keys and values with their biases."""
        sizes = self.batch * self.heads, self.queries, self.keys, self.width, self.value_width
        macs, flops = attention_macs(*sizes), attention_flops(*sizes, masked=self.masked)
        if self.softcap:
            flops += SOFTCAP * self.batch * self.heads * self.queries * self.keys
        if self.projected:
            widths = self.heads * (2 * self.width + self.value_width)
            products = linear_macs(self.batch * self.queries, self.projected, widths)
            macs, flops = macs + products, flops + 2 * products + self.batch * self.queries * widths
        return macs, flops


def _standard(call: NodeCall) -> Heads:
    q, k, v = call.shape(0), call.shape(1), call.shape(2)
    past = call.shape(4)[2] if call.has(4) else 0
    common = {"masked": call.has(3), "softcap": call.attr("softcap", 0.0) != 0}
    if len(q) == 4:
        return Heads(q[0], q[2], k[2] + past, q[1], k[1], q[3], v[3], **common)
    heads, kv = int(call.attr("q_num_heads")), int(call.attr("kv_num_heads"))
    return Heads(q[0], q[1], k[1] + past, heads, kv, q[2] // heads, v[2] // kv, **common)


def _packed(call: NodeCall) -> Heads:
    """ONNX Runtime's Attention: one input, one weight for queries, keys and values."""
    x, w = call.shape(0), call.shape(1)
    heads = int(call.attr("num_heads"))
    sizes = call.attr("qkv_hidden_sizes") or (w[1] // 3,) * 3
    past = _past(call, 8 if call.op.endswith("QAttention") else 4)
    masked = call.has(5) or bool(call.attr("unidirectional", 0)) or call.has(3)
    if call.op.endswith("QAttention"):
        masked = call.has(5) or bool(call.attr("unidirectional", 0))
    return Heads(
        x[0], x[1], x[1] + past, heads, heads, sizes[0] // heads, sizes[2] // heads, projected=x[2], masked=masked
    )


def _past(call: NodeCall, position: int) -> int:
    """Length of the past in a tensor (2, batch, heads, past, width)."""
    return call.shape(position)[3] if call.has(position) else 0


def _multi_head(call: NodeCall) -> Heads:
    """ONNX Runtime's MultiHeadAttention: projected already; keys and values may be packed or come from a cache."""
    q, heads = call.shape(0), int(call.attr("num_heads"))
    past = call.shape(6)[2] if call.has(6) else 0
    masked = call.has(4) or call.has(5) or bool(call.attr("unidirectional", 0))
    if len(q) == 5:  # (batch, length, heads, 3, width)
        return Heads(q[0], q[1], q[1] + past, heads, heads, q[4], q[4], masked=masked)
    width, k = q[2] // heads, call.shape(1)
    if len(k) == 5:  # (batch, length, heads, 2, width)
        return Heads(q[0], q[1], k[1] + past, heads, heads, width, k[4], masked=masked)
    v = call.shape(2)
    keys, value_width = (k[2], v[3]) if len(k) == 4 else (k[1], v[2] // heads)
    return Heads(q[0], q[1], keys + past, heads, heads, width, value_width, masked=masked)


def _grouped(call: NodeCall) -> Heads:
    """ONNX Runtime's GroupQueryAttention: the cache may be longer than what is in it."""
    q, heads, kv = call.shape(0), int(call.attr("num_heads")), int(call.attr("kv_num_heads"))
    packed = not call.has(1)
    width = q[2] // (heads + 2 * kv if packed else heads)
    past = call.shape(3)[2] if call.has(3) else 0
    keys = q[1] + past
    if call.has(6) and call.input(6).array is not None:
        keys = call.integers(6)[0]
    return Heads(q[0], q[1], keys, heads, kv, width, width, masked=True, softcap=call.attr("softcap", 0.0) != 0)


Sizes = Callable[[NodeCall], Heads]


def _operator(sizes: Sizes, shapes: Callable[[NodeCall, Heads], Sequence[Shape]], **more: bool) -> Operator:
    def cost(call: NodeCall) -> Cost:
        macs, flops = sizes(call).cost()
        return macs, flops + _rotary_inside(call, sizes(call))

    dtype = first_float if more.get("integers") else None
    return Operator("attention", "Attention", cost, lambda c: shapes(c, sizes(c)), _field, dtype=dtype, **more)


def _rotary_inside(call: NodeCall, h: Heads) -> int:
    turned = h.batch * h.queries * (h.heads + h.kv_heads) * h.width
    return rotary_flops(turned) if call.attr("do_rotary", 0) else 0


def first_float(call: NodeCall) -> int:
    """Element type of the first floating-point input."""
    return next((v.dtype for v in call.tensors if v.dtype in FLOATS), call.input(0).dtype)


def _standard_shapes(call: NodeCall, h: Heads) -> Sequence[Shape]:
    out = call.shape(0)
    y = (*out[:-1], h.value_width) if len(out) == 4 else (*out[:2], h.heads * h.value_width)
    cache = (h.batch, h.kv_heads, h.keys)
    return [y, (*cache, h.width), (*cache, h.value_width), (h.batch, h.heads, h.queries, h.keys)]


def _flat_shapes(_call: NodeCall, h: Heads) -> Sequence[Shape]:
    cache = (h.batch, h.kv_heads, h.keys)
    return [(h.batch, h.queries, h.heads * h.value_width), (*cache, h.width), (*cache, h.value_width)]


def _packed_shapes(_call: NodeCall, h: Heads) -> Sequence[Shape]:
    return [(h.batch, h.queries, h.heads * h.value_width), (2, h.batch, h.heads, h.keys, h.width)]


def _field(call: NodeCall) -> Fields:
    """Every query sees all keys and values; locally, its own position."""
    if call.op in ("com.microsoft.Attention", "com.microsoft.QAttention"):
        field = call.input(0).field
        query = key = value = field
    else:
        query, key, value = (call.input(n).field if call.has(n) else None for n in range(3))
    sources = [f for f in (query, key, value) if f is not None]
    if not sources or any(len(f.layout) != len(call.out) for f in sources):
        return unknown(call)
    rank = len(call.out)
    sides = [f.reduced([rank - 2, rank - 1], keep=True) for f in (key, value) if f]
    rest = unknown(call)[1:]
    if query is None:
        return [merged(sides, call.out), *rest]
    own = query.reduced([rank - 1], keep=True)
    joined = merged([own, *sides], call.out)
    if joined.layout[:-1] == own.layout[:-1]:
        joined = joined.with_local(merged([own], call.out).local)
    return [joined, *rest]


def _rotary_cost(call: NodeCall) -> Cost:
    x = call.shape()
    turned = int(call.attr("rotary_embedding_dim", 0))
    elements = prod(x)
    if turned:
        width = x[-1] if len(x) == 4 else x[-1] // max(int(call.attr("num_heads", 0)), 1)
        elements = elements // width * turned
    return 0, rotary_flops(elements)


def _rotary_field(call: NodeCall, field: TensorField) -> TensorField:
    """Positions stay; the values of one are mixed."""
    return expanded_to(field.reduced([len(field.layout) - 1], keep=True), call.out)


ROTARY = Operator("rotary embedding", "Attention", _rotary_cost, same, unary(_rotary_field))

TABLE = {
    "Attention": _operator(_standard, _standard_shapes),
    "RotaryEmbedding": ROTARY,
    "com.microsoft.RotaryEmbedding": ROTARY,
    "com.microsoft.Attention": _operator(_packed, _packed_shapes),
    "com.microsoft.QAttention": _operator(_packed, _packed_shapes, integers=True),
    "com.microsoft.MultiHeadAttention": _operator(_multi_head, _flat_shapes),
    "com.microsoft.GroupQueryAttention": _operator(_grouped, _flat_shapes),
}
