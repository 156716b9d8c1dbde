"""Random networks for hypothesis: small executable graphs, each written down as the code that it runs.

A graph is drawn line by line. Every line is run at once on tensors without storage, so that the next one can be drawn
to fit the sizes that there are; a line that torch refuses is left out.
"""

from dataclasses import dataclass, replace
from math import prod

import torch
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

MOST_ELEMENTS = 6000
MOST_TOKENS = 150


@dataclass(frozen=True)
class Graph:
    """A network as code: the input `x`, one line per tensor, and the sizes of the weights `w[n]` that they use."""

    size: tuple[int, ...]
    weights: tuple[tuple[int, ...], ...]
    lines: tuple[str, ...]

    def __repr__(self):
        body = "\n".join(f"    {line}" for line in self.lines)
        return f"\nx = torch.rand{self.size}\nw = [torch.rand(s) for s in {list(self.weights)}]\n{body}\n"

    def model(self):
        return Run(self)

    def reduced(self, fails):
        """The graph without the lines that can go while it still fails."""
        graph = self
        for line in reversed(self.lines):
            shorter = replace(graph, lines=tuple(other for other in graph.lines if other != line))
            if shorter.lines and fails(shorter):
                graph = shorter
        return graph


class Run(nn.Module):
    def __init__(self, graph):
        super().__init__()
        self.weights = nn.ParameterList(torch.ones(size) for size in graph.weights)
        self.code = compile("\n".join(graph.lines), "graph", "exec")

    def forward(self, x):
        names = {"x": x, "w": list(self.weights), "torch": torch, "F": F}
        exec(self.code, names)
        return next(reversed([v for v in names.values() if isinstance(v, torch.Tensor)]))


class Builder:
    """Draws a graph, and knows the size of every tensor so far."""

    def __init__(self, draw, size):
        self.draw, self.size = draw, size
        self.names = {"x": torch.empty(size, device="meta")}
        self.weights, self.lines, self.used = [], [], 0

    def integer(self, low, high):
        return self.draw(st.integers(low, max(low, high)))

    def one_of(self, *values):
        return self.draw(st.sampled_from(values))

    def weight(self, *size):
        self.weights.append(tuple(size))
        return f"w[{len(self.weights) - 1}]"

    def shape(self, name):
        return tuple(self.names[name].shape)

    def add(self, expression):
        """Add a line; the name of its result, None where torch refuses or the result is too large or empty."""
        weights = [torch.empty(s, device="meta") for s in self.weights]
        try:
            result = eval(expression, {**self.names, "w": weights, "torch": torch, "F": F})
        except (RuntimeError, ValueError, IndexError, ArithmeticError):
            result = torch.empty(0)
        if not 0 < result.numel() <= MOST_ELEMENTS:
            del self.weights[self.used :]
            return None
        self.used = len(self.weights)
        name = f"t{len(self.lines)}"
        self.names[name] = result
        self.lines.append(f"{name} = {expression}")
        return name

    def pick(self):
        """A tensor to go on with, recent ones first."""
        names = list(self.names)[::-1]
        return names[min(self.integer(0, 3), len(names) - 1)]

    def each(self, axes, low, high):
        """A number per axis."""
        return [self.integer(low, high) for _ in range(axes)]


def axes_of(shape):
    return len(shape) - 2


def convolution(b, x):
    shape = b.shape(x)
    axes, channels = axes_of(shape), shape[1]
    groups = b.one_of(1, 1, *(g for g in (2, 4, channels) if channels % g == 0))
    out = groups * b.integer(1, 2)
    kernel, stride, dilation = b.each(axes, 1, 4), b.each(axes, 1, 3), b.each(axes, 1, 2)
    options = f"dilation={dilation}, groups={groups}"
    if b.draw(st.booleans()) and all(k % 2 for k in kernel):
        options += ", padding='same'"
    else:
        options += f", stride={stride}, padding={b.each(axes, 0, 2)}"
    b.add(f"F.conv{axes}d({x}, {b.weight(out, channels // groups, *kernel)}, {options})")


def transposed(b, x):
    shape = b.shape(x)
    axes, channels = axes_of(shape), shape[1]
    groups = b.one_of(1, 1, channels)
    kernel, stride = b.each(axes, 1, 4), b.each(axes, 1, 3)
    weight = b.weight(channels, b.integer(1, 2), *kernel)
    extra = [b.integer(0, s - 1) for s in stride]
    b.add(
        f"F.conv_transpose{axes}d({x}, {weight}, stride={stride}, padding={b.each(axes, 0, 2)}, "
        f"output_padding={extra}, groups={groups}, dilation={b.each(axes, 1, 2)})"
    )


