"""One table from ATen operator to its structure: what each element of the result reads, whatever the values are.

Weights count as positive, activations as linear, a maximum and a selection as reading all that they choose from. An
operator whose reading depends on values (a top-k, a gather at computed places) has no structure.
"""

from collections.abc import Callable, Iterable

import torch

from profiler.aten import find
from profiler.aten.call import Call, tensors_of
from profiler.crosscheck.probe.calls import Of, Planes, Structure, as_it_is, split
from profiler.crosscheck.probe.products import attention, einsum, either, fourier, linear, product, recurrence
from profiler.crosscheck.probe.windows import Windows


def _present(call: Call, of: Of) -> list[torch.Tensor]:
    return [plane for plane in map(of, tensors_of((call.args, call.kwargs))) if plane is not None]


def pointwise(call: Call, of: Of) -> Planes:
    """Each element reads its own place in every operand."""
    found = _present(call, of)
    return [either(found, tuple(out.shape)) for out in call.outputs]


def _over(plane: torch.Tensor, axes: Iterable[int]) -> torch.Tensor:
    """Every position along some axes reads all of them."""
    axes = tuple(axes)
    return plane.amax(axes, keepdim=True).expand_as(plane) if axes and plane.dim() else plane


def _mixing(axes: Callable[[Call], Iterable[int]]) -> Structure:
    return lambda call, of: [_over(either(_present(call, of)[:1], tuple(call.first.shape)), axes(call))]


def _batch_norm_axes(call: Call) -> Iterable[int]:
    trains = call["training"] or call["running_mean"] is None
    return [n for n in range(call.first.dim()) if n != 1] if trains else ()


def _group_norm(call: Call, of: Of) -> Planes:
    (plane,) = _present(call, of)[:1]
    grouped = split(plane, 1, (call["num_groups"], -1))
    return [_over(grouped, range(2, grouped.dim())).reshape(plane.shape)]


def _reduction(call: Call, of: Of) -> Planes:
    """A sum, a mean, a maximum, a norm: the axes that `dim` names, or all."""
    if "other" in call:  # the binary overloads of max and min
        return pointwise(call, of)
    (plane,) = _present(call, of)
    dim, keep = call.get("dim"), bool(call.get("keepdim"))
    axes = tuple(range(plane.dim())) if dim is None or dim == [] else dim
    plane = plane.amax(axes, keepdim=keep) if plane.dim() else plane
    return [plane.expand(tuple(out.shape)) for out in call.outputs]


def _running(call: Call, of: Of) -> Planes:
    (plane,) = _present(call, of)
    return [plane.cummax(call["dim"]).values] * len(call.outputs)


def _gated(call: Call, of: Of) -> Planes:
    (plane,) = _present(call, of)
    return [torch.maximum(*plane.chunk(2, call["dim"]))]


def _embedding(call: Call, of: Of) -> Planes:
    plane = of(call["indices"])
    if plane is None:
        raise TypeError("a table that is computed from the input is not followed")
    return [plane.unsqueeze(-1).expand(call.out)]


def _largest(call: Call, of: Of) -> Planes:
    """A max pool, and where it found its maximum; a window that lies in the padding reaches nothing."""
    return [as_it_is(call, of)[0].clamp_min(0)] * len(call.outputs)


def _folded(call: Call, of: Of) -> Planes:
    """Patches summed into an image: where each entry goes is seen by cutting an image of numbered pixels."""
    (plane,) = _present(call, of)
    height, width = call["output_size"]
    pixels = torch.arange(1.0, height * width + 1, dtype=torch.float64).view(1, 1, height, width)
    geometry = [call[name] for name in ("kernel_size", "dilation", "padding", "stride")]
    target = torch.ops.aten.im2col(pixels, *geometry)[0].long()
    plane = split(plane, -2, (-1, target.shape[0])).flatten(-2)
    index = target.flatten().expand(plane.shape)
    image = plane.new_zeros((*plane.shape[:-1], height * width + 1)).scatter_reduce(-1, index, plane, "amax")
    return [split(image[..., 1:], -1, (height, width))]


def _like_another(call: Call, of: Of) -> Planes:
    """A change of type, memory or device."""
    (plane, *_) = _present(call, of)
    return [plane]


def _pad(call: Call, of: Of) -> Planes:
    """What is padded with a constant reaches nothing."""
    (plane,) = _present(call, of)
    mode = call.get("mode") or "constant"
    return [torch.ops.aten.pad(plane, call["pad"], mode, 0.0 if mode == "constant" else None)]


def _filled(call: Call, _of: Of) -> Planes:
    return [torch.zeros(call.out)]


def _one_hot(call: Call, of: Of) -> Planes:
    return [_present(call, of)[0].unsqueeze(-1).expand(call.out)]


def _complex_pair(call: Call, of: Of) -> Planes:
    (plane,) = _present(call, of)
    return [plane.unsqueeze(-1).expand(call.out) if "real" in call.packet else plane.amax(-1)]


