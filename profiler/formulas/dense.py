"""Fully connected layers and matrix products.

A (m, k) by (k, n) product takes m k n multiply-accumulates; leading axes broadcast as numpy's do.
"""

from collections.abc import Sequence
from math import prod

Shape = tuple[int, ...]


def linear_macs(positions: int, features_in: int, features_out: int) -> int:
    """Multiply-accumulates of a fully connected layer applied at `positions` places: in * out at each."""
    return positions * features_in * features_out


def broadcast_shape(*shapes: Sequence[int]) -> Shape:
    """Shape of an element-by-element operation on tensors of these shapes.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    rank = max((len(s) for s in shapes), default=0)
    padded = [(1,) * (rank - len(s)) + tuple(s) for s in shapes]
    out = []
    for sizes in zip(*padded, strict=True):
        wide = {n for n in sizes if n != 1}
        if len(wide) > 1:
            raise ValueError(f"shapes {', '.join(map(str, shapes))} do not broadcast")
        out.append(wide.pop() if wide else 1)
    return tuple(out)


def matmul_shape(a: Shape, b: Shape) -> Shape:
    """Shape of `a @ b`, vectors and broadcast leading axes included."""
    rows = () if len(a) == 1 else (a[-2],)
    columns = () if len(b) == 1 else (b[-1],)
    return broadcast_shape(a[:-2], b[:-2]) + rows + columns


def matmul_macs(a: Shape, b: Shape) -> int:
    """Multiply-accumulates of `a @ b`: the inner length for every element of the result."""
    return prod(matmul_shape(a, b)) * a[-1]


def einsum_sizes(equation: str, shapes: Sequence[Shape]) -> tuple[list[str], str, dict[str, int]]:
    """Labels of an einsum: one term per operand, the output's term, and the size of each label.

    An ellipsis is given capital-letter labels that the equation does not use, aligned to the right.

    Raises:
        ValueError: the equation does not fit the shapes.
    """
    left, arrow, out = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        raise ValueError(f"einsum {equation!r} names {len(terms)} operands, {len(shapes)} were given")
    spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in equation]
    widths = [len(s) - len(t.replace("...", "")) for t, s in zip(terms, shapes, strict=True) if "..." in t]
    dots = "".join(spare[: max(widths, default=0)])
    terms = [
        t.replace("...", dots[len(dots) - (len(s) - len(t) + 3) :]) if "..." in t else t
        for t, s in zip(terms, shapes, strict=True)
    ]
    if arrow:
        out = out.replace("...", dots)
    else:
        labels = "".join(terms)
        out = dots + "".join(sorted(c for c in set(labels) if labels.count(c) == 1 and c not in dots))
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for label, size in zip(term, shape, strict=True):
            sizes[label] = max(size, sizes.get(label, 1))
    return terms, out, sizes


def einsum_shape(equation: str, shapes: Sequence[Shape]) -> Shape:
    """Shape of an einsum's result."""
    _, out, sizes = einsum_sizes(equation, shapes)
    return tuple(sizes[label] for label in out)


def einsum_cost(equation: str, shapes: Sequence[Shape]) -> tuple[int, int]:
    """Multiply-accumulates and FLOPs of an einsum whose operands are contracted from left to right.

    A step that sums over a label is a matrix product and counts MACs; a step that only multiplies counts one FLOP an
    element. Labels that no later operand and not the output needs are summed as soon as they can be.
    """
    terms, out, sizes = einsum_sizes(equation, shapes)
    macs = flops = 0
    current = terms[0]
    for position, term in enumerate(terms[1:], start=1):
        needed = set(out).union(*terms[position + 1 :])
        together = dict.fromkeys(current + term)
        work = prod(sizes[label] for label in together)
        kept = [label for label in together if label in needed]
        if len(kept) < len(together):
            macs, flops = macs + work, flops + 2 * work
        else:
            flops += work
        current = "".join(kept)
    if len(terms) == 1:
        flops = prod(sizes[label] for label in dict.fromkeys(current)) - prod(sizes[label] for label in out)
    return macs, flops