def pool(b, x):
    axes = axes_of(b.shape(x))
    kernel = b.each(axes, 1, 4)
    padding = [b.integer(0, k // 2) for k in kernel]
    options = f"{kernel}, stride={b.each(axes, 1, 3)}, padding={padding}, ceil_mode={b.draw(st.booleans())}"
    if b.draw(st.booleans()):
        b.add(f"F.avg_pool{axes}d({x}, {options})")
    else:
        b.add(f"F.max_pool{axes}d({x}, {options}, dilation={b.each(axes, 1, 2)})")


def adaptive(b, x):
    shape = b.shape(x)
    sizes = [b.integer(1, n + 2) for n in shape[2:]]
    b.add(f"F.adaptive_{b.one_of('avg', 'max')}_pool{len(sizes)}d({x}, {sizes})")


LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def interpolation(b, x):
    shape = b.shape(x)
    axes = axes_of(shape)
    cubic = ("bicubic",) if axes == 2 else ()
    mode = b.one_of("nearest", "nearest-exact", LINEAR[axes], LINEAR[axes], *cubic)
    options = f"mode='{mode}'"
    if "nearest" not in mode:
        options += f", align_corners={b.draw(st.booleans())}"
    # Torch's antialiased kernels are wrong where a single column comes out: every row is the first.
    antialias = axes == 2 and mode in ("bilinear", "bicubic") and min(shape[2:]) > 3 and b.draw(st.booleans())
    options += ", antialias=True" if antialias else ""
    if b.draw(st.booleans()):
        options += f", size={[b.integer(1 + antialias, 2 * n) for n in shape[2:]]}"
    else:
        options += f", scale_factor={b.one_of(0.5, 0.75, 1.5, 2.0, 2.5, 3.0)}"
        options += ", recompute_scale_factor=True" if not antialias and b.draw(st.booleans()) else ""
    b.add(f"F.interpolate({x}, {options})")


def padding(b, x):
    axes = axes_of(b.shape(x))
    mode = b.one_of("constant", "reflect", "replicate", "circular")
    low = -1 if mode == "constant" else 0
    b.add(f"F.pad({x}, {b.each(2 * axes, low, 2)}, mode='{mode}')")


def piece(b, x):
    axis = b.integer(1, len(b.shape(x)) - 1)
    size = b.shape(x)[axis]
    kind = b.one_of("slice", "roll", "flip", "chunk", "cumsum", "repeat")
    start = b.integer(0, size // 2)
    stop, step = b.integer(start + 1, size), b.integer(1, 2)
    b.add(
        {
            "slice": f"{x}[{':, ' * axis}{start}:{stop}:{step}]",
            "roll": f"torch.roll({x}, {start + 1}, {axis})",
            "flip": f"torch.flip({x}, [{axis}])",
            "chunk": f"{x}.chunk(2, {axis})[{step - 1}]",
            "cumsum": f"{x}.cumsum({axis})",
            "repeat": f"{x}.repeat_interleave(2, {axis})",
        }[kind]
    )


def joined(b, x):
    """Two tensors added, or put one after the other: of equal size, or one of them cut to fit."""
    y = b.pick()
    mine, its = b.shape(x), b.shape(y)
    if len(mine) != len(its):
        return
    if b.draw(st.booleans()):
        common = tuple(min(n) for n in zip(mine, its, strict=True))
        left, right = (
            name + (f"[{', '.join(f':{n}' for n in common)}]" if shape != common else "")
            for name, shape in ((x, mine), (y, its))
        )
        b.add(f"{left} {b.one_of('+', '*')} {right}")
        return
    unequal = [n for n in range(1, len(mine)) if mine[n] != its[n]]
    if len(unequal) <= 1:
        axis = unequal[0] if unequal else b.integer(1, len(mine) - 1)
        b.add(f"torch.cat([{x}, {y}], {axis})")


def residual(b, x):
    shape = b.shape(x)
    axes, channels = axes_of(shape), shape[1]
    kernel = [1 + 2 * n for n in b.each(axes, 0, 2)]
    weight = b.weight(channels, channels, *kernel)
    inner = b.add(f"F.relu(F.conv{axes}d({x}, {weight}, padding='same', dilation={b.each(axes, 1, 2)}))")
    if inner:
        b.add(f"{inner} + {x}")


def shuffled(b, x):
    """Pixels to channels or back, behind what makes the sizes fit."""
    shape = b.shape(x)
    if axes_of(shape) != 2:
        return
    if b.draw(st.booleans()):
        many = b.add(f"F.conv2d({x}, {b.weight(4 * b.integer(1, 2), shape[1], 1, 1)})")
        if many:
            b.add(f"F.pixel_shuffle({many}, 2)")
    elif min(shape[2:]) > 1:
        even = b.add(f"{x}[..., :{shape[2] // 2 * 2}, :{shape[3] // 2 * 2}]")
        b.add(f"F.pixel_unshuffle({even}, 2)")


def windows(b, x):
    """Windows cut out, mixed inside or not, perhaps shifted, and put back."""
    shape = b.shape(x)
    if axes_of(shape) != 2:
        return
    n, c, h, v = shape
    p, q = (b.one_of(*(k for k in range(1, size + 1) if size % k == 0)) for size in (h, v))
    shift = b.integer(0, 2)
    if shift:
        x = b.add(f"torch.roll({x}, ({shift}, {shift}), (2, 3))")
    cut = b.add(f"{x}.view({n}, {c}, {h // p}, {p}, {v // q}, {q}).permute(0, 2, 4, 3, 5, 1).reshape(-1, {p * q}, {c})")
    if cut is None:
        return
    inside = b.one_of("", "F.scaled_dot_product_attention({0}, {0}, {0})", "F.softmax({0} @ {0}.mT, -1) @ {0}")
    mixed = b.add(inside.format(cut)) if inside else cut
    back = f"{mixed}.view({n}, {h // p}, {v // q}, {p}, {q}, {c}).permute(0, 5, 1, 3, 2, 4).reshape{shape}"
    back = b.add(back)
    if shift and back:
        b.add(f"torch.roll({back}, (-{shift}, -{shift}), (2, 3))")


def tokens(b, x):
    """An image as tokens, worked on, and back as an image."""
    shape = b.shape(x)
    c, *spatial = shape[1:]
    if prod(spatial) > MOST_TOKENS:
        return
    flat = b.add(f"{x}.flatten(2).transpose(1, 2)")
    works = (
        "F.layer_norm({0}, ({c},))",
        "F.linear({0}, {w})",
        "F.scaled_dot_product_attention({0}, {0}, {0})",
        "F.scaled_dot_product_attention({0}, {0}, {0}, is_causal=True)",
        "torch.cat([{0}.mean(1, keepdim=True), {0}], 1)[:, 1:]",
        "torch.einsum('bnc,bmc->bnm', {0}, {0}) @ {0}",
        "F.avg_pool1d({0}.transpose(1, 2), 3, 1, 1).transpose(1, 2)",
    )
    work = b.one_of(*works)
    weight = b.weight(c, c) if "{w}" in work else ""
    done = flat and b.add(work.format(flat, w=weight, c=c))
    if done:
        b.add(f"{done}.transpose(1, 2).reshape{shape}")


def reshaped(b, x):
    """An axis split, merged or moved to another place, and perhaps never put back."""
    shape = b.shape(x)
    kind = b.one_of("swap", "merge", "fold", "split and merge")
    last = len(shape) - 1
    if kind == "swap" and last > 2:
        b.add(f"{x}.transpose({last - 1}, {last}).contiguous()")
    elif kind == "merge" and last > 2:
        b.add(f"{x}.flatten({last - 1}, {last})")
    elif kind == "fold" and shape[last] % 2 == 0:
        b.add(f"{x}.reshape{(shape[0], shape[1] * 2, *shape[2:last], shape[last] // 2)}")
    elif kind == "split and merge" and shape[last] % 2 == 0:
        half = f"{x}.view{(*shape[:last], shape[last] // 2, 2)}.transpose({last}, {last + 1}).reshape{shape}"
        b.add(half)


def mixed(b, x):
    """Statistics and gates: what joins positions."""
    shape = b.shape(x)
    c, spatial = shape[1], tuple(range(2, len(shape)))
    b.add(
        b.one_of(
            f"{x} * torch.sigmoid({x}.mean({spatial}, keepdim=True))",
            f"F.softmax({x}, {b.integer(1, len(shape) - 1)})",
            f"F.layer_norm({x}, {shape[-1:]})",
            f"F.group_norm({x}, {b.one_of(1, c)})",
            f"F.instance_norm({x})" if prod(shape[2:]) > 1 else f"{x} * 2",
            f"{x}.amax({b.integer(1, len(shape) - 1)}, keepdim=True) + {x}",
            f"{x}.mean({b.integer(2, len(shape) - 1)}, keepdim=True)",
        )
    )


def pointwise(b, x):
    b.add(b.one_of(f"F.relu({x})", f"F.gelu({x}) + 1", f"{x} * 0.5", f"torch.cat([{x}, {x}], 1)"))


KINDS = (
    *(convolution, convolution, transposed, pool, pool, adaptive, interpolation, interpolation, padding, piece, piece),
    *(joined, joined, residual, shuffled, windows, tokens, reshaped, mixed, pointwise),
)
SIZES = {1: (4, 24), 2: (4, 13), 3: (3, 6)}


@st.composite
def graphs(draw):
    axes = draw(st.sampled_from((1, 2, 2, 2, 3)))
    low, high = SIZES[axes]
    spatial = tuple(draw(st.integers(low, high)) for _ in range(axes))
    b = Builder(draw, (1, draw(st.sampled_from((1, 2, 4))), *spatial))
    for _ in range(draw(st.integers(1, 9))):
        kind = draw(st.sampled_from(KINDS))
        x = b.pick()
        if 3 <= len(b.shape(x)) <= 5:
            kind(b, x)
    if not b.lines:
        b.add("F.relu(x)")
    return Graph(b.size, tuple(b.weights), tuple(b.lines))
