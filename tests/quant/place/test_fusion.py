"""What ONNX Runtime makes of small graphs: what is planned as int8 gets its kernel, and nothing converts needlessly."""

import numpy as np
import pytest

from quant.place import cpu
from quant.place.choose import choose
from quant.place.lower import lower
from quant.place.plan import Mode

SAME = {"pads": [1, 1, 1, 1]}
WINDOW = {"kernel_shape": [2, 2], "strides": [2, 2]}

# name -> (nodes, operators after ONNX Runtime's fusions)
CASES = {
    "conv-relu-conv-clip-conv": (
        [
            ("Conv", "x w3", "a", SAME),
            ("Relu", "a", "b"),
            ("Conv", "b w", "c", SAME),
            ("Clip", "c zero six", "d"),
            ("Conv", "d w", "y", SAME),
        ],
        {"QLinearConv": 3, "QuantizeLinear": 1, "DequantizeLinear": 1},
    ),
    "clip on both sides of zero": (
        [("Conv", "x w3", "a"), ("Clip", "a minus one", "b"), ("Conv", "b w", "y")],
        {"QLinearConv": 2, "QuantizeLinear": 1, "DequantizeLinear": 1},
    ),
    "residual": (
        [
            ("Conv", "x w3", "a", SAME),
            ("Relu", "a", "b"),
            ("Conv", "b w", "c", SAME),
            ("Add", "b c", "d"),
            ("Relu", "d", "e"),
            ("Conv", "e w", "y"),
        ],
        {"QLinearConv": 3, "QLinearAdd": 1, "QuantizeLinear": 1, "DequantizeLinear": 1},
    ),
    "concat and max pool": (
        [
            ("Conv", "x w3", "a"),
            ("Conv", "x v3", "b"),
            ("Concat", "a b", "c", {"axis": 1}),
            ("MaxPool", "c", "d", WINDOW),
            ("Conv", "d w8", "y"),
        ],
        {"QLinearConv": 3, "QLinearConcat": 1, "MaxPool": 1, "QuantizeLinear": 1, "DequantizeLinear": 1},
    ),
    "depthwise": (
        [
            ("Conv", "x w3", "a"),
            ("Conv", "a depth", "b", {"group": 4, **SAME}),
            ("Relu", "b", "c"),
            ("Conv", "c w", "y"),
        ],
        {"QLinearConv": 3, "QuantizeLinear": 1, "DequantizeLinear": 1},
    ),
    "pool, flatten and classify": (
        [
            ("Conv", "x w3", "a"),
            ("Relu", "a", "b"),
            ("ReduceMean", "b", "c", {"axes": [2, 3], "keepdims": 0}),
            ("Gemm", "c classes bias", "y"),
        ],
        {"QLinearConv": 1, "QLinearGlobalAveragePool": 1, "Flatten": 1, "QGemm": 1, "QuantizeLinear": 1},
    ),
    "squeeze and excite": (
        [
            ("Conv", "x w3", "a"),
            ("ReduceMean", "a", "b", {"axes": [2, 3], "keepdims": 1}),
            ("Conv", "b point", "c"),
            ("Sigmoid", "c", "d"),
            ("Mul", "a d", "e"),
            ("Conv", "e w", "y"),
        ],
        {
            "QLinearConv": 3,
            "QLinearGlobalAveragePool": 1,
            "QLinearSigmoid": 1,
            "QLinearMul": 1,
            "QuantizeLinear": 1,
            "DequantizeLinear": 1,
        },
    ),
    "hard swish": (
        [("Conv", "x w3", "a"), ("HardSwish", "a", "b"), ("Conv", "b w", "y")],
        {"QLinearConv": 2, "QLinearAdd": 1, "QLinearMul": 1, "QuantizeLinear": 1, "DequantizeLinear": 1},
    ),
    "batch norm before its convolution": (
        [
            ("Conv", "x w3", "a"),
            ("Conv", "a point", "p"),
            ("Add", "a p", "s"),
            ("BatchNormalization", "s ones ones ones ones", "b"),
            ("Relu", "b", "c"),
            ("Conv", "c w", "y"),
        ],
        {"QLinearConv": 4, "QLinearAdd": 1, "QuantizeLinear": 1, "DequantizeLinear": 1},
    ),
    "transposed convolution": (
        [
            ("Conv", "x w3", "a"),
            ("ConvTranspose", "a up", "b", {"strides": [2, 2]}),
            ("Relu", "b", "c"),
            ("Conv", "c w", "y"),
        ],
        {"QLinearConv": 3, "Reshape": 2, "Transpose": 3, "QuantizeLinear": 1, "DequantizeLinear": 1},
    ),
    "average pool": (
        [("Conv", "x w3", "a"), ("AveragePool", "a", "b", WINDOW), ("Conv", "b w", "y")],
        {"QLinearConv": 3, "QuantizeLinear": 1, "DequantizeLinear": 1},
    ),
    "relu behind a max pool": (
        [("Conv", "x w3", "a"), ("MaxPool", "a", "b", WINDOW), ("Relu", "b", "c"), ("Conv", "c w", "y")],
        {"QLinearConv": 2, "MaxPool": 1, "QuantizeLinear": 1, "DequantizeLinear": 1},
    ),
    "nearest upsampling": (
        [("Conv", "x w3", "a"), ("Resize", "a none double", "b", {"mode": "nearest"}), ("Conv", "b w", "y")],
        {"QLinearConv": 2, "Resize": 1, "QuantizeLinear": 1, "DequantizeLinear": 1},
    ),
}


