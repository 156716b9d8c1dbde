"""Small ONNX graphs to quantize, and what most tests do with them."""

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from quant.calibrate import observe
from quant.graph import prepare, to_bytes
from quant.place import qdq
from quant.runtime import open_session


def build_model(*nodes, x=("N", 3, 8, 8), constants=None, outputs=("y",), opset=17, kind=TensorProto.FLOAT):
    """A graph with the input `x` from nodes written as (op_type, "inputs", "outputs", attributes)."""
    made = [
        helper.make_node(op_type, reads.split(), writes.split(), name=f"{op_type}_{writes.split()[0]}", **attributes)
        for op_type, reads, writes, attributes in ((*node, {})[:4] for node in nodes)
    ]
    graph = helper.make_graph(
        made,
        "test",
        [helper.make_tensor_value_info("x", kind, x)],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    return ir.serde.deserialize_model(helper.make_model(graph, opset_imports=opsets, ir_version=9))


class Bench:
    """Runs, calibrates and quantizes models."""

    def prepared(self, *nodes, **arguments):
        return prepare(build_model(*nodes, **arguments))

    def run(self, model, x, **settings):
        session = open_session(to_bytes(model), **settings)
        return session.run({session.input_names[0]: x})

    def quantize(self, model, plan, *batches, method="minmax", **options):
        feeds = [{model.graph.inputs[0].name: batch} for batch in batches]
        ranges = observe(model, lambda: feeds, plan.observed, method=method)
        return qdq.apply(plan, model, ranges, **options)

    def optimized(self, model, folder):
        """Operators after ONNX Runtime's fusions, counted."""
        path = folder / "optimized.onnx"
        open_session(to_bytes(model), optimized_path=path, level="extended")
        return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.fixture(scope="session")
def bench():
    return Bench()


@pytest.fixture(scope="session")
def build():
    return build_model


@pytest.fixture
def rng():
    return np.random.default_rng(0)
