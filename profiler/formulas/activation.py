"""Activations, softmax and element-by-element operations: FLOPs per element, in one table.

Each of + - * / max min compare, exp, log, sqrt, tanh, erf, sin and cos is one operation. A composite costs the
operations of its documented form, constants folded beforehand.
"""

COST_PER_ELEMENT: dict[str, int] = {
    "relu": 1,  # max(x, 0)
    "relu6": 2,  # min(max(x, 0), 6)
    "hardtanh": 2,  # min(max(x, low), high)
    "leaky_relu": 2,  # x > 0 ? x : a x
    "prelu": 2,  # the same with a learned slope
    "elu": 4,  # x > 0 ? x : a (exp(x) - 1)
    "selu": 5,  # scale * elu
    "celu": 5,  # x > 0 ? x : a (exp(x / a) - 1)
    "sigmoid": 4,  # 1 / (1 + exp(-x))
    "log_sigmoid": 4,  # -log(1 + exp(-x))
    "tanh": 1,
    "silu": 5,  # x * sigmoid(x)
    "mish": 5,  # x * tanh(log(1 + exp(x)))
    "softplus": 3,  # log(1 + exp(x))
    "softsign": 3,  # x / (1 + |x|)
    "gelu": 5,  # 0.5 x (1 + erf(x / sqrt 2))
    "gelu_tanh": 9,  # 0.5 x (1 + tanh(c (x + 0.044715 x^3)))
    "hardsigmoid": 4,  # min(max(x + 3, 0), 6) / 6
    "hardswish": 5,  # x * hardsigmoid(x)
    "hardshrink": 2,
    "softshrink": 3,
    "threshold": 1,
    "glu": 5,  # a * sigmoid(b), per output element
    "clamp": 2,
    "add": 1,
    "add_scaled": 2,  # a + alpha b
    "sub": 1,
    "mul": 1,
    "div": 1,
    "floor_divide": 2,
    "remainder": 4,
    "pow": 1,
    "square": 1,
    "neg": 1,
    "abs": 1,
    "sign": 1,
    "exp": 1,
    "expm1": 2,
    "log": 1,
    "log1p": 2,
    "sqrt": 1,
    "rsqrt": 2,
    "reciprocal": 1,
    "erf": 1,
    "sin": 1,
    "cos": 1,
    "maximum": 1,
    "minimum": 1,
    "compare": 1,
    "round": 1,
    "addcmul": 3,
    "addcdiv": 3,
    "lerp": 3,
    "cumsum": 1,
    "nothing": 0,
    "atan2": 2,  # atan(y / x)
    "logaddexp": 5,  # max(a, b) + log(1 + exp(-|a - b|))
    "logit": 3,  # log(p / (1 - p))
    "xlogy": 2,  # x log(y)
    "hypot": 4,  # sqrt(a^2 + b^2)
    "sinc": 3,  # sin(pi x) / (pi x)
    "polar": 4,  # r cos(t), r sin(t)
    "rrelu": 2,
}


def softmax_flops(rows: int, length: int) -> int:
    """Softmax of each row, shifted by its maximum.

    Per row of n: n - 1 comparisons, n subtractions, n exponentials, n - 1 additions, n divisions: 5n - 2.
    """
    return rows * (5 * length - 2)


def log_softmax_flops(rows: int, length: int) -> int:
    """Log-softmax of each row: as softmax, with one logarithm and n subtractions for the n divisions: 5n - 1."""
    return rows * (5 * length - 1)


def reduction_flops(outputs: int, inputs: int, *, mean: bool = False) -> int:
    """Sum, maximum or minimum over groups: one operation less than values per output; a mean divides once more."""
    return inputs - outputs + (outputs if mean else 0)


def variance_flops(outputs: int, inputs: int, *, root: bool = False) -> int:
    """Variance over groups of n: mean (n), differences (n), squares (n), mean of those (n); one more for the root."""
    return 4 * inputs + (outputs if root else 0)
