"""Receptive fields of ONNX operators against running them: one input moved at a time, and which outputs move."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from profiler.errors import ModelError

CHANNELS = 4


def moved_by(graphs, onnx_model, shape, axis):
    """For each position along an input axis: how far each element of the output moves with it, as a share."""
    draws = np.random.default_rng(0)
    base, push = draws.uniform(0.5, 1.5, (2, *shape)).astype(np.float32)
    at_rest = graphs.run(onnx_model, {"x": base})
    if at_rest is None:
        return None
    moves = []
    for n in range(shape[axis]):
        pushed = base.copy()
        at = (slice(None),) * axis + (n,)
        pushed[at] += push[at]
        moves.append(np.abs(graphs.run(onnx_model, {"x": pushed})[0] - at_rest[0]) / (1e-6 + np.abs(at_rest[0])))
    return np.array(moves)


def told(field, view):
    """First and last input of each element of a tensor, as its field has them."""
    atoms = [atom for axis in field.layout for atom in axis]
    sizes = {atom.uid: atom.size for atom in atoms}
    order = [view.atoms.index(a.uid) for a in atoms if a.uid in view.atoms]
    ends = []
    for end in (view.span.first, view.span.last):
        spread = np.transpose(end.reshape([sizes[u] for u in view.atoms]), order)
        spread = spread.reshape([a.size if a.uid in view.atoms else 1 for a in atoms])
        ends.append(np.broadcast_to(spread, [a.size for a in atoms]).reshape(field.shape))
    return ends


NOISE = 1e-5  # single precision: a neighbour that should weigh nothing weighs a little


def check(graphs, onnx_model, shape, field, axes):
    """Nothing outside the field matters, and where it is exact, its ends do; uneven channels are taken together."""
    for n, axis in enumerate(axes):
        moves = moved_by(graphs, onnx_model, shape, axis)
        if moves is None:
            return False
        view = field.true[n]
        uneven = tuple(i for i, atoms in enumerate(field.layout, 1) if any(a.uid in field.uneven for a in atoms))
        moves = np.broadcast_to(moves.max(axis=uneven, keepdims=True), moves.shape)
        first, last = told(field, view)
        positions = np.arange(shape[axis]).reshape(-1, *(1,) * (moves.ndim - 1))
        assert not (moves[(positions < first) | (positions > last)] > NOISE).any()
        if view.exact and view.known:
            sees = first <= last
            for end in (first, last):
                at = np.where(sees, end, 0)[None]
                assert (np.take_along_axis(moves, at, 0)[0][sees] > 0).all()
    return True


def positive(*shape):
    return np.random.default_rng(1).uniform(0.1, 1.0, shape).astype(np.float32)


def integers(*numbers):
    return np.array(numbers, dtype=np.int64)


C = CHANNELS
# Operators on (1, C, length): the node's type, attributes and further inputs, from four small numbers.
CHAIN = {
    "conv": lambda k, s, p, d: ("Conv", {"strides": [s], "pads": [p, 1], "dilations": [d]}, [positive(C, C, k)]),
    "depthwise": lambda k, s, p, d: ("Conv", {"group": C, "auto_pad": "SAME_LOWER"}, [positive(C, 1, k)]),
    "transposed": lambda k, s, p, d: (
        "ConvTranspose", {"strides": [s], "pads": [min(p, k - 1), 0], "dilations": [d]}, [positive(C, C, k)]
    ),
    "stretched": lambda k, s, p, d: (
        "ConvTranspose", {"strides": [s], "auto_pad": "SAME_UPPER"}, [positive(C, C, k)]
    ),
    "pool": lambda k, s, p, d: (
        "AveragePool", {"kernel_shape": [k], "strides": [s], "pads": [p % k, 0], "ceil_mode": d - 1}, []
    ),
    "norm pool": lambda k, s, p, d: (
        "LpPool", {"kernel_shape": [k], "strides": [min(s, k)], "auto_pad": "SAME_UPPER"}, []
    ),
    "nearest": lambda k, s, p, d: (
        "Resize",
        {"mode": "nearest", "nearest_mode": ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")[k - 1]},
        [None, np.array([1, 1, s + p / 2], np.float32)],
    ),
    "asymmetric": lambda k, s, p, d: (
        "Resize",
        {"mode": "linear", "coordinate_transformation_mode": "asymmetric"},
        [None, np.array([1, 1, s + p / 2], np.float32)],
    ),
    "linear": lambda k, s, p, d: ("Resize", {"mode": "linear"}, [None, None, integers(1, C, 4 * k + p)]),
    "corners": lambda k, s, p, d: (
        "Resize",
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        [None, None, integers(1, C, 4 * k + 1)],
    ),
    "pad": lambda k, s, p, d: ("Pad", {"mode": ("constant", "edge", "reflect")[s - 1]}, [integers(0, 0, p, 0, 0, 1)]),
    "slice": lambda k, s, p, d: ("Slice", {}, [integers(p), integers(-d), integers(2), integers(s)]),
    "backwards": lambda k, s, p, d: ("Slice", {}, [integers(-1), integers(-(1 << 62)), integers(2), integers(-s)]),
    "gather": lambda k, s, p, d: ("Gather", {"axis": 2}, [integers(3, 0, p, -1)]),
    "tile": lambda k, s, p, d: ("Tile", {}, [integers(1, 1, d)]),
    "swap": lambda k, s, p, d: ("Gather", {"axis": 1}, [integers(3, 2, 1, 0)]),
    "sum so far": lambda k, s, p, d: ("CumSum", {"reverse": d - 1, "exclusive": k % 2}, [integers(2)]),
    "sigmoid": lambda k, s, p, d: ("Softplus", {}, []),
}  # fmt: skip
link = st.tuples(
    st.sampled_from(sorted(CHAIN)), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2)
)


def chain(graphs, links, length):
    nodes, arrays, name = [], {}, "x"
    for n, (kind, *numbers) in enumerate(links):
        op, attributes, extra = CHAIN[kind](*numbers)
        names = []
        for m, array in enumerate(extra):
            names.append("" if array is None else f"a{n}_{m}")
            if array is not None:
                arrays[names[-1]] = array
        nodes.append(helper.make_node(op, [name, *names], [f"v{n}"], **attributes))
        name = f"v{n}"
    return graphs.model(nodes, [("x", (1, CHANNELS, length))], [name], arrays), name


@settings(max_examples=120, deadline=None)
@given(st.lists(link, min_size=1, max_size=4), st.integers(6, 20))
def test_chains_agree_position_by_position(graphs, links, length):
    onnx_model, name = chain(graphs, links, length)
    if graphs.run(onnx_model, {"x": np.ones((1, CHANNELS, length), np.float32)}) is None:
        return
    try:
        field = graphs.values(onnx_model)[name].field
    except ModelError:  # a window that does not fit: ONNX Runtime invents an output
        return
    assert field is not None
    if field.shape[2]:
        check(graphs, onnx_model, (1, CHANNELS, length), field, [2])


GRAPHS = {
    "gate": [("GlobalAveragePool", ["x"], {}), ("Mul", ["x", "v0"], {})],
    "window attention": [
        ("Reshape", ["x", integers(1, 4, 2, 4, 2, 4)], {}),
        ("Transpose", ["v0"], {"perm": [0, 2, 4, 3, 5, 1]}),
        ("Reshape", ["v1", integers(4, 16, 4)], {}),
        ("Transpose", ["v2"], {"perm": [0, 2, 1]}),
        ("MatMul", ["v2", "v3"], {}),
        ("Softmax", ["v4"], {}),
        ("MatMul", ["v5", "v2"], {}),
        ("Reshape", ["v6", integers(1, 2, 2, 4, 4, 4)], {}),
        ("Transpose", ["v7"], {"perm": [0, 5, 1, 3, 2, 4]}),
        ("Reshape", ["v8", integers(1, 4, 8, 8)], {}),
    ],
    "shuffle": [
        ("AveragePool", ["x"], {"kernel_shape": [3, 1], "pads": [1, 0, 1, 0]}),
        ("DepthToSpace", ["v0"], {"blocksize": 2, "mode": "CRD"}),
        ("AveragePool", ["v1"], {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]}),
        ("SpaceToDepth", ["v2"], {"blocksize": 2}),
    ],
    "branches": [
        ("AveragePool", ["x"], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
        ("Concat", ["x", "v0"], {"axis": 1}),
        ("Conv", ["v1", positive(2, 8, 1, 1)], {}),
    ],
    "rows": [
        ("Transpose", ["x"], {"perm": [0, 2, 1, 3]}),
        ("Flatten", ["v0"], {"axis": 2}),
        ("MatMul", ["v1", positive(32, 3)], {}),
    ],
    "columns": [("Einsum", ["x", positive(4, 5)], {"equation": "bchw,cd->bdwh"})],
    "norm over the last axis": [("LayerNormalization", ["x", positive(8)], {"axis": -1})],
    "norm of groups": [("InstanceNormalization", ["x", positive(4), positive(4)], {})],
    "sum of rows": [("ReduceSum", ["x", integers(3)], {"keepdims": 0}), ("Unsqueeze", ["v0", integers(3)], {})],
    "gemm": [("Reshape", ["x", integers(32, 8)], {}), ("Gemm", ["v0", positive(5, 8)], {"transB": 1})],
    "recurrence": [
        ("ReduceMean", ["x", integers(1)], {"keepdims": 0}),
        ("Transpose", ["v0"], {"perm": [1, 0, 2]}),
        ("LSTM", ["v1", positive(1, 12, 8) / 9, positive(1, 12, 3)], {"hidden_size": 3}),
    ],
    "recurrence backwards": [
        ("ReduceMean", ["x", integers(1)], {"keepdims": 0}),
        ("Transpose", ["v0"], {"perm": [1, 0, 2]}),
        ("GRU", ["v1", positive(1, 9, 8) / 9, positive(1, 9, 3)], {"hidden_size": 3, "direction": "reverse"}),
    ],
    "recurrence both ways": [
        ("ReduceMean", ["x", integers(1)], {"keepdims": 0}),
        ("Transpose", ["v0"], {"perm": [1, 0, 2]}),
        ("LSTM", ["v1", positive(2, 12, 8) / 9, positive(2, 12, 3)], {"hidden_size": 3, "direction": "bidirectional"}),
    ],
    "start of a recurrence": [
        ("ReduceMean", ["x", integers(1)], {"keepdims": 0}),
        ("LSTM", [positive(5, 8, 3), positive(1, 32, 3), positive(1, 32, 8), None, None, "v0"], {"hidden_size": 8}),
    ],
    "split": [("Split", ["x"], {"axis": 3, "num_outputs": 2})],
    "unpooled": [("Upsample", ["x", np.array([1, 1, 2, 3], np.float32)], {"mode": "nearest"})],
    "sequence": [
        ("SplitToSequence", ["x", integers(3, 5)], {"axis": 2}),
        ("SequenceAt", ["v0", np.array(1)], {}),
        ("ConcatFromSequence", ["v0"], {"axis": 2}),
        ("Concat", ["v1", "v2"], {"axis": 2}),
    ],
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_agree_position_by_position(graphs, name):
    nodes, arrays = [], {}
    for n, (op, inputs, attributes) in enumerate(GRAPHS[name]):
        names = []
        for m, value in enumerate(inputs):
            names.append("" if value is None else value if isinstance(value, str) else f"a{n}_{m}")
            if isinstance(value, np.ndarray):
                arrays[names[-1]] = value
        outputs = [f"v{n}", f"w{n}"] if op == "Split" else [f"v{n}"]
        nodes.append(helper.make_node(op, names, outputs, **attributes))
    shape = (1, 4, 8, 8)
    onnx_model = graphs.model(
        nodes, [("x", shape)], [nodes[-1].output[0]], arrays, opset=9 if name == "unpooled" else 20
    )
    field = graphs.values(onnx_model)[nodes[-1].output[0]].field
    assert field is not None
    assert all(view.known for view in field.true)
    assert check(graphs, onnx_model, shape, field, [2, 3])
