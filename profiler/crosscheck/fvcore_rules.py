"""What fvcore documents that it counts, operator by operator (fvcore 0.1.5.post20221221).

Nothing here reads fvcore: the rules are restated from its documentation and handlers, so that its own figure can be
predicted from the sizes alone and a disagreement comes to light. One fused multiply-add is 1, as in our MACs.
"""

from math import prod

import numpy as np

from profiler.aten.call import Call
from profiler.aten.convolution import geometry
from profiler.crosscheck.result import PeerRule

NO_RULE = "fvcore has no rule for {op}: it counts 0"
WORD_PADDING = 'fvcore has no rule for a convolution whose padding is a word ("same", "valid"): it counts 0'


def _convolution(call: Call) -> int:
    """Batch times weight elements times positions; a transposed convolution's positions are its input's."""
    weight = call.shape("weight")
    axes = len(weight) - 2
    positions = call.shape("input") if geometry(call).transposed else call.out
    batch = call.shape("input")[0] if len(call.shape("input")) == axes + 2 else 1
    return batch * prod(weight) * prod(positions[-axes:])


def _linear(call: Call) -> int:
    return prod(call.shape("input")) * call.shape("weight")[0]


def _matmul(call: Call) -> int:
    """All elements of the left factor times the last size of the right one: broadcasting of the left is not seen."""
    right = "other" if "other" in call else "mat2"
    return prod(call.shape("self")) * call.shape(right)[-1]


def _bmm(call: Call) -> int:
    n, rows, inner = call.shape("self")
    return n * rows * inner * call.shape("mat2")[-1]


def _addmm(call: Call) -> int:
    return prod(call.shape("mat1")) * call.shape("mat2")[-1]


def _einsum(call: Call) -> int:
    """Two patterns by hand, else half of numpy's printed estimate, which keeps four digits."""
    equation = str(call["equation"]).replace(" ", "")
    letters = sorted({c for c in equation if c.isalpha()}, key=equation.index)
    names = {c: chr(ord("a") + n) for n, c in enumerate(letters)}
    pattern = "".join(names.get(c, c) for c in equation)
    shapes: list[tuple[int, ...]] = [tuple(t.shape) for t in call["tensors"]]
    if pattern == "abc,abd->acd":
        return prod(shapes[0]) * int(shapes[1][-1])
    if pattern == "abc,adc->adb":
        return prod(shapes[0]) * shapes[1][1]
    _, text = np.einsum_path(call["equation"], *(np.broadcast_to(0.0, s) for s in shapes), optimize="optimal")
    line = next(row for row in text.split("\n") if "optimized flop" in row.lower())
    return int(np.floor(float(line.split(":")[-1]) / 2))


def _batch_norm(call: Call) -> int:
    trains = bool(call["training"]) or call["running_mean"] is None
    affine = call["weight"] is not None
    return prod(call.shape("input")) * ((5 if affine else 4) if trains else (2 if affine else 1))


def _statistics_norm(call: Call) -> int:
    return prod(call.shape("input")) * (5 if call["weight"] is not None else 4)


_CONV = PeerRule("conv", _convolution, "fvcore takes the weight's own group size")
_STATISTICS = "fvcore adds norms to its count: 5 an element with weights, 4 without"

RULES: dict[str, PeerRule] = {
    **{f"aten.conv{n}d": _CONV for n in (1, 2, 3)},
    **{f"aten.conv_transpose{n}d": _CONV for n in (1, 2, 3)},
    "aten.convolution": _CONV,
    "aten.linear": PeerRule("linear", _linear, "fvcore counts a fully connected layer as we do"),
    "aten.matmul": PeerRule("matmul", _matmul, "fvcore does not see the left factor of a product broadcast"),
    "aten.mm": PeerRule("mm", _matmul, "fvcore counts a matrix product as we do"),
    "aten.bmm": PeerRule("bmm", _bmm, "fvcore counts a batched product as we do"),
    "aten.addmm": PeerRule("addmm", _addmm, "fvcore counts a product with addition as we do"),
    "aten.einsum": PeerRule(
        "einsum", _einsum, "fvcore takes numpy's estimate of an einsum: four digits, products without a sum halved"
    ),
    "aten.batch_norm": PeerRule(
        "batch_norm",
        _batch_norm,
        "fvcore adds batch norms to its count: 2 an element (1 without weights; 5 or 4 in training)",
    ),
    "aten.layer_norm": PeerRule("layer_norm", _statistics_norm, _STATISTICS),
    "aten.group_norm": PeerRule("group_norm", _statistics_norm, _STATISTICS),
    "aten.instance_norm": PeerRule("instance_norm", _statistics_norm, _STATISTICS),
    "aten.upsample_nearest2d": PeerRule(
        "upsample_nearest2d", lambda call: call.out_elements, "fvcore adds nearest upsampling to its count: 1 an output"
    ),
    "aten.upsample_bilinear2d": PeerRule(
        "upsample_bilinear2d", lambda call: 4 * call.out_elements, "fvcore adds bilinear upsampling: 4 an output"
    ),
    "aten.adaptive_avg_pool2d": PeerRule(
        "adaptive_avg_pool2d", lambda call: call.first.numel(), "fvcore adds adaptive average pools: 1 an input"
    ),
    "aten.grid_sampler": PeerRule(
        "grid_sampler", lambda call: 4 * call.out_elements, "fvcore adds grid sampling: 4 an output"
    ),
}


def rule_for(call: Call) -> PeerRule | None:
    """Fvcore's rule for a call, None where it counts nothing.

    A convolution whose padding is a word ("same", "valid") is traced as an operator that fvcore has no rule for.
    """
    return None if _padded_by_word(call) else RULES.get(call.packet)


def reason_for(call: Call, op: str) -> str:
    """Why fvcore's figure for a call differs from the multiply-accumulates."""
    if _padded_by_word(call):
        return WORD_PADDING
    rule = RULES.get(call.packet)
    return rule.reason if rule else NO_RULE.format(op=op)


def _padded_by_word(call: Call) -> bool:
    return call.packet.startswith("aten.conv") and isinstance(call.get("padding"), str)
