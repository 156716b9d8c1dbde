"""Small ONNX graphs for tests, what ONNX Runtime makes of them, and what the walk sees of each value."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from profiler.onnx_graph import analyze_onnx
from profiler.onnx_graph.walk import Walk

OPSET = 22


class Graphs:
    """Builds graphs and runs them for real."""

    def model(self, nodes, inputs, outputs, arrays=(), opset=OPSET, functions=(), domains=()):
        """A graph; inputs as (name, size[, type]), outputs by name, stored tensors as name -> array."""
        graph = helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info(i[0], i[2] if len(i) > 2 else TensorProto.FLOAT, i[1]) for i in inputs],
            [helper.make_empty_tensor_value_info(name) for name in outputs],
            [numpy_helper.from_array(np.asarray(array), name) for name, array in dict(arrays).items()],
        )
        imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
        return helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=10)

    def one(self, op, *inputs, opset=OPSET, domain="", outputs=("y",), **attributes):
        """A graph of one node that reads "x" and constants: the first input is an array that stands for "x"."""
        names = ["x", *("" if a is None else f"a{n}" for n, a in enumerate(inputs[1:]))]
        node = helper.make_node(op, names, list(outputs), name="node", domain=domain, **attributes)
        arrays = {name: array for name, array in zip(names[1:], inputs[1:], strict=True) if array is not None}
        kind = helper.np_dtype_to_tensor_dtype(inputs[0].dtype)
        domains = [domain] if domain else []
        return self.model([node], [("x", inputs[0].shape, kind)], list(outputs), arrays, opset, domains=domains)

    def run(self, model, feeds):
        """Outputs by ONNX Runtime, unoptimized; None where it refuses the graph."""
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        data = model.SerializeToString()
        try:
            return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(None, feeds)
        except Exception:  # noqa: BLE001  # every refusal is the same here
            return None

    def values(self, model, inputs=(), **options):
        """What the walk knows of each value, by name."""
        found = {}
        report = Walk.report

        def spy(walk, call, *rest):
            found.update(zip(call.node.output, call.outputs, strict=False))
            report(walk, call, *rest)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Walk, "report", spy)
            analyze_onnx(model, inputs, **options)
        return found


@pytest.fixture(scope="session")
def graphs():
    return Graphs()
