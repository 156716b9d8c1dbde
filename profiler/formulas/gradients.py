"""Gradients: what the operators of a backward pass compute.

The convention is that of the forward pass: a MAC is one multiply-accumulate of a product, a FLOP one floating-point
operation, constants folded beforehand. Below, g is the gradient that comes in, x an input, y a result.
"""

from math import prod

from profiler.formulas.pooling import adaptive_window_total
from profiler.formulas.resampling import FLOPS_PER_ELEMENT as INTERPOLATION

ACTIVATIONS: dict[str, int] = {
    "threshold": 1,  # x > 0 ? g : 0, which is ReLU's
    "hardtanh": 2,  # low < x < high ? g : 0, which is ReLU6's
    "leaky_relu": 2,  # x > 0 ? g : a g
    "rrelu": 1,  # g noise
    "prelu": 3,  # as leaky ReLU, and x > 0 ? 0 : x g for the slope
    "elu": 4,  # x > 0 ? g : a exp(x) g
    "elu_of_result": 3,  # y > 0 ? g : (y + a) g
    "sigmoid": 3,  # g y (1 - y)
    "log_sigmoid": 5,  # g exp(-x) / (1 + exp(-x))
    "tanh": 3,  # g (1 - y^2)
    "silu": 9,  # g s (1 + x (1 - s)) with s = sigmoid(x)
    "mish": 14,  # g (t + x s (1 - t^2)) with t = tanh(softplus(x)) and s = sigmoid(x)
    "softplus": 4,  # g z / (1 + z) with z = exp(x)
    "gelu": 11,  # g (0.5 (1 + erf(x / sqrt 2)) + x c exp(-x^2 / 2))
    "gelu_tanh": 17,  # g (0.5 (1 + t) + 0.5 x (1 - t^2) (c + d x^2)) with t as in the forward pass
    "hardsigmoid": 3,  # -3 < x < 3 ? g / 6 : 0
    "hardswish": 5,  # x < -3 ? 0 : x <= 3 ? g (x / 3 + 0.5) : g
    "hardshrink": 2,  # |x| <= l ? 0 : g
    "softshrink": 2,  # the same
    "glu": 4,  # per element of the input's gradient: g s for one half, g s a (1 - s) for the other, 8 in all
    "logit": 3,  # g / (x (1 - x))
    "dropout": 2,  # g mask scale
}

LOSSES: dict[str, int] = {
    "mse": 3,  # c (x - t) g
    "smooth_l1": 5,  # |x - t| < b ? c (x - t) g : +-c g
    "huber": 5,
    "binary_cross_entropy": 6,  # g (x - t) / max(x (1 - x), eps)
    "soft_margin": 6,  # -t z g / (1 + z) with z = exp(-t x)
}

# An interpolation step over n neighbours gives g to each of them: n multiplications and n additions.
_NEIGHBOURS = {"linear": (2, 1), "bilinear": (2, 3), "trilinear": (2, 7), "bicubic": (4, 5)}


def product_backward(macs: int, gradients: int) -> int:
    """MACs of the gradients of a product: each factor's takes as many as the product.

    For a convolution, grouped, dilated or transposed as it may be: every multiplication of an input with a weight is
    one of a gradient with the weight (for the input) and one of a gradient with the input (for the weight).

    Args:
        macs: of the product itself.
        gradients: how many of its two factors have a gradient computed.
    """
    return gradients * macs


def bias_backward_flops(elements: int, biases: int) -> int:
    """The gradient of a bias: the sum over everything that it was added to."""
    return elements - biases


def attention_backward_macs(heads: int, queries: int, keys: int, width: int, value_width: int) -> int:
    """MACs of the backward pass of a fused attention, which keeps no scores and computes them again.

    Five products per head: Q K^T again, and the gradients P^T g of V, g V^T of P, dS K of Q and dS^T Q of K.
    Arguments as in `attention.attention_macs`.
    """
    return heads * queries * keys * (3 * width + 2 * value_width)


def attention_backward_flops(heads: int, queries: int, keys: int, width: int, value_width: int, *, masked: bool) -> int:
    """Two per MAC; per score its scaling, a mask, exp(s - log-sum) and P (dP - D) scaled: 6; per query D = sum(g y)."""
    scores = heads * queries * keys
    products = 2 * attention_backward_macs(heads, queries, keys, width, value_width)
    return products + scores * (7 if masked else 6) + heads * queries * (2 * value_width - 1)


def softmax_backward_flops(rows: int, length: int) -> int:
    """Y (g - sum(g y)) per row of n: n multiplications, n - 1 additions, n subtractions, n multiplications."""
    return rows * (4 * length - 1)


