"""Small ONNX graphs to quantize, and what most tests do with them."""

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper

from quant import providers
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


class FakeBinding:
    """A binding to the memory of a GPU that is not there; what was bound where is on record."""

    def __init__(self, binding):
        self._binding, self.outputs = binding, {}

    def bind_output(self, name, device, number):
        self.outputs[name] = device
        self._binding.bind_output(name, "cpu", number)

    def __getattr__(self, name):
        return getattr(self._binding, name)


class FakeGpu:
    """An ONNX Runtime with CUDA and TensorRT in it, faked at the session: the CPU computes.

    Attributes:
        elsewhere: operators that run on another provider than the first, by that provider's name.
        sessions: all that were opened.
        bound: devices that inputs were sent to.
        fails: raised by every run.
    """

    def __init__(self, monkeypatch):
        self.elsewhere, self.sessions, self.bound, self.fails = {}, [], [], None
        self.real, value = onnxruntime.InferenceSession, onnxruntime.OrtValue.ortvalue_from_numpy
        compiled_in = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]

        def ortvalue_from_numpy(array, device="cpu", number=0):
            self.bound.append(device)
            return value(array, "cpu", number)

        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: compiled_in)
        monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
        monkeypatch.setattr(providers, "probe", lambda name: providers.ProviderState(name, loads=True))
        monkeypatch.setattr(onnxruntime, "InferenceSession", self.session)
        monkeypatch.setattr(onnxruntime.OrtValue, "ortvalue_from_numpy", staticmethod(ortvalue_from_numpy))

    def session(self, source, options, *, providers, provider_options, enable_fallback):
        session = FakeGpuSession(self, self.real(source, options), dict(zip(providers, provider_options, strict=True)))
        self.sessions.append(session)
        return session


class FakeGpuSession:
    """What `onnxruntime.InferenceSession` is on a GPU."""

    def __init__(self, gpu, real, asked):
        self.gpu, self.real, self.asked, self.bindings = gpu, real, asked, []

    def get_providers(self):
        return list(self.asked)

    def get_provider_graph_assignment_info(self):
        return [FakePart(self.owner(node.op_type), [node]) for part in self.parts() for node in part.get_nodes()]

    def parts(self):
        return self.real.get_provider_graph_assignment_info()

    def owner(self, operator):
        return self.gpu.elsewhere.get(operator, next(iter(self.asked)))

    def io_binding(self):
        self.bindings.append(FakeBinding(self.real.io_binding()))
        return self.bindings[-1]

    def run(self, *arguments):
        if self.gpu.fails:
            raise self.gpu.fails
        return self.real.run(*arguments)

    def run_with_iobinding(self, binding, options):
        if self.gpu.fails:
            raise self.gpu.fails
        self.real.run_with_iobinding(binding, options)

    def __getattr__(self, name):
        return getattr(self.real, name)


class FakePart:
    """Nodes of one provider."""

    def __init__(self, ep_name, nodes):
        self.ep_name, self.nodes = ep_name, nodes

    def get_nodes(self):
        return self.nodes


@pytest.fixture
def fake_gpu(monkeypatch, tmp_path):
    monkeypatch.setenv("NETGAUGE_CACHE", str(tmp_path / "cache"))
    return FakeGpu(monkeypatch)
