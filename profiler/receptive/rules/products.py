"""Products: every output sees what its factors see along the axes that are summed over."""

from collections.abc import Sequence
from string import ascii_letters

import numpy as np

from profiler.aten.call import Call
from profiler.formulas.dense import einsum_sizes
from profiler.receptive.field import TensorField
from profiler.receptive.merge import merged
from profiler.receptive.pick import paired
from profiler.receptive.reshape import expanded_to, reshaped
from profiler.receptive.rules.base import Fields, Result, Rule, drawn, gathered, merge, present, unknown
from profiler.receptive.rules.windows import channels_mixed
from profiler.receptive.view import BOUNDED, EXACT

Term = Sequence[str]


def _linear(call: Call, fields: Fields) -> Result:
    field = fields(call.tensors[0])
    if field is None or any([fields(t) is not None for t in call.tensors[1:]]):  # noqa: C419  # a list is faster
        return _linear_computed(call, fields)
    return [channels_mixed(field, len(field.layout) - 1, call.outputs[0].shape[-1])]


def _linear_computed(call: Call, fields: Fields) -> Result:
    """A weight or bias that was computed from the input."""
    labels = ascii_letters[: len(call.out)]
    weight = labels[-1] + "Z" if call["weight"].dim() == 2 else "Z"
    terms = [(*labels[:-1], "Z"), weight]
    found = [fields(call[name]) for name in ("input", "weight")]
    return [_product(terms, found, labels, call.out, fields(call["bias"]))]


def _product(
    terms: Sequence[Term],
    found: Sequence[TensorField | None],
    out: Term,
    shape: tuple[int, ...],
    added: TensorField | None = None,
) -> TensorField | None:
    """The field of a sum over products: `terms` and `out` label the axes, as in an einsum."""
    parts = [] if added is None else [added]
    for term, field in zip(terms, found, strict=True):
        if field is None:
            continue
        rest = field.reduced([n for n, label in enumerate(term) if label not in out], keep=False)
        kept = [label for label in term if label in out]
        rest = rest.permuted([kept.index(label) for label in out if label in kept])
        sizes = iter(rest.shape)
        parts.append(reshaped(rest, tuple(next(sizes) if label in kept else 1 for label in out)))
    return merged(parts, shape) if parts else None


def _factors(left: int, right: int) -> tuple[str, str, str]:
    """Labels of a matrix product of tensors of these ranks, with broadcast leading axes, and of its result."""
    batch = ascii_letters[: max(left, right, 2) - 2]
    first = (batch[len(batch) - left + 2 :] if left > 1 else "") + ("I" if left > 1 else "") + "K"
    second = (batch[len(batch) - right + 2 :] if right > 1 else "") + "K" + ("J" if right > 1 else "")
    return first, second, batch + ("I" if left > 1 else "") + ("J" if right > 1 else "")


def _matmul(call: Call, fields: Fields) -> Result:
    left, right = call.tensors
    seen, other = fields(left), fields(right)
    if seen is None and other is None:
        return [None]
    out = call.out
    rank = left.dim()
    if seen is not None and other is None and rank >= 2 and rank == len(out) and right.dim() >= 2:
        return [expanded_to(seen.reduced([rank - 1], keep=True), out)]
    first, second, result = _factors(rank, right.dim())
    return [_product([first, second], [seen, other], result, out)]


def _matmul_add(names: tuple[str, str], terms: tuple[str, str], out: str) -> Rule:
    """Addmm and its kind: `self` is added to the product."""

    def apply(call: Call, fields: Fields) -> Result:
        found = [fields(call[name]) for name in names]
        return [_product(terms, found, out, call.out, fields(call["self"]))]

    return apply


def _labelled(first: str, second: str, out: str) -> Rule:
    """A product of two tensors with these axes."""

    def apply(call: Call, fields: Fields) -> Result:
        left, right = call.tensors[:2]
        return [_product([first, second], [fields(left), fields(right)], out, call.out)]

    return apply


def _einsum(call: Call, fields: Fields) -> Result:
    """Each operand's axes that the result lacks are joined; the rest take the result's order."""
    tensors = call["tensors"]
    terms, out, _ = einsum_sizes(call["equation"], [tuple(t.shape) for t in tensors])
    single, found = [], []
    for term, tensor in zip(terms, tensors, strict=True):
        field, labels = fields(tensor), list(term)
        for label in {x for x in labels if labels.count(x) > 1}:
            axes = [n for n, x in enumerate(labels) if x == label]
            labels = [label, *(x for x in labels if x != label)]
            if field is not None:
                size = field.shape[axes[0]]
                field = paired(field, axes, [np.arange(size)] * len(axes), (size,))
        single.append(labels)
        found.append(field)
    return [_product(single, found, list(out), call.out)]