def log_softmax_backward_flops(rows: int, length: int) -> int:
    """G - exp(y) sum(g) per row of n: n - 1 additions, n exponentials, n multiplications, n subtractions."""
    return rows * (4 * length - 1)


def statistics_norm_backward_flops(
    groups: int, size: int, *, weights: int, wanted: tuple[bool, bool, bool], per_group: bool = False
) -> int:
    """Layer, group and instance norm, and batch norm in training.

    With z = (x - mean) / deviation (2 an element) and h = g w (1, where there is a weight):

        dx = (h - mean(h) - z mean(h z)) / deviation      means 3 an element, the rest 4
        dw = sum(g z), db = sum(g)                        2 and 1 an element, one less for each that comes out

    A batch norm has one weight a group, so that w / deviation is one number and the means are of g and g z: their sums
    are dw and db.

    Args:
        groups: groups that have statistics of their own.
        size: elements in each.
        weights: size of the weight, 0 where there is none.
        wanted: which gradients are computed: of the input, the weight and the bias.
        per_group: whether there is one weight a group.
    """
    of_input, of_weight, of_bias = wanted
    elements = groups * size
    flops = 2 * elements * (of_input or of_weight)
    if of_input:
        flops += 7 * elements
        if weights:
            flops += groups if per_group else elements
    if of_input and per_group:
        return flops
    return flops + of_weight * (2 * elements - weights) + of_bias * (elements - weights)


def batch_norm_backward_flops(elements: int, channels: int, wanted: tuple[bool, bool, bool]) -> int:
    """Batch norm with fixed statistics: dx = g times a constant, dw = sum(g z) with z as above, db = sum(g)."""
    of_input, of_weight, of_bias = wanted
    return of_input * elements + of_weight * (4 * elements - channels) + of_bias * (elements - channels)


def rms_norm_backward_flops(groups: int, size: int, *, weight: bool, wanted: tuple[bool, bool]) -> int:
    """As a layer norm without the mean: z (1), h (1), mean(h z) (2), (h - z mean(h z)) / root (3); dw = sum(g z)."""
    of_input, of_weight = wanted
    elements = groups * size
    return elements * (1 + (5 + weight if of_input else 0)) + of_weight * (2 * elements - size)


def average_pool_backward_flops(outputs: int, window: tuple[int, ...]) -> int:
    """Each output's gradient is divided by the window's size and added to each input in the window."""
    return outputs * (prod(window) + 1)


def adaptive_average_pool_backward_flops(channels: int, sizes: tuple[tuple[int, int], ...]) -> int:
    """The same with each output's own window; arguments as in `pooling.adaptive_average_pool_flops`."""
    return channels * (prod(adaptive_window_total(i, o) for i, o in sizes) + prod(o for _, o in sizes))


def interpolation_backward_flops(mode: str, outputs: int) -> int:
    """Each output's gradient goes back through the same steps; where nothing was interpolated, it is added once.

    Raises:
        KeyError: no such mode of `resampling.FLOPS_PER_ELEMENT`.
    """
    if not INTERPOLATION[mode]:
        return outputs
    neighbours, steps = _NEIGHBOURS[mode]
    return outputs * 2 * neighbours * steps


def weight_norm_flops(elements: int, rows: int) -> int:
    """V g / |v| per row of n: the squares and their sum 2n - 1, the root and the quotient 2, the products n."""
    return 3 * elements + rows


def weight_norm_backward_flops(elements: int, rows: int) -> int:
    """Dg = sum(d v) / |v|; dv = (g / |v|) (d - v dg / |v|): sums 2n - 1, three quotients, and 3 an element."""
    return 5 * elements + 2 * rows


# Per output element of a grid sample, c corners and a axes: the input's gradient g w at each corner (2 c), and the
# grid's, the sum over corners and axes of value, weights of the other axes and g (c a (a + 1)).
GRID_SAMPLES: dict[tuple[str, int], tuple[int, int]] = {
    ("bilinear", 2): (2 * 4, 4 * 2 * 3),
    ("bilinear", 3): (2 * 8, 8 * 3 * 4),
    ("nearest", 2): (1, 0),
    ("nearest", 3): (1, 0),
    ("bicubic", 2): (2 * 16, 16 * 2 * 3),
}


def grid_sample_backward_flops(mode: str, axes: int, outputs: int, wanted: tuple[bool, bool]) -> int:
    """Gradients of a grid sample's input and grid.

    Raises:
        KeyError: no such mode for so many axes.
    """
    of_input, of_grid = GRID_SAMPLES[mode, axes]
    return outputs * (of_input * wanted[0] + of_grid * wanted[1])


def distance_backward_flops(rows: int, columns: int, width: int) -> int:
    """Pairwise distances, per pair: g / distance, and (a - b) times that, added, for each of the coordinates."""
    return rows * columns * (1 + 3 * width)
