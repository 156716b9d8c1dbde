"""Operators that move data and compute nothing: the sizes that come out. By convention they are free."""

from collections.abc import Sequence
from math import prod

Shape = tuple[int, ...]


def reshape_shape(shape: Shape, size: Sequence[int]) -> Shape:
    """`view` and `reshape`: one -1 takes what is left."""
    if -1 not in size:
        return tuple(size)
    known = prod(n for n in size if n != -1)
    rest = prod(shape) // known if known else 0
    return tuple(rest if n == -1 else n for n in size)


def flatten_shape(shape: Shape, start: int, end: int) -> Shape:
    """Axes `start` to `end`, both included, joined into one."""
    if not shape:
        return (1,)
    start, end = start % len(shape), end % len(shape)
    return (*shape[:start], prod(shape[start : end + 1]), *shape[end + 1 :])


def permute_shape(shape: Shape, order: Sequence[int]) -> Shape:
    """Axes in another order."""
    return tuple(shape[axis] for axis in order)


def concat_shape(shapes: Sequence[Shape], axis: int) -> Shape:
    """Tensors one after the other along `axis`; empty vectors do not count, as in torch."""
    kept = [s for s in shapes if s != (0,)] or [(0,)]
    axis %= len(kept[0])
    first = kept[0]
    return (*first[:axis], sum(s[axis] for s in kept), *first[axis + 1 :])


def pad_shape(shape: Shape, pad: Sequence[int]) -> Shape:
    """`pad` lists (before, after) from the last axis backwards, as torch does."""
    out = list(shape)
    for n in range(len(pad) // 2):
        out[-1 - n] += pad[2 * n] + pad[2 * n + 1]
    return tuple(out)


def slice_length(size: int, start: int | None, end: int | None, step: int) -> int:
    """Elements that a slice takes from an axis of `size`."""
    return len(range(*slice(start, end, step).indices(size)))