def _inner(call: Call, fields: Fields) -> Result:
    left, right = call.tensors
    a, b = left.dim(), right.dim()
    if not a or not b:
        return merge(call, fields)
    first, second = ascii_letters[: a - 1], ascii_letters[a - 1 : a + b - 2]
    return [_product([first + "Z", second + "Z"], [fields(left), fields(right)], first + second, call.out)]


def _tensordot(call: Call, fields: Fields) -> Result:
    left, right = call.tensors
    own = [list(ascii_letters[: left.dim()]), list(ascii_letters[26 : 26 + right.dim()])]
    for a, b in zip(call["dims_self"], call["dims_other"], strict=True):
        own[1][b] = own[0][a]
    both = set(own[0]) & set(own[1])
    out = [label for term in own for label in term if label not in both]
    return [_product(own, [fields(left), fields(right)], out, call.out)]


def _bilinear(call: Call, fields: Fields) -> Result:
    """Leading axes stay; the last of both inputs is joined."""
    found = [f.reduced([-1], keep=True) for name in ("input1", "input2") if (f := fields(call[name])) is not None]
    if fields(call["weight"]) is not None:
        return drawn("a weight computed from the input", EXACT)(call, fields)
    return [merged(found, call.out) if found else None]


def _distances(call: Call, fields: Fields) -> Result:
    """Between all rows of one and all rows of the other."""
    batch = ascii_letters[: len(call.out) - 2]
    left, right = call.tensors[:2]
    terms = [batch[len(batch) - t.dim() + 2 :] + row for t, row in ((left, "IK"), (right, "JK"))]
    return [_product([list(t) for t in terms], [fields(left), fields(right)], [*batch, "I", "J"], call.out)]


def _along(argument: str, default: int) -> Rule:
    """Of two tensors that are compared element by element, then summed along one axis."""

    def apply(call: Call, fields: Fields) -> Result:
        found = present(call, fields)
        if not found:
            return [None]
        shape = tuple(max(sizes) for sizes in _broadcast([tuple(t.shape) for t in call.tensors]))
        dim = call.get(argument)
        field = merged(found, shape).reduced([default if dim is None else dim], keep=bool(call.get("keepdim")))
        return [field]

    return apply


def _broadcast(sizes: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    rank = max(map(len, sizes))
    return list(zip(*[(1,) * (rank - len(s)) + s for s in sizes], strict=True))


def _grouped(call: Call, fields: Fields) -> Result:
    """Rows meet the matrix of their group: as a product with a constant, where the rows are the input's."""
    field, matrix = fields(call.tensors[0]), fields(call.tensors[1])
    if field is None or matrix is not None or len(field.layout) != len(call.out):
        return drawn("rows are grouped by values")(call, fields)
    return [expanded_to(field.reduced([-1], keep=True), call.out)]


def _grid(call: Call, fields: Fields) -> Result:
    """affine_grid: every place of a sample's grid depends on all of its matrix."""
    theta = fields(call.tensors[0])
    if theta is None:
        return [None]
    field = theta.reduced([1, 2], keep=False)
    return [expanded_to(reshaped(field, (*field.shape, *(1,) * (len(call.out) - 1))), call.out)]


def _all_of(call: Call, fields: Fields) -> Result:
    found = [f.reduced(range(len(f.layout)), keep=True) for f in present(call, fields)]
    return [gathered(found, call.out, EXACT, "") if found else None]


TABLE: dict[str, Rule] = {
    "aten.linear": _linear,
    **{f"aten.{name}": _matmul for name in ("matmul", "mm", "bmm", "mv", "dot", "vdot")},
    "aten.addmm": _matmul_add(("mat1", "mat2"), ("ik", "kj"), "ij"),
    "aten.baddbmm": _matmul_add(("batch1", "batch2"), ("bik", "bkj"), "bij"),
    "aten.addbmm": _matmul_add(("batch1", "batch2"), ("bik", "bkj"), "ij"),
    "aten.addmv": _matmul_add(("mat", "vec"), ("ik", "k"), "i"),
    "aten.addr": _matmul_add(("vec1", "vec2"), ("i", "j"), "ij"),
    **{f"aten.{name}": _labelled("i", "j", "ij") for name in ("outer", "ger")},
    "aten.einsum": _einsum,
    "aten.inner": _inner,
    "aten.tensordot": _tensordot,
    "aten.bilinear": _bilinear,
    "aten.kron": drawn("elements are arranged in a way that is not followed", BOUNDED),
    **{f"aten.{name}": _distances for name in ("cdist", "_cdist_forward")},
    "aten.cosine_similarity": _along("dim", 1),
    "aten.pairwise_distance": _along("dim", -1),
    "aten.cross": merge,
    "aten._grouped_mm": _grouped,
    "aten.affine_grid_generator": _grid,
    **{f"aten.{name}": _all_of for name in ("linalg_multi_dot", "chain_matmul")},
    **{f"aten.{name}": unknown("linear algebra on whole matrices") for name in ("linalg_inv_ex", "linalg_svd")},
}