def constants(rng):
    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    return {
        "w3": normal(4, 3, 3, 3),
        "v3": normal(4, 3, 3, 3),
        "w": normal(4, 4, 3, 3),
        "w8": normal(4, 8, 2, 2),
        "depth": normal(4, 1, 3, 3),
        "point": normal(4, 4, 1, 1),
        "up": normal(4, 4, 2, 2),
        "classes": normal(4, 5),
        "bias": normal(5),
        "zero": np.float32(0),
        "six": np.float32(6),
        "minus": np.float32(-1),
        "one": np.float32(1),
        "ones": np.ones(4, np.float32),
        "double": np.float32([1, 1, 2, 2]),
        "none": np.float32([]),
    }


@pytest.mark.parametrize("case", CASES)
def test_everything_fuses(bench, rng, tmp_path, case):
    nodes, expected = CASES[case]
    model = lower(bench.prepared(*nodes, constants=constants(rng), x=("N", 3, 10, 10)))
    plan = choose(model.graph, cpu.TARGET, name="all", modes={Mode.STATIC})
    assert {decision.kernel for decision in plan.nodes.values()} == {"int8"}, plan.nodes
    x = rng.standard_normal((4, 3, 10, 10)).astype(np.float32)
    quantized = bench.quantize(model, plan, x)
    assert bench.optimized(quantized, tmp_path) == expected
    reference, got = bench.run(model, x)[0], bench.run(quantized, x)[0]
    assert np.square(got - reference).mean() < 1e-3 * np.square(reference).mean()


def test_only_the_tensors_between_int8_kernels_are_converted(bench, rng, tmp_path):
    """Two islands of int8 in a float graph: as many conversions as there are borders, none between float nodes."""
    nodes = [
        ("Sin", "x", "a"),
        ("Conv", "a w3", "b"),
        ("Tanh", "b", "c"),
        ("Sin", "c", "d"),
        ("MaxPool", "d", "e", WINDOW),
        ("Add", "e e", "f"),
        ("Conv", "f w", "g", SAME),
        ("Sin", "g", "y"),
    ]
    model = bench.prepared(*nodes, constants=constants(rng), x=("N", 3, 10, 10))
    plan = cpu.candidates(model.graph)["full"]
    assert [name for name, decision in plan.nodes.items() if decision.kernel == "int8"] == ["Conv_b", "Conv_g"]
    assert all(decision.reason for decision in plan.nodes.values() if decision.kernel == "float")
    quantized = bench.quantize(model, plan, rng.standard_normal((2, 3, 10, 10)).astype(np.float32))
    found = bench.optimized(quantized, tmp_path)
    assert (found["QuantizeLinear"], found["DequantizeLinear"]) == (2, 2)
