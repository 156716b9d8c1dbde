"""Networks put together at random: everything planned fuses, and the outputs stay within the noise of eight bits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.agreement import simulation_gap
from quant.explain import explain
from quant.graph import to_bytes
from quant.place import cpu
from quant.place.lower import lower

CHANNELS = 8


# From tensor s to tensor t, with as many channels. "Conv 3 8" is a convolution of size 3 in 8 groups.
BLOCKS = {
    "conv": [("Conv 3 1", "s", "a"), ("Relu", "a", "t")],
    "depthwise": [("Conv 3 8", "s", "a"), ("Clip", "a zero six", "t")],
    "residual": [("Conv 1 1", "s", "a"), ("Add", "s a", "b"), ("Relu", "b", "t")],
    "silu": [("Conv 1 1", "s", "a"), ("Sigmoid", "a", "b"), ("Mul", "a b", "t")],
    "hard swish": [("Conv 1 1", "s", "a"), ("HardSwish", "a", "t")],
    "gate": [("GlobalAveragePool", "s", "a"), ("Conv 1 1", "a", "b"), ("HardSigmoid", "b", "c"), ("Mul", "s c", "t")],
    "pool": [("MaxPool", "s", "t", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]})],
    "norm": [("BatchNormalization", "s ones zeros zeros ones", "a"), ("LeakyRelu", "a", "t", {"alpha": 0.1})],
    "tanh": [("Tanh", "s", "t")],
}


def block(kind, number, rng, constants):
    """The nodes of block `number`, from tensor s0, s1, ... to the next; their weights join the constants."""
    names = {letter: f"{letter}{number}" for letter in "sabc"} | {"t": f"s{number + 1}"}
    for op, *sides, attributes in ((*node, {})[:4] for node in BLOCKS[kind]):
        reads, writes = (" ".join(names.get(name, name) for name in side.split()) for side in sides)
        if not op.startswith("Conv "):
            yield op, reads, writes, attributes
            continue
        size, group = map(int, op.split()[1:])
        shape = CHANNELS, CHANNELS // group, size, size
        constants[f"w_{writes}"] = (rng.standard_normal(shape) / np.prod(shape[1:]) ** 0.5).astype(np.float32)
        constants[f"b_{writes}"] = rng.standard_normal(CHANNELS).astype(np.float32) / 4
        yield "Conv", f"{reads} w_{writes} b_{writes}", writes, {"pads": [size // 2] * 4, "group": group}


@settings(max_examples=12, deadline=None)
@given(st.lists(st.sampled_from(sorted(BLOCKS)), min_size=2, max_size=6), st.integers(0, 2**16))
def test_random_networks(bench, kinds, seed):
    rng = np.random.default_rng(seed)
    channels = np.ones(CHANNELS, np.float32)
    constants = {"zero": np.float32(0), "six": np.float32(6), "ones": channels, "zeros": 0 * channels}
    constants["first"] = (rng.standard_normal((CHANNELS, 3, 3, 3)) / 5).astype(np.float32)
    constants["last"] = rng.standard_normal((CHANNELS, 5)).astype(np.float32)
    nodes = [("Conv", "x first", "s0")]
    for number, kind in enumerate(kinds):
        nodes += block(kind, number, rng, constants)
    nodes += [("ReduceMean", f"s{len(kinds)}", "m", {"axes": [2, 3], "keepdims": 0}), ("Gemm", "m last", "y")]

    model = lower(bench.prepared(*nodes, x=("N", 3, 10, 10), constants=constants))
    x = rng.standard_normal((8, 3, 10, 10)).astype(np.float32)
    expected = bench.run(model, x)[0]
    for plan in (cpu.candidates(model.graph)[name] for name in ("full", "float-stem")):
        quantized = bench.quantize(model, plan, x)
        assert explain(model, plan, quantized).unfused == ()
        got = bench.run(quantized, x)[0]
        # Each rounding adds at most half a step of 1/255 of a range; a few dozen of them stay below a tenth together.
        assert np.abs(got - expected).max() <= 0.1 * np.abs(expected).max()
        assert simulation_gap(to_bytes(quantized), [{"x": x}]) <= 0.1


@pytest.mark.parametrize("kind", BLOCKS)
def test_each_block_alone(bench, kind):
    test_random_networks.hypothesis.inner_test(bench, [kind, kind], 0)
