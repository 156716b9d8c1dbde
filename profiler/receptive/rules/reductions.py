"""Norms, reductions, softmax, Fourier transforms, losses: what joins the positions along whole axes."""

from collections.abc import Callable, Sequence

from profiler.aten.call import Call
from profiler.receptive.field import TensorField
from profiler.receptive.merge import merged
from profiler.receptive.reshape import expanded_to, reshaped
from profiler.receptive.rules.base import Fields, Result, Rule, merge, outlined, present, unary
from profiler.receptive.view import BOUNDED, DEPENDENT, EXACT


def _norm(axes: Callable[[Call], Sequence[int]]) -> Rule:
    """Statistics over some axes: every position along them comes to depend on all, through the statistics alone."""

    def apply(call: Call, fields: Fields) -> Result:
        field = fields(call.tensors[0])
        return _normed(call, fields, None if field is None else field.mixed(axes(call)))

    return apply


def _normed(call: Call, fields: Fields, field: TensorField | None, doubt: int = EXACT) -> Result:
    """Scaled and shifted, with the statistics themselves where they are put out: those see no more than everything."""
    rest = [f for t in call.tensors[1:] if (f := fields(t)) is not None]
    if rest:
        field = _scaled(call, field, rest)
    outputs = call.outputs
    if len(outputs) == 1 or field is None:
        return [field] * len(outputs)
    joined = field.reduced(range(len(field.layout)), keep=True)
    return [field, *(joined.like(tuple(out.shape), doubt) for out in outputs[1:])]


