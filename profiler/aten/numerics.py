"""Vector norms, log-sum-exp, Fourier transforms, sampling, scattered sums and losses: ATen arguments to formulas."""

from collections.abc import Callable
from math import inf, prod

from profiler.aten.call import Call, Cost, Operator, Shape
from profiler.aten.elementwise import reduced_shape, reduction
from profiler.formulas.activation import log_softmax_flops
from profiler.formulas.resampling import FLOPS_PER_ELEMENT
from profiler.formulas.statistics import (
    LOSS_PER_ELEMENT,
    fft_flops,
    grid_sample_flops,
    logsumexp_flops,
    vector_norm_flops,
    weight_norm_flops,
)


def _groups(call: Call) -> tuple[int, int]:
    groups = max(call.out_elements, 1)
    return groups, call.first.numel() // groups


def _logsumexp_cost(call: Call) -> Cost:
    return Cost(0, logsumexp_flops(*_groups(call)))


def _norm_cost(call: Call) -> Cost:
    order = next((call[name] for name in ("ord", "p") if name in call), 2)
    if isinstance(order, str):
        order = {"inf": inf, "-inf": inf}.get(order, 2)
    return Cost(0, vector_norm_flops(*_groups(call), 2 if order is None else float(order)))


def _fft_cost(call: Call) -> Cost:
    larger = max(call.first, call.outputs[0], key=lambda t: t.numel())
    axes = call.get("dim")
    axes = range(larger.dim()) if axes is None else axes
    points = prod(larger.shape[a] for a in ([axes] if isinstance(axes, int) else axes))
    real = not (call.first.is_complex() and call.outputs[0].is_complex())
    return Cost(0, fft_flops(larger.numel() // max(points, 1), points, real=real))


_SAMPLED = {(2, 0): "bilinear", (2, 1): "nearest", (2, 2): "bicubic", (3, 0): "trilinear", (3, 1): "nearest"}


def _sample_cost(call: Call) -> Cost:
    mode = _SAMPLED[call.first.dim() - 2, call["interpolation_mode"]]
    return Cost(0, grid_sample_flops(prod(call.shape("grid")), call.out_elements, FLOPS_PER_ELEMENT[mode]))


def _sampled_shape(call: Call) -> Shape:
    return (*call.shape("input")[:2], *call.shape("grid")[1:-1])


def _affine_grid_cost(call: Call) -> Cost:
    """Every position in homogeneous coordinates times an affine matrix."""
    rows, columns = call.shape("theta")[1:]
    macs = call.out_elements // rows * rows * columns
    return Cost(macs, 2 * macs)


def _weight_norm_cost(call: Call) -> Cost:
    rows = max(call["g"].numel(), 1)
    return Cost(0, weight_norm_flops(rows, call["v"].numel() // rows))


def _one_each(name: str) -> Callable[[Call], Cost]:
    """One addition for every element of the argument `name`."""
    return lambda call: Cost(0, call[name].numel() if name in call and hasattr(call[name], "numel") else 0)


def _bag_cost(call: Call) -> Cost:
    bags = call.outputs[0].numel()
    return Cost(0, max(call["indices"].numel() * call.shape("weight")[1] - bags, 0))


def _loss(name: str) -> Operator:
    each = LOSS_PER_ELEMENT[name]
    return Operator(f"{name.replace('_', ' ')} loss", "Losses", lambda call: Cost(0, each * call.first.numel()))


def _cross_entropy_cost(call: Call) -> Cost:
    x = call.shape("self")
    classes = x[1] if len(x) > 1 else x[0]
    rows = prod(x) // max(classes, 1)
    return Cost(0, log_softmax_flops(rows, classes) + LOSS_PER_ELEMENT["cross_entropy"] * rows)


NORM = Operator("vector norm", "Vector norms", _norm_cost)
FFT = Operator("fourier transform", "Fourier transforms", _fft_cost)
SCATTERED = "Element by element"

_FFT_NAMES = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
_LOSSES = {
    "mse_loss": "mse", "l1_loss": "l1", "smooth_l1_loss": "smooth_l1", "huber_loss": "huber",
    "binary_cross_entropy": "bce", "binary_cross_entropy_with_logits": "bce_with_logits", "kl_div": "kl_div",
    "nll_loss": "nll", "nll_loss2d": "nll", "nll_loss_nd": "nll", "soft_margin_loss": "soft_margin",
    "hinge_embedding_loss": "hinge",
}  # fmt: skip

TABLE = {
    "aten.logsumexp": Operator("log-sum-exp", "Softmax", _logsumexp_cost, reduced_shape),
    **{f"aten.{name}": NORM for name in ("linalg_vector_norm", "linalg_norm", "norm", "frobenius_norm")},
    **{f"aten.fft_{name}{n}": FFT for name in _FFT_NAMES for n in ("", "2", "n")},
    **{f"aten._fft_{name}": FFT for name in ("r2c", "c2c", "c2r")},
    **{
        f"aten.{name}": Operator("grid sample", "Sampling", _sample_cost, _sampled_shape)
        for name in ("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")
    },
    "aten.affine_grid_generator": Operator("affine grid", "Matrix product", _affine_grid_cost),
    "aten._weight_norm": Operator("weight norm", "Normalisation", _weight_norm_cost),
    "aten.col2im": Operator("fold", SCATTERED, _one_each("self")),
    "aten.index_add": Operator("index add", SCATTERED, _one_each("source")),
    "aten.scatter_add": Operator("scatter add", SCATTERED, _one_each("src")),
    "aten.scatter_reduce": Operator("scatter reduce", SCATTERED, _one_each("src")),
    "aten.embedding_bag": Operator("embedding bag", "Reductions", _bag_cost),
    "aten._embedding_bag": Operator("embedding bag", "Reductions", _bag_cost),
    "aten.prod": Operator("product", "Reductions", reduction()),
    "aten.nansum": Operator("sum", "Reductions", reduction()),
    "aten.nanmean": Operator("mean", "Reductions", reduction(mean=True)),
    "aten.cross_entropy_loss": Operator("cross entropy loss", "Losses", _cross_entropy_cost),
    **{f"aten.{name}": _loss(key) for name, key in _LOSSES.items()},
}
