"""Operators that join positions: products, attention, recurrence, Fourier transforms."""

from collections.abc import Sequence

import torch

from profiler.aten.call import Call
from profiler.crosscheck.probe.calls import Of, Planes
from profiler.formulas.dense import einsum_sizes


def either(planes: list[torch.Tensor], shape: tuple[int, ...]) -> torch.Tensor:
    """The largest of several numbers, element by element; sizes broadcast."""
    result = planes[0]
    for plane in planes[1:]:
        result = torch.maximum(result, plane)
    return result.expand(shape)


def linear(call: Call, of: Of) -> Planes:
    """Every output feature reads all input features."""
    found = []
    x, weight = of(call["input"]), of(call["weight"])
    if x is not None:
        found.append(x.amax(-1, keepdim=True))
    if weight is not None:
        found.append(weight.amax(-1))
    return [either(found, call.out)]


_FACTORS = (("batch1", "batch2"), ("mat1", "mat2"), ("mat", "vec"), ("x1", "x2"))


def product(call: Call, of: Of) -> Planes:
    """A matrix product, plus what is added to it: a row of the left and a column of the right factor."""
    names = next((pair for pair in _FACTORS if pair[0] in call), None)
    if names is None:
        names = ("self", next(n for n in ("other", "mat2", "vec", "tensor", "vec2") if n in call))
    left, right = of(call[names[0]]), of(call[names[1]])
    left_rank, right_rank = call[names[0]].dim(), call[names[1]].dim()
    if right is not None and "x2" in names:  # distances between rows
        right = right.mT
    found = []
    if left is not None:
        rows = left.amax(-1)
        found.append(rows.unsqueeze(-1) if right_rank > 1 else rows)
    if right is not None:
        columns = right.amax(-2) if right_rank > 1 else right.amax(-1)
        found.append(columns.unsqueeze(-2) if left_rank > 1 and right_rank > 1 else columns)
    added = of(call["self"]) if "self" not in names and "self" in call else None
    return [either(found if added is None else [*found, added], call.out)]


def einsum(call: Call, of: Of) -> Planes:
    """Each operand's axes that the result lacks are joined."""
    tensors = call["tensors"]
    terms, out, _ = einsum_sizes(call["equation"], [tuple(t.shape) for t in tensors])
    planes = [(list(term), of(tensor)) for term, tensor in zip(terms, tensors, strict=True)]
    return [either([_arranged(plane, term, out) for term, plane in planes if plane is not None], call.out)]


def _arranged(plane: torch.Tensor, labels: list[str], out: Sequence[str]) -> torch.Tensor:
    """One operand of an einsum with the result's axes, those that it lacks of size one."""
    for label in {x for x in labels if labels.count(x) > 1}:
        while labels.count(label) > 1:
            a, b = [n for n, x in enumerate(labels) if x == label][:2]
            plane = plane.diagonal(dim1=a, dim2=b)
            labels = [x for n, x in enumerate(labels) if n not in (a, b)] + [label]
    joined = tuple(n for n, label in enumerate(labels) if label not in out)
    plane = plane.amax(joined) if joined else plane
    kept = [label for label in labels if label in out]
    plane = plane.permute([kept.index(label) for label in out if label in kept])
    for n, label in enumerate(out):
        plane = plane if label in kept else plane.unsqueeze(n)
    return plane


def attention(call: Call, of: Of) -> Planes:
    """Every query reads all keys and values but those that `is_causal` or a mask hides whose values are known."""
    query, key, value = (of(call[name]) for name in ("query", "key", "value"))
    found = [] if query is None else [query.amax(-1, keepdim=True)]
    shown = _shown(call, of)
    for side in (key, value):
        if side is None:
            continue
        keys = side.amax(-1)
        if call.get("enable_gqa"):
            keys = keys.repeat_interleave(call.out[-3] // keys.shape[-2], -2)
        # (..., queries, keys): what is hidden counts as nothing.
        found.append(
            keys.amax(-1)[..., None, None] if shown is None else (keys[..., None, :] * shown).amax(-1)[..., None]
        )
    seen = of(call["attn_mask"]) if call.get("attn_mask") is not None else None
    if seen is not None:
        found.append(seen.amax(-1, keepdim=True))
    return [either(found, call.out)]


def _shown(call: Call, of: Of) -> torch.Tensor | None:
    """Which keys each query reads, (..., queries, keys); None for all."""
    queries, keys = call["query"].shape[-2], call["key"].shape[-2]
    shown = torch.ones(queries, keys, dtype=torch.bool).tril() if call["is_causal"] else None
    mask: torch.Tensor | None = call.get("attn_mask")
    seen = None if mask is None else of(mask)
    if mask is None or mask.is_meta or (seen is not None and bool(seen.any())):
        return shown
    # Numbers are added to the scores: minus infinity, or about the least number that there is, hides.
    visible = mask if mask.dtype is torch.bool else mask > torch.finfo(mask.dtype).min / 2
    return visible if shown is None else visible & shown


def recurrence(call: Call, of: Of) -> Planes:
    """Each step reads the steps before it, in each direction; a further layer reads what the layer below gives."""
    if "batch_sizes" in call:
        raise TypeError("packed sequences are not followed")
    x = of(call["input"])
    states = call["hx"] if isinstance(call["hx"], list | tuple) else [call["hx"]]
    given = [plane for plane in map(of, states) if plane is not None]
    if x is None or any(bool(plane.any()) for plane in given):
        raise TypeError("initial states that depend on the input are not followed")
    time = x.dim() - 2 if call["batch_first"] else 0
    ways = 2 if call["bidirectional"] else 1
    seen, ends = x.amax(-1, keepdim=True), []
    for _ in range(call["num_layers"]):
        each = [seen.cummax(time).values, seen.flip(time).cummax(time).values.flip(time)][:ways]
        ends += [each[0].select(time, -1), *(way.select(time, 0) for way in each[1:])]
        seen, below = torch.stack(each).amax(0), each
    width = call.out[-1] // ways
    out = torch.cat([way.expand(*way.shape[:-1], width) for way in below], -1)
    final = torch.stack(ends)
    return [out, *(final.expand(tuple(state.shape)) for state in call.outputs[1:])]


def fourier(call: Call, of: Of) -> Planes:
    """Every frequency reads all positions along the transformed axes."""
    plane = of(call["self"])
    if plane is None:
        raise TypeError("the transform's input is not what is reached")
    dims = call["dim"]
    over = tuple(range(plane.dim())) if dims is None else ([dims] if isinstance(dims, int) else tuple(dims))
    return [plane.amax(over, keepdim=True).expand(call.out)]