def _group_norm(call: Call, fields: Fields) -> Result:
    """Statistics over the channels of a group and all positions: channels of other groups stay apart."""
    field = fields(call.tensors[0])
    groups = call["num_groups"] if "num_groups" in call else call["group"]
    if field is None or groups == 1 or not field.moves_along(field.layout[1]):
        return _normed(call, fields, None if field is None else field.mixed(range(1, len(field.layout))))
    batch, channels, *rest = shape = field.shape
    apart = reshaped(field, (batch, groups, channels // groups, *rest))
    return _normed(call, fields, reshaped(apart.mixed(range(2, len(shape) + 1)), shape), BOUNDED)


def _scaled(call: Call, field: TensorField | None, rest: Sequence[TensorField]) -> TensorField:
    """A scale or bias that was computed from the input: along the last axes, or of each channel."""
    out = call.out
    last = "normalized_shape" in call
    parts = [] if field is None else [field]
    parts += [own if last else outlined(own, out, [1]) for own in rest]
    return merged(parts, out)


def _batch_norm(call: Call, fields: Fields) -> Result:
    tensors = call.tensors
    field = fields(tensors[0])
    if field is None:
        return [None] * len(call.outputs)
    if call["training"] or call["running_mean"] is None:
        return [field.mixed([a for a in range(len(field.layout)) if a != 1])] * len(call.outputs)
    return [field] * len(call.outputs)


def _instance_norm_axes(call: Call) -> Sequence[int]:
    return range(2, call.first.dim()) if call["use_input_stats"] else ()


def _last(call: Call) -> Sequence[int]:
    rank = call.first.dim()
    return range(rank - len(call["normalized_shape"]), rank)


def axes_of(call: Call, *names: str) -> list[int]:
    """The axes that a call names under one of these names; all where it names none."""
    rank = call.first.dim()
    dims = next((call[name] for name in names if name in call and call[name] is not None), None)
    if dims is None or (isinstance(dims, list | tuple) and not dims):
        return list(range(rank))
    return sorted({d % max(rank, 1) for d in ([dims] if isinstance(dims, int) else dims)}) if rank else []


def _reduce(call: Call, fields: Fields) -> Result:
    """Sum, mean, maximum and their kind; the maximum of two tensors is element by element."""
    field = fields(call.first)
    if "other" in call:
        return merge(call, fields)
    if field is None:
        return [None] * len(call.outputs)
    result = field.reduced(axes_of(call, "dim"), keep=bool(call.get("keepdim")))
    return [result] * len(call.outputs)


def _winner(call: Call, fields: Fields) -> Result:
    """The place of the largest: every position decides, and what comes out is no value but a place."""
    field = fields(call.first)
    if field is None:
        return [None] * len(call.outputs)
    axes = axes_of(call, "dim")
    gone = field.uids(axes)
    moves = any(not gone.isdisjoint(v.atoms) for v in field.true)
    result = field.reduced(axes, keep=bool(call.get("keepdim")))
    return [result.doubted(DEPENDENT, "values say which place it is") if moves else result] * len(call.outputs)


def _softmax(call: Call, field: TensorField) -> TensorField:
    return field.mixed([call["dim"]]) if field.layout else field


def _fourier(*names: str) -> Rule:
    """A transform: every frequency depends on all positions along the axes."""

    def rule(call: Call, field: TensorField) -> TensorField:
        axes = axes_of(call, *names)
        out = call.out
        if field.shape == out:
            return field.mixed(axes)
        return expanded_to(field.reduced(axes, keep=True), out)

    return unary(rule)


def _loss(call: Call, fields: Fields) -> Result:
    """All of it where it is reduced to a number, else element by element, the classes joined."""
    found = present(call, fields)
    if not found:
        return [None] * len(call.outputs)
    out = call.out
    classes = "weight" in call and len(call.first.shape) == len(out) + 1
    if not out:
        found = [f.reduced(range(len(f.layout)), keep=False) for f in found]
    elif classes:
        found = [f.reduced([min(1, len(out))], keep=False) if len(f.layout) == len(out) + 1 else f for f in found]
    return [merged(found, out)] * len(call.outputs)


_REDUCTIONS = (
    *(
        "sum",
        "mean",
        "amax",
        "amin",
        "max",
        "min",
        "var",
        "std",
        "any",
        "all",
        "prod",
        "nansum",
        "nanmean",
        "logsumexp",
    ),
    *("var_mean", "std_mean", "aminmax", "median", "nanmedian", "norm", "linalg_vector_norm", "linalg_norm"),
    *("frobenius_norm", "nuclear_norm", "linalg_matrix_norm", "count_nonzero", "_is_all_true", "_is_any_true", "equal"),
    *("allclose", "is_nonzero"),
)
_LOSSES = (
    *("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "kl_div", "soft_margin_loss"),
    *("binary_cross_entropy_with_logits", "nll_loss", "nll_loss2d", "nll_loss_nd", "cross_entropy_loss"),
    *("hinge_embedding_loss", "cosine_embedding_loss", "margin_ranking_loss", "triplet_margin_loss"),
    *("multi_margin_loss", "multilabel_margin_loss", "poisson_nll_loss", "ctc_loss"),
)
_TRANSFORMS = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")

TABLE: dict[str, Rule] = {
    "aten.batch_norm": _batch_norm,
    "aten.instance_norm": _norm(_instance_norm_axes),
    **{f"aten.{name}": _group_norm for name in ("group_norm", "native_group_norm")},
    **{f"aten.{name}": _norm(_last) for name in ("layer_norm", "rms_norm", "native_layer_norm", "_fused_rms_norm")},
    "aten._weight_norm": merge,
    **{f"aten.{name}": unary(_softmax)
       for name in ("softmax", "log_softmax", "_softmax", "_log_softmax", "_safe_softmax")},
    **{f"aten.{name}": _reduce for name in _REDUCTIONS},
    **{f"aten.{name}": _winner for name in ("argmax", "argmin")},
    **{f"aten.fft_{name}{n}": _fourier("dim") for name in _TRANSFORMS for n in ("", "2", "n")},
    **{f"aten._fft_{name}": _fourier("dim") for name in ("c2c", "c2r", "r2c")},
    **{f"aten.{name}": _loss for name in _LOSSES},
}  # fmt: skip