_MOVED = (
    "view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as",
    "reshape_as", "ravel", "expand", "expand_as", "broadcast_to", "permute", "transpose", "t", "numpy_T", "mT",
    "movedim", "moveaxis", "swapaxes", "swapdims", "select", "slice", "narrow", "unbind", "chunk", "unsafe_chunk",
    "split", "unsafe_split", "split_with_sizes", "tensor_split", "cat", "concat", "concatenate", "stack", "hstack",
    "vstack", "dstack", "roll", "flip", "fliplr", "flipud", "rot90", "pixel_shuffle", "pixel_unshuffle",
    "channel_shuffle", "im2col", "unfold", "as_strided", "diagonal", "diag_embed", "tril", "triu", "repeat", "tile",
    "repeat_interleave", "contiguous", "clone", "detach", "alias", "lift_fresh", "index", "index_select", "gather",
    "take_along_dim", "slice_scatter", "select_scatter", "index_put", "index_copy", "scatter", "copy_", "zero_",
    "atleast_1d", "atleast_2d", "atleast_3d", "meshgrid", "broadcast_tensors", "resolve_conj", "resolve_neg",
)  # fmt: skip
_WINDOWS = (
    *(f"{name}{n}d" for name in ("avg_pool", "adaptive_avg_pool", "_adaptive_avg_pool") for n in (1, 2, 3)),
    *(f"{name}{n}d" for name in ("upsample_nearest", "_upsample_nearest_exact") for n in (1, 2, 3)),
    *("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d"),
    *("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
)
_CONVOLUTIONS = (
    *(f"{name}{n}d" for name in ("conv", "conv_transpose") for n in (1, 2, 3)),
    *("convolution", "_convolution"),
)
_MAXIMA = (
    *(f"{name}{n}d" for name in ("max_pool", "adaptive_max_pool") for n in (1, 2, 3)),
    *(f"max_pool{n}d_with_indices" for n in (1, 2, 3)),
)
_REDUCTIONS = (
    "sum", "nansum", "mean", "nanmean", "amax", "amin", "max", "min", "aminmax", "var", "std", "var_mean", "std_mean",
    "prod", "norm", "linalg_vector_norm", "logsumexp", "any", "all", "argmax", "argmin", "median", "count_nonzero",
)  # fmt: skip
_COPIES = ("to", "_to_copy", "type_as", "dropout", "feature_dropout", "alpha_dropout", "positive")
_CHOICES = ("where", "masked_fill", "nan_to_num", "isnan", "isinf", "isfinite", "real", "imag", "complex", "polar")
_FOURIER = tuple(f"fft_{i}{kind}fft{n}" for i in ("", "i") for kind in ("", "r") for n in ("", "2", "n"))


def table() -> dict[str, Structure]:
    """The structures by operator name; the windows among them remember the geometries they have seen."""
    windows = Windows()
    last_axes: Structure = _mixing(lambda call: range(-len(call["normalized_shape"]), 0))
    return {
        **{f"aten.{name}": as_it_is for name in _MOVED},
        **{f"aten.{name}": windows.pool for name in _WINDOWS},
        **{f"aten.{name}": windows.convolution for name in _CONVOLUTIONS},
        **{f"aten.{name}": _reduction for name in _REDUCTIONS},
        **{f"aten.{name}": _like_another for name in _COPIES},
        **{f"aten.{name}": pointwise for name in _CHOICES},
        **{f"aten.{name}": fourier for name in _FOURIER},
        **{
            f"aten.{name}": product
            for name in ("matmul", "mm", "bmm", "mv", "dot", "addmm", "baddbmm", "addmv", "cdist")
        },
        **{f"aten.{name}": _running for name in ("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp")},
        **{f"aten.{name}": recurrence for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
        **{f"aten.{name}": _largest for name in _MAXIMA},
        **{f"aten.{name}": _mixing(lambda call: [call["dim"]]) for name in ("softmax", "_softmax", "log_softmax")},
        "aten._log_softmax": _mixing(lambda call: [call["dim"]]),
        **{f"aten.{name}": _pad for name in ("pad", "constant_pad_nd")},
        "aten.linear": linear,
        "aten.einsum": einsum,
        "aten.scaled_dot_product_attention": attention,
        "aten.batch_norm": _mixing(_batch_norm_axes),
        "aten.instance_norm": _mixing(lambda call: range(2, call.first.dim()) if call["use_input_stats"] else ()),
        "aten.group_norm": _group_norm,
        "aten.layer_norm": last_axes,
        "aten.rms_norm": last_axes,
        "aten.glu": _gated,
        "aten.embedding": _embedding,
        "aten.col2im": _folded,
        "aten.fill_": _filled,
        "aten.one_hot": _one_hot,
        "aten.view_as_real": _complex_pair,
        "aten.view_as_complex": _complex_pair,
    }


# Arguments that say where to read or write: a place that is computed from the input has no structure.
PLACES = {
    **dict.fromkeys(("aten.index", "aten.index_put"), "indices"),
    **dict.fromkeys(("aten.gather", "aten.index_select", "aten.scatter", "aten.index_copy"), "index"),
    "aten.take_along_dim": "indices",
    "aten.repeat_interleave": "repeats",
}


def is_pointwise(call: Call) -> bool:
    """Whether an operator without an entry works element by element, by our table or by torch's own tag."""
    operator = find(call.packet)
    ours = operator is not None and operator.formula in ("Element by element", "Activations")
    return ours or torch.Tag.pointwise in call.func.tags
