"""Results without storage: tensors of a documented size with the type and memory layout that torch would give them.

Layout matters although nothing is stored: whether a later `view` is allowed, and whether `contiguous` copies, depends
on it. A function here gives None where it does not know; torch's own kernel is asked then.
"""

from functools import lru_cache
from math import prod

import torch

from profiler.aten.call import Call, Shape

META = torch.device("meta")
FLOATS = frozenset((torch.float32, torch.float16, torch.bfloat16, torch.float64))


def empty(shape: Shape, dtype: torch.dtype) -> torch.Tensor:
    """A contiguous tensor without storage."""
    return torch.empty(shape, dtype=dtype, device=META)


def rows(call: Call, shape: Shape) -> torch.Tensor | None:
    """Contiguous, of the first tensor's type, which all other tensors of the call share."""
    dtype = call.tensors[0].dtype
    if dtype not in FLOATS:
        return None
    for tensor in call.tensors:
        if tensor.dtype is not dtype:
            return None
    return torch.empty(shape, dtype=dtype, device=META)


def first_type(call: Call, shape: Shape) -> torch.Tensor | None:
    """Contiguous, of the first tensor's type, whatever the others (indices, masks) are."""
    dtype = call.tensors[0].dtype
    return torch.empty(shape, dtype=dtype, device=META) if dtype in FLOATS else None


def like_first(call: Call, shape: Shape) -> torch.Tensor | None:
    """Of the first tensor's type and layout."""
    first = call.tensors[0]
    dtype = first.dtype
    if dtype not in FLOATS:
        return None
    if first.is_contiguous():
        return torch.empty(shape, dtype=dtype, device=META)
    return torch.empty_strided(shape, pointwise_strides(shape, ((shape, first.stride()),)), dtype=dtype, device=META)


def channels(call: Call, shape: Shape) -> torch.Tensor | None:
    """Of the first tensor's type; channels last where its first tensor is."""
    first = call.tensors[0]
    dtype = first.dtype
    if dtype not in FLOATS:
        return None
    for tensor in call.tensors:
        if tensor.dtype is not dtype:
            return None
    if not first.is_contiguous() and len(shape) in (4, 5):
        last = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
        if channels_come_last(first):
            return torch.empty(shape, dtype=dtype, device=META, memory_format=last)
    return torch.empty(shape, dtype=dtype, device=META)


def channels_come_last(tensor: torch.Tensor) -> bool:
    """Whether a tensor's strides have the order of `channels_last`, gaps allowed, as torch's kernels ask."""
    sizes, strides = tensor.shape, tensor.stride()
    if strides[1] == 0:
        return False
    least = 0
    for axis in (1, *range(len(sizes) - 1, 1, -1), 0):
        if sizes[axis] == 0 or strides[axis] < least or (axis == 0 and least == strides[1]):
            return False
        least = strides[axis] * max(sizes[axis], 1)
    return True


def averaged(call: Call, shape: Shape) -> torch.Tensor | None:
    """As `channels`; an average over one axis is taken in two, and keeps its channels last as well."""
    first = call.tensors[0]
    if len(shape) == 3 and first.stride()[-2] == 1 < first.stride()[-1] and first.dtype in FLOATS:
        return torch.empty((shape[0], shape[2], shape[1]), dtype=first.dtype, device=META).transpose(1, 2)
    return channels(call, shape)


def joined(call: Call, shape: Shape) -> torch.Tensor | None:
    """Of the operands' common type, laid out as their elements are: arithmetic on several tensors and numbers."""
    dtype = common_type(call)
    return None if dtype is None else pointwise(call, shape, dtype)


def truth(call: Call, shape: Shape) -> torch.Tensor | None:
    """Truth values, laid out as the operands are."""
    return pointwise(call, shape, torch.bool)


def pointwise(call: Call, shape: Shape, dtype: torch.dtype) -> torch.Tensor:
    """A result of an element-by-element operation."""
    for tensor in call.tensors:
        if not tensor.is_contiguous():
            operands = tuple((tuple(t.shape), t.stride()) for t in call.tensors)
            return torch.empty_strided(shape, pointwise_strides(shape, operands), dtype=dtype, device=META)
    return torch.empty(shape, dtype=dtype, device=META)


def common_type(call: Call) -> torch.dtype | None:
    """The floating-point type that torch promotes a call's tensors and numbers to; None where it takes more rules."""
    tensors = call.tensors
    dtype = tensors[0].dtype
    if len(tensors) == 2:
        other = tensors[1].dtype
        if other is not dtype:
            dtype = torch.result_type(*tensors)
    elif len(tensors) > 2 and any(t.dtype is not dtype for t in tensors):
        return None
    return dtype if dtype in FLOATS else None


@lru_cache(maxsize=4096)
def pointwise_strides(shape: Shape, operands: tuple[tuple[Shape, Shape], ...]) -> Shape:
    """Strides of the result of an element-by-element operation: dense, its axes ordered as the operands' are.

    Axes are sorted by stride, the first operand that tells two of them apart decides, and a repeated axis (size one
    against more) tells nothing; as `TensorIterator` does.

    Args:
        shape: of the result.
        operands: shape and strides of each operand.
    """
    rank = len(shape)
    steps = []
    for sizes, strides in operands:
        if sizes == shape and _dense(sizes, strides) and len(operands) == 1:
            return strides
        missing = rank - len(sizes)
        step = tuple(
            0 if size == 1 and shape[missing + n] != 1 else stride
            for n, (size, stride) in enumerate(zip(sizes, strides, strict=True))
        )
        steps.append((0,) * missing + step)
    if len({(s, t) for s, t in operands}) == 1 and operands[0][0] == shape and _dense(*operands[0]):
        return operands[0][1]
    order = list(range(rank - 1, -1, -1))
    for n in range(1, rank):
        at = n
        for before in range(n - 1, -1, -1):
            decision = _compare(order[before], order[at], steps, shape)
            if decision > 0:
                order[before], order[at] = order[at], order[before]
                at = before
            elif decision < 0:
                break
    result = [0] * rank
    distance = 1
    for axis in order:
        result[axis] = distance
        distance *= max(shape[axis], 1)
    return tuple(result)


def _compare(a: int, b: int, steps: list[Shape], shape: Shape) -> int:
    for operand in steps:
        if operand[a] == 0 or operand[b] == 0:
            continue
        if operand[a] != operand[b]:
            return -1 if operand[a] < operand[b] else 1
        if shape[a] > shape[b]:
            return 1
    return 0


def _dense(shape: Shape, strides: Shape) -> bool:
    """Whether the elements fill a block of memory without gaps or overlaps."""
    expected = 1
    for stride, size in sorted((stride, size) for size, stride in zip(shape, strides, strict=True) if size != 1):
        if stride != expected:
            return False
        expected *= size
    return prod(shape) > 0
