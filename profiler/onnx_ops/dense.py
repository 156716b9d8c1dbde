"""Fully connected layers, matrix products and einsum: attributes of the nodes to the formulas of `formulas.dense`."""

from collections.abc import Sequence
from dataclasses import dataclass

from onnx import TensorProto

from profiler.errors import ModelError
from profiler.formulas.dense import einsum_cost, einsum_shape, einsum_sizes, linear_macs, matmul_macs, matmul_shape
from profiler.onnx_ops.call import Cost, Fields, NodeCall, Operator
from profiler.onnx_ops.fields import unknown
from profiler.onnx_ops.value import Shape
from profiler.receptive.field import TensorField
from profiler.receptive.merge import merged
from profiler.receptive.reshape import expanded_to, reshaped


@dataclass(frozen=True, slots=True)
class Factors:
    """At which inputs a product has its two factors, and how their last two axes are turned."""

    left: int = 0
    right: int = 1

    def shapes(self, call: NodeCall) -> tuple[Shape, Shape]:
        """Sizes of the factors as they are multiplied."""
        a, b = call.shape(self.left), call.shape(self.right)
        return _turned(a, bool(call.attr("transA", 0))), _turned(b, bool(call.attr("transB", 0)))


def _turned(shape: Shape, transposed: bool) -> Shape:  # noqa: FBT001  # the one thing this is about
    return (*shape[:-2], shape[-1], shape[-2]) if transposed and len(shape) > 1 else shape


def _product_shape(a: Shape, b: Shape) -> Shape:
    if not a or not b or a[-1] != (b[-2] if len(b) > 1 else b[0]):
        raise ModelError(f"sizes {a} and {b} cannot be multiplied")
    return matmul_shape(a, b)


def scalings(call: NodeCall, *names: str) -> int:
    """How many of these factors are not 1."""
    return sum(call.attr(name, 1.0) != 1 for name in names)


def product(
    factors: Factors = Factors(),
    *,
    bias: int = -1,
    scaled: Sequence[str] = (),
    integers: bool = False,
    dtype: int | None = None,
    formula: str = "Matrix product",
) -> Operator:
    """A matrix product, with an addition where the input `bias` is given."""

    def cost(call: NodeCall) -> Cost:
        macs = matmul_macs(*factors.shapes(call))
        adds = int(bias >= 0 and call.has(bias)) + scalings(call, *scaled)
        return macs, 2 * macs + adds * call.out_elements

    def field(call: NodeCall) -> Fields:
        turned = bool(call.attr("transA", 0)), bool(call.attr("transB", 0))
        return product_field(call, call.input(factors.left).field, call.input(factors.right).field, turned, bias)

    def shapes(call: NodeCall) -> Sequence[Shape]:
        return [_product_shape(*factors.shapes(call))]

    known = None if dtype is None else lambda _: dtype
    return Operator("matrix product", formula, cost, shapes, field, dtype=known, integers=integers)


def product_field(
    call: NodeCall,
    left: TensorField | None,
    right: TensorField | None,
    turned: tuple[bool, bool] = (False, False),
    bias: int = -1,
) -> Fields:
    """A product with a constant mixes one axis; a product of two activations joins what their axes see."""
    parts = []
    rank = len(call.out)
    for field, transposed, position in ((left, turned[0], -1), (right, turned[1], -2)):
        if field is None:
            continue
        axes = len(field.layout)
        if axes < 2:
            return unknown(call)
        swapped = field.permuted([*range(axes - 2), axes - 1, axes - 2]) if transposed else field
        # The inner axis goes; the other factor's outer one takes its place, unless that factor is a vector.
        parts.append(swapped.reduced([axes + position], keep=rank >= axes))
    if bias >= 0 and call.has(bias):
        parts += [f for f in (call.input(bias).field,) if f is not None]
    if not parts:
        return unknown(call)
    return [merged(parts, call.out), *unknown(call)[1:]]


def gemm(*, integers: bool = False, bias: int = 2, factors: Factors = Factors()) -> Operator:
    """A general matrix product alpha A B + beta C."""

    def cost(call: NodeCall) -> Cost:
        (m, k), (_, n) = factors.shapes(call)
        macs = linear_macs(m, k, n)
        adds = call.has(bias) + scalings(call, "alpha") + (scalings(call, "beta") if call.has(bias) else 0)
        return macs, 2 * macs + adds * m * n

    def shapes(call: NodeCall) -> Sequence[Shape]:
        a, b = factors.shapes(call)
        if len(a) != 2 or len(b) != 2:
            raise ModelError(f"takes two matrices, got {a} and {b}")
        return [_product_shape(a, b)]

    def field(call: NodeCall) -> Fields:
        turned = bool(call.attr("transA", 0)), bool(call.attr("transB", 0))
        return product_field(call, call.input(factors.left).field, call.input(factors.right).field, turned, bias)

    return Operator("fully connected", "Fully connected", cost, shapes, field, integers=integers)


def _einsum_shapes(call: NodeCall) -> list[Shape]:
    return [call.shape(n) for n in range(len(call.inputs))]


def _equation(call: NodeCall) -> str:
    return str(call.attr("equation")).replace(" ", "")


def _einsum_field(call: NodeCall) -> Fields:
    """Each operand's axes that the result lacks are joined; the rest take the result's order."""
    terms, out, _ = einsum_sizes(_equation(call), _einsum_shapes(call))
    parts = []
    for term, value in zip(terms, call.tensors, strict=True):
        if value.field is None:
            continue
        if len(set(term)) < len(term):  # a diagonal
            return unknown(call)
        kept = [label for label in term if label in out]
        rest = value.field.reduced([n for n, label in enumerate(term) if label not in out], keep=False)
        rest = rest.permuted([kept.index(label) for label in out if label in kept])
        sizes = iter(rest.shape)
        parts.append(reshaped(rest, tuple(next(sizes) if label in kept else 1 for label in out)))
    return [merged(parts, call.out)] if parts else [None]


def linear_field(call: NodeCall, field: TensorField) -> TensorField:
    """The last axis is mixed; the others stay."""
    return expanded_to(field.reduced([len(field.layout) - 1], keep=True), call.out)


_INT32 = int(TensorProto.INT32)

TABLE = {
    "Gemm": gemm(),
    "MatMul": product(),
    "MatMulInteger": product(integers=True, dtype=_INT32),
    "QLinearMatMul": product(Factors(0, 3), integers=True),
    "Einsum": Operator(
        "einsum",
        "Einsum",
        lambda call: einsum_cost(_equation(call), _einsum_shapes(call)),
        lambda call: [einsum_shape(_equation(call), _einsum_shapes(call))],
        _einsum_field,
    ),
}
