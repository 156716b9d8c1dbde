"""Operators that cut patches and put them together: unfold, im2col, col2im, the short-time Fourier transform."""

from functools import lru_cache

from profiler.aten.call import Call, per_axis
from profiler.receptive.field import TensorField
from profiler.receptive.index_map import BORDERS, IndexMap, shifted, window
from profiler.receptive.reshape import expanded_to, reshaped
from profiler.receptive.rules.base import Rule, unary, unknown


@lru_cache(maxsize=4096)
def _cut(kernel: int, stride: int, padding: int, dilation: int) -> IndexMap:
    """Position (patch, offset) reads patch * stride - padding + offset * dilation."""
    return IndexMap(kernel, stride, tuple((j * dilation - padding,) for j in range(kernel)))


@lru_cache(maxsize=4096)
def _sewn(kernel: int, stride: int, padding: int, dilation: int) -> IndexMap:
    """Output y reads the positions (patch, offset) with patch * stride - padding + offset * dilation = y."""
    taps = []
    for y in range(stride):
        rests = [(y + padding - j * dilation, j) for j in range(kernel)]
        taps.append(tuple(sorted(rest // stride * kernel + j for rest, j in rests if rest % stride == 0)))
    return IndexMap(stride, kernel, tuple(taps))


def _unfold(call: Call, field: TensorField) -> TensorField:
    """`x.unfold(axis, size, step)`: the offset within a patch becomes the last axis."""
    if not field.layout:
        return expanded_to(field, call.out)
    axis, size, step = call["dimension"] % len(field.layout), call["size"], call["step"]
    patches = call.out[axis]
    field = field.moved(axis, _cut(size, step, 0, 1), patches * size)
    shape = field.shape
    field = reshaped(field, (*shape[:axis], patches, size, *shape[axis + 1 :]))
    order = list(range(len(field.layout)))
    order.append(order.pop(axis + 1))
    return field.permuted(order)


def _im2col(call: Call, field: TensorField) -> TensorField:
    """(N, C, H, W) to (N, C kh kw, patches)."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = (
        per_axis(call[name], 2) for name in ("kernel_size", "stride", "padding", "dilation")
    )
    *batch, channels, h, w = field.shape
    oh, ow = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in ((h, kh, sh, ph, dh), (w, kw, sw, pw, dw)))
    n = len(batch)
    field = field.slid(n + 1, (_cut(kh, sh, ph, dh), _cut(kw, sw, pw, dw)), (oh * kh, ow * kw))
    field = reshaped(field, (*batch, channels, oh, kh, ow, kw))
    return reshaped(field.permuted([*range(n), n, n + 2, n + 4, n + 1, n + 3]), call.out)


def _col2im(call: Call, field: TensorField) -> TensorField:
    """(N, C kh kw, patches) to (N, C, H, W), overlapping patches added."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = (
        per_axis(call[name], 2) for name in ("kernel_size", "stride", "padding", "dilation")
    )
    *batch, channels, h, w = call.out
    oh, ow = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in ((h, kh, sh, ph, dh), (w, kw, sw, pw, dw)))
    n = len(batch)
    field = reshaped(field, (*batch, channels, kh, kw, oh, ow))
    field = field.permuted([*range(n), n, n + 3, n + 1, n + 4, n + 2])
    field = reshaped(field, (*batch, channels, oh * kh, ow * kw))
    return field.slid(n + 1, (_sewn(kh, sh, ph, dh), _sewn(kw, sw, pw, dw)), (h, w))


def _stft(call: Call, field: TensorField) -> TensorField:
    """(..., T) to (..., frequencies, frames), and real and imaginary part where asked for as such."""
    size = call["n_fft"]
    step = call["hop_length"] or size // 4
    frames = call.out[len(field.layout)]
    last = len(field.layout) - 1
    if call.get("center"):
        border = BORDERS[call.get("pad_mode") or "reflect"]
        field = field.moved(last, shifted(-(size // 2), border), field.shape[last] + size // 2 * 2)
    field = field.moved(last, window(size, step, 0), frames)
    lead = field.shape[:-1]
    return expanded_to(reshaped(field, (*lead, 1, frames, *(1,) * (len(call.out) - len(lead) - 2))), call.out)


TABLE: dict[str, Rule] = {
    "aten.unfold": unary(_unfold),
    "aten.im2col": unary(_im2col),
    "aten.col2im": unary(_col2im),
    "aten.stft": unary(_stft),
    "aten.istft": unknown("frames are put together by their overlap, which is not followed"),
}
