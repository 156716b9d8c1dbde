"""What is promised of the six reference networks, each seen on all of them."""

import copy
import importlib.util
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from profiler import analyze, open_model
from profiler.analyzer import Subject
from profiler.crosscheck.receptive import verify_receptive_fields
from profiler.walk import walk

# Imported by path: test folders are no packages.
spec = importlib.util.spec_from_file_location("networks", Path(__file__).with_name("networks.py"))
networks = importlib.util.module_from_spec(spec)
sys.modules["networks"] = networks
spec.loader.exec_module(networks)


def opened(name):
    target, weights = networks.target(name)
    return open_model(target, weights=weights).module


@pytest.mark.parametrize("name", networks.NAMES)
def test_parameters_sizes_and_counts(name):
    model = opened(name)
    profile = analyze(model, networks.SIZE)
    assert profile.totals.params == sum(p.numel() for p in model.parameters())
    assert sum(layer.params for layer in profile.layers) == profile.totals.params
    assert dict(profile.uncounted) == {}
    check = profile.crosscheck("fvcore")
    assert (check.status, check.unexplained) == ("reconciled", 0)
    assert check.ours + sum(term.amount for term in check.terms) == check.theirs


@pytest.mark.parametrize("name", networks.NAMES)
def test_output_sizes_are_those_of_a_real_run(name):
    model = opened(name)
    sizes = {}
    for path, module in model.named_modules():
        if path and not list(module.children()):
            module.register_forward_hook(lambda m, i, o, path=path: sizes.update({path: sizes.get(path, o)}))
    with torch.no_grad():
        model(torch.zeros(networks.SIZE))
    seen = {path: tuple((o[0] if isinstance(o, tuple) else o).shape) for path, o in sizes.items()}
    layers = analyze(opened(name), networks.SIZE).layers
    said = {layer.name: layer.output_shapes[0] for layer in layers if layer.name and layer.call == 0}
    leaves = seen.keys() & said.keys()
    assert len(leaves) >= len(seen) - 3  # Flatten and Identity compute nothing and have no row
    assert {path: seen[path] for path in leaves} == {path: said[path] for path in leaves}


@pytest.mark.parametrize("name", networks.CONVOLUTIONAL)
def test_receptive_fields_equal_the_probe(name):
    checks = verify_receptive_fields(Subject(opened(name), (networks.SIZE,), {}))
    assert {c.status for c in checks} == {"exact"}
    assert [c for c in checks if not c.equal] == []


class Linear(TorchFunctionMode):
    """Activations become the identity and max pools averages: a gradient then shows structure, not dead units."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = func.__name__
        if name in ("relu", "relu6", "hardtanh", "relu_", "hardtanh_"):
            return args[0]
        if "max_pool2d" in name:
            return F.avg_pool2d(*args[:2])
        return func(*args, **(kwargs or {}))


def made_positive(model):
    """The same network with positive random weights, and norms that change nothing."""
    model = copy.deepcopy(model).double()
    for module in model.modules():
        for p in module.parameters(recurse=False):
            torch.nn.init.uniform_(p, 0.1, 1.0)
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
    return model


@pytest.mark.parametrize("name", networks.CONVOLUTIONAL)
def test_receptive_fields_equal_gradients_position_by_position(name):
    torch.manual_seed(0)
    model = made_positive(opened(name))
    steps, outputs = [], []
    x = torch.zeros(networks.SIZE, dtype=torch.float64, requires_grad=True)
    walk(model, [x.detach()], {}, steps.append)
    fields = [s.fields[0] for s in steps if "conv" in s.call.packet]
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            module.register_forward_hook(lambda m, i, o: outputs.append(o))
    with Linear():
        model(x)
    assert len(outputs) == len(fields) >= 6
    for out, field in zip(outputs, fields, strict=True):
        for axis in (0, 1):
            span = field.true[axis].span
            for v in range(out.shape[2 + axis]):
                picked = out.select(2 + axis, v).sum()
                (gradient,) = torch.autograd.grad(picked, x, retain_graph=True)
                lit = np.flatnonzero(gradient[0, 0].numpy().any(axis=1 - axis))
                assert (lit[0], lit[-1]) == (span.first[v], span.last[v])


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    from quant import quantize
    from quant.latency import Timing

    folder = tmp_path_factory.mktemp("quantized")
    results = {}

    def make(name):
        if name not in results:
            target, weights = networks.target(name)
            results[name] = quantize(
                target,
                networks.data(name),
                networks.data(name),
                folder / f"{name}.int8.onnx",
                weights=weights,
                seconds=0.5,
                timing=Timing(cold=False),
            )
        return results[name]

    return make


@pytest.mark.parametrize("name", networks.NAMES)
def test_int8_stays_within_a_point_of_float(name, quantized):
    accuracy = quantized(name).metrics["accuracy"]
    assert abs(accuracy.drop) <= 0.01
    assert accuracy.interval.low <= accuracy.drop <= accuracy.interval.high


@pytest.mark.parametrize("name", networks.CONVOLUTIONAL)
def test_every_convolution_is_int8_or_was_measured_better_in_float(name, quantized):
    result = quantized(name)
    convolutions = [row for row in result.nodes if row.op == "Conv"]
    assert convolutions
    floats = [row for row in convolutions if row.kernel != "int8"]
    assert all("which was measured" in row.reason or result.placement == "float" for row in floats)
    assert not [row for row in result.nodes if row.reason.startswith("planned as int8")]


@pytest.mark.parametrize("name", networks.NAMES)
def test_the_file_computes_what_the_report_says(name, quantized):
    """The written file, run by ONNX Runtime alone, gives the accuracy in the report."""
    from quant import open_data

    result = quantized(name)
    samples = open_data(networks.data(name), split="evaluation")
    session = onnxruntime.InferenceSession(str(result.output), providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: samples.inputs["x"]}
    predicted = session.run(None, feed)[0].argmax(1)
    assert np.mean(predicted == samples.labels) == pytest.approx(result.metrics["accuracy"].int8, abs=1e-3)
    assert result.reference.exists()
    if result.placement != "float":
        assert result.file_bytes["int8"] < result.file_bytes["float"]
