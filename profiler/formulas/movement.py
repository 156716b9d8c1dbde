"""Operators that move data and compute nothing: the sizes that come out. By convention they are free."""

from collections.abc import Sequence
from math import prod

from profiler.formulas.dense import broadcast_shape

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


def concat_shape(shapes: Sequence[Shape], axis: int) -> Shape | None:
    """Tensors one after the other along `axis`; empty vectors do not count, as in torch. None where they do not fit."""
    kept = [s for s in shapes if s != (0,)] or [(0,)]
    first = kept[0]
    if not -len(first) <= axis < len(first):
        return None
    axis %= len(first)
    before, after = first[:axis], first[axis + 1 :]
    if any(len(s) != len(first) or s[:axis] != before or s[axis + 1 :] != after for s in kept):
        return None
    return (*before, sum(s[axis] for s in kept), *after)


def pad_shape(shape: Shape, pad: Sequence[int]) -> Shape:
    """`pad` lists (before, after) from the last axis backwards, as torch does."""
    out = list(shape)
    for n in range(len(pad) // 2):
        out[-1 - n] += pad[2 * n] + pad[2 * n + 1]
    return tuple(out)


def index_shape(shape: Shape, indices: Sequence[tuple[Shape, int] | None]) -> Shape | None:
    """Advanced indexing, `x[a, :, b]`, as numpy documents it. None where the indices do not broadcast.

    Args:
        shape: of the tensor.
        indices: for each position the size of the index and how many axes it takes (a mask takes as many as it has),
            or None for an axis that is kept whole.
    """
    out: list[int | None] = []
    axis = 0
    broadcast: Shape = ()
    for entry in indices:
        if entry is None:
            out.append(shape[axis])
            axis += 1
            continue
        size, taken = entry
        axis += taken
        out.append(None)
        try:
            broadcast = broadcast_shape(broadcast, size)
        except ValueError:
            return None
    rest = shape[axis:]
    places = [n for n, size in enumerate(out) if size is None]
    together = places == list(range(places[0], places[-1] + 1)) if places else True
    at = places[0] if together and places else 0
    kept = [size for size in out if size is not None]
    before = kept[:at]
    return (*before, *broadcast, *kept[len(before) :], *rest)


def slice_length(size: int, start: int | None, end: int | None, step: int) -> int:
    """Elements that a slice takes from an axis of `size`."""
    return len(range(*slice(start, end, step).indices(size)))
