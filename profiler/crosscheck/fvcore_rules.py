"""What fvcore documents that it counts, operator by operator (fvcore 0.1.5.post20221221).

Nothing here reads fvcore: the rules are restated from its documentation and handlers, so that its own figure can be
predicted from the sizes alone and a disagreement comes to light. One fused multiply-add is 1, as in our MACs.
"""

from math import prod

import numpy as np

from profiler.aten.call import Call
from profiler.aten.convolution import geometry
from profiler.crosscheck.result import PeerRule


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


def _cell(call: Call) -> int:
    return prod(call.shape("input")) * call.shape("w_ih")[0] + prod(call.shape("hx")) * call.shape("w_hh")[0]


def _lstm_cell(call: Call) -> int:
    hidden: tuple[int, ...] = tuple(call["hx"][0].shape)
    return prod(call.shape("input")) * call.shape("w_ih")[0] + prod(hidden) * call.shape("w_hh")[0]


def _left_is_broadcast(call: Call) -> bool:
    return _matmul(call) != call.out_elements * call.shape("self")[-1]


_CONV = PeerRule("conv", _convolution)
_CELL = PeerRule("linear", _cell)
_MATMUL = PeerRule(
    "matmul", _matmul, "fvcore does not see the left factor of a product broadcast", when=_left_is_broadcast
)
_STATISTICS = "fvcore adds norms to its count: 5 an element with weights, 4 without"

RULES: dict[str, PeerRule] = {
    **{f"aten.conv{n}d": _CONV for n in (1, 2, 3)},
    **{f"aten.conv_transpose{n}d": _CONV for n in (1, 2, 3)},
    **dict.fromkeys(("aten.convolution", "aten._convolution"), _CONV),
    "aten.linear": PeerRule("linear", _linear),
    **{f"aten.{name}_cell": _CELL for name in ("gru", "rnn_tanh", "rnn_relu")},
    "aten.lstm_cell": PeerRule("linear", _lstm_cell),
    **dict.fromkeys(("aten.matmul", "aten.linalg_matmul"), _MATMUL),
    "aten.mm": PeerRule("mm", _matmul),
    "aten.bmm": PeerRule("bmm", _bmm),
    "aten.addmm": PeerRule("addmm", _addmm),
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


PADDED_BY_WORD = PeerRule(
    "conv",
    lambda _call: 0,
    'fvcore has no rule for a convolution whose padding is a word ("same", "valid"): it counts 0',
)


def rule_for(call: Call) -> PeerRule | None:
    """Fvcore's rule for a call, None where it counts nothing."""
    if call.packet.startswith("aten.conv") and isinstance(call.get("padding"), str):
        return PADDED_BY_WORD
    return RULES.get(call.packet)
