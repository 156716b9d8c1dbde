"""The reference networks: the files hold what README.md says they do, and all of them export."""

import re
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
import torch
from safetensors.torch import load_file

from profiler.sources.pyfile import load_attribute
from quant.data import open_data

MODELS = Path(__file__).parents[2] / "models"
ROW = re.compile(
    r"\| `(?P<name>\w+)` \| (?P<accuracy>0\.\d+)(?: of pixels, mean IoU (?P<iou>0\.\d+))? \| (?P<parameters>[\d,]+) \| "
    r"(?P<kib>\d+) KiB \| (?P<data>[\w-]+) \|"
)
TABLE = {row["name"]: row for row in ROW.finditer((MODELS / "README.md").read_text())}
NAMES = ("digits_cnn", "digits_mobile", "digits_resnet", "digits_vit", "digits_lstm", "digits_unet")
STOCK = [
    torch.nn.AvgPool2d,
    torch.nn.BatchNorm2d,
    torch.nn.Conv2d,
    torch.nn.Flatten,
    torch.nn.Linear,
    torch.nn.MaxPool2d,
    torch.nn.ReLU,
    torch.nn.Sequential,
]


def weights_file(name):
    return MODELS / (f"{name}.pt" if name == "digits_cnn" else f"{name}.safetensors")


@pytest.fixture(scope="module")
def networks():
    with torch.serialization.safe_globals(STOCK):
        loaded = {"digits_cnn": torch.load(weights_file("digits_cnn"), weights_only=True)}
    for name in NAMES[1:]:
        loaded[name] = load_attribute(f"{MODELS / name}.py:{name}")().eval()
        loaded[name].load_state_dict(load_file(weights_file(name)), strict=True)
    return loaded


def test_the_table_has_every_network():
    assert tuple(TABLE) == NAMES


def test_the_folder_is_no_package():
    assert not (MODELS / "__init__.py").exists()


def test_the_whole_module_is_saved_ready_to_use(networks):
    defined = load_attribute(f"{MODELS}/digits_cnn.py:digits_cnn")()
    assert not networks["digits_cnn"].training
    assert str(networks["digits_cnn"]) == str(defined)
    defined.load_state_dict(networks["digits_cnn"].state_dict(), strict=True)


@pytest.mark.parametrize("name", NAMES)
def test_accuracy_is_the_tables(networks, name):
    samples = open_data(TABLE[name]["data"], split="evaluation")
    with torch.inference_mode():
        predicted = networks[name](torch.from_numpy(samples.inputs["x"])).argmax(1).numpy()
    one_sample = 1 / len(samples)
    accuracy = float(np.mean(predicted == samples.labels))
    assert accuracy == pytest.approx(float(TABLE[name]["accuracy"]), abs=one_sample)
    if samples.task == "segmentation":
        iou = sklearn.metrics.jaccard_score(samples.labels.ravel(), predicted.ravel(), average="macro")
        assert iou == pytest.approx(float(TABLE[name]["iou"]), abs=one_sample)
    else:
        assert accuracy >= 0.975


@pytest.mark.parametrize("name", NAMES)
def test_sizes_are_the_tables(networks, name):
    size = weights_file(name).stat().st_size
    assert size < 400 * 1024
    assert TABLE[name]["kib"] == f"{size / 1024:.0f}"
    parameters = sum(parameter.numel() for parameter in networks[name].parameters())
    assert TABLE[name]["parameters"] == f"{parameters:,}"


@pytest.mark.filterwarnings("ignore")  # of the exporter, about itself
@pytest.mark.parametrize("name", NAMES)
def test_exports_with_any_batch_size(networks, name):
    from quant.runtime import open_session

    network = networks[name]
    batch = torch.export.Dim("batch")
    example = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    program = torch.onnx.export(network, (example,), dynamo=True, dynamic_shapes=({0: batch},), verbose=False)
    session = open_session(program.model_proto.SerializeToString())
    for size in (1, 7):
        x = torch.rand(size, 1, 32, 32, generator=torch.Generator().manual_seed(size))
        [got] = session.run({session.input_names[0]: x.numpy()})
        with torch.inference_mode():
            np.testing.assert_allclose(got, network(x).numpy(), rtol=1e-4, atol=1e-4)
