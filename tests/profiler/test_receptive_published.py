"""Receptive fields against a published table: TF-Slim's networks, rebuilt, at every endpoint that it lists.

At resolution 321 TensorFlow's SAME padding is as wide on the right as on the left, so that it is torch's. Blocks stride
where TF-Slim's do: a ResNet in the 3x3 convolution of a stage's last unit, whose shortcut is a max pool of one pixel.
Widths are the real ones, but for the inception networks, whose convolutions give two channels: no width enters.
"""

import csv
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from profiler.analyzer import Subject
from profiler.crosscheck.receptive import verify_receptive_fields
from profiler.receptive.summary import summarize
from profiler.walk import walk

RESOLUTION = 321
TABLE = Path(__file__).parents[1] / "data" / "tf_slim_receptive_fields.csv"


def published():
    """Per model, per endpoint: size, stride, padding."""
    lines = (line for line in TABLE.read_text().splitlines() if not line.startswith("#"))
    models = defaultdict(dict)
    for row in csv.DictReader(lines):
        numbers = tuple(int(row[name]) for name in ("receptive_field", "stride", "padding"))
        models[row["model"]][row["endpoint"].removeprefix(f"{row['model']}/")] = numbers
    return models


def conv(inputs, outputs, kernel, stride=1, *, same=True, groups=1):
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (height // 2, width // 2) if same else 0
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, (height, width), stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def max_pool(kernel, stride, *, same=False):
    return nn.MaxPool2d(kernel, stride, kernel // 2 if same else 0)


class Endpoints(nn.ModuleDict):
    """Modules in a row, named as the table names what comes out of them."""

    def forward(self, x):
        for module in self.values():
            x = module(x)
        return x


def alexnet(_):
    return Endpoints(
        {
            "conv1": conv(3, 64, 11, 4, same=False),
            "pool1": max_pool(3, 2),
            "conv2": conv(64, 192, 5),
            "pool2": max_pool(3, 2),
            "conv3": conv(192, 384, 3),
            "conv4": conv(384, 384, 3),
            "conv5": conv(384, 256, 3),
            "pool5": max_pool(3, 2),
        }
    )


VGG = {"vgg_a": (1, 1, 2, 2, 2), "vgg_16": (2, 2, 3, 3, 3)}


def vgg(name):
    layers, inputs = {}, 3
    for stage, (repeats, width) in enumerate(zip(VGG[name], (64, 128, 256, 512, 512), strict=True), 1):
        for n in range(1, repeats + 1):
            layers[f"conv{stage}/conv{stage}_{n}"] = conv(inputs, width, 3)
            inputs = width
        layers[f"pool{stage}"] = max_pool(2, 2)
    return Endpoints(layers)


MOBILENET = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))


def mobilenet(name):
    multiplier = 0.75 if name.endswith("075") else 1.0
    inputs = int(32 * multiplier)
    layers = {"Conv2d_0": conv(3, inputs, 3, 2)}
    for n, (width, stride) in enumerate(MOBILENET, 1):
        outputs = int(width * multiplier)
        layers[f"Conv2d_{n}_depthwise"] = conv(inputs, inputs, 3, stride, groups=inputs)
        layers[f"Conv2d_{n}_pointwise"] = conv(inputs, outputs, 1)
        inputs = outputs
    return Endpoints(layers)


class Unit(nn.Module):
    """A bottleneck; with `first`, the second version's: normalised and activated before the convolutions."""

    def __init__(self, inputs, width, stride, *, first):
        super().__init__()
        self.before = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU()) if first else nn.Identity()
        self.convs = nn.Sequential(
            conv(inputs, width, 1), conv(width, width, 3, stride), nn.Conv2d(width, 4 * width, 1)
        )
        if inputs == 4 * width:
            self.shortcut = max_pool(1, stride) if stride > 1 else nn.Identity()
        else:
            self.shortcut = nn.Conv2d(inputs, 4 * width, 1, stride)

    def forward(self, x):
        y = self.before(x)
        return torch.relu(self.convs(y) + self.shortcut(x))


RESNET = {"50": (3, 4, 6, 3), "101": (3, 4, 23, 3), "152": (3, 8, 36, 3), "200": (3, 24, 36, 3)}


def resnet(name):
    _, version, depth = name.split("_")
    layers, inputs = {"conv1": conv(3, 64, 7, 2), "pool1": max_pool(3, 2, same=True)}, 64
    for stage, (units, width) in enumerate(zip(RESNET[depth], (64, 128, 256, 512), strict=True), 1):
        blocks = []
        for n in range(units):
            stride = 2 if n == units - 1 and stage < 4 else 1
            blocks.append(Unit(inputs, width, stride, first=version == "v2"))
            inputs = 4 * width
        layers[f"block{stage}"] = nn.Sequential(*blocks)
    return Endpoints(layers)


class Mixed(nn.Module):
    """Branches of kernels, concatenated; "3/2" strides, "3v" and (unless `same`) what strides does not pad.

    "max" and "avg" are 3x3 pools, a tuple in the place of a kernel is several of them, concatenated. A residual block
    adds what comes out, behind a 1x1 convolution, to what went in.
    """

    def __init__(self, *branches, same=False, residual=False):
        super().__init__()
        self.branches, self.same, self.residual = branches, same, residual

    def forward(self, x):
        joined = torch.cat([self.run(x, kernels.split()) for kernels in self.branches], 1)
        return x + self.kernel(joined, (1, 1), 1, True, x.shape[1]) if self.residual else joined

    def run(self, x, kernels):
        for kernel in kernels:
            if "|" in kernel:
                x = torch.cat([self.run(x, [part]) for part in kernel.split("|")], 1)
            elif kernel == "max":
                x = F.max_pool2d(x, 3, 2, 1 if self.same else 0)
            elif kernel == "avg":
                x = F.avg_pool2d(x, 3, 1, 1)
            else:
                size, _, stride = kernel.rstrip("v").partition("/")
                sides = [int(n) for n in size.split("x")] * (1 if "x" in size else 2)
                same = self.same or not (stride or kernel.endswith("v"))
                x = self.kernel(x, sides, int(stride or 1), same)
        return x

    def kernel(self, x, sides, stride, same, outputs=2):
        weight = torch.ones(outputs, x.shape[1], *sides)
        return F.relu(F.conv2d(x, weight, stride=stride, padding=[n // 2 for n in sides] if same else 0))


V3_STEM = {"Conv2d_1a_3x3": "3/2", "Conv2d_2a_3x3": "3v", "Conv2d_2b_3x3": "3", "MaxPool_3a_3x3": "max"}
V3_STEM |= {"Conv2d_3b_1x1": "1", "Conv2d_4a_3x3": "3v", "MaxPool_5a_3x3": "max"}
FIVE = ("1", "1 5", "1 3 3", "avg 1")
SHRINK = ("3/2", "1 3 3/2", "max")


def inception_v2(_):
    stem = {"Conv2d_1a_7x7": "7/2", "MaxPool_2a_3x3": "max", "Conv2d_2b_1x1": "1", "Conv2d_2c_3x3": "3"}
    wide, shrink = ("1", "1 3", "1 3 3", "avg 1"), ("1 3/2", "1 3 3/2", "max")
    blocks = {name: Mixed(kernel, same=True) for name, kernel in (stem | {"MaxPool_3a_3x3": "max"}).items()}
    for name in ("3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b", "5c"):
        blocks[f"Mixed_{name}"] = Mixed(*(shrink if name in ("4a", "5a") else wide), same=True)
    return Endpoints(blocks)


def inception_v3(_):
    blocks = {name: Mixed(kernel) for name, kernel in V3_STEM.items()}
    seven = ("1", "1 1x7 7x1", "1 7x1 1x7 7x1 1x7", "avg 1")
    blocks |= {f"Mixed_5{n}": Mixed(*FIVE) for n in "bcd"}
    blocks |= {"Mixed_6a": Mixed(*SHRINK)} | {f"Mixed_6{n}": Mixed(*seven) for n in "bcde"}
    blocks |= {"Mixed_7a": Mixed("1 3/2", "1 1x7 7x1 3/2", "max")}
    blocks |= {f"Mixed_7{n}": Mixed("1", "1 1x3|3x1", "1 3 1x3|3x1", "avg 1") for n in "bc"}
    return Endpoints(blocks)


def inception_v4(_):
    blocks = {name: Mixed(V3_STEM[name]) for name in ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3")}
    blocks |= {
        "Mixed_3a": Mixed("max", "3/2"),
        "Mixed_4a": Mixed("1 3v", "1 1x7 7x1 3v"),
        "Mixed_5a": Mixed("3/2", "max"),
    }
    blocks |= {f"Mixed_5{n}": Mixed("1", "1 3", "1 3 3", "avg 1") for n in "bcde"} | {"Mixed_6a": Mixed(*SHRINK)}
    seven = ("1", "1 1x7 7x1", "1 7x1 1x7 7x1 1x7", "avg 1")
    blocks |= {f"Mixed_6{n}": Mixed(*seven) for n in "bcdefgh"}
    blocks |= {"Mixed_7a": Mixed("1 3/2", "1 1x7 7x1 3/2", "max")}
    blocks |= {f"Mixed_7{n}": Mixed("1", "1 1x3|3x1", "1 3x1 1x3 1x3|3x1", "avg 1") for n in "bcd"}
    return Endpoints(blocks)


def inception_resnet(name):
    same = name.endswith("same")

    def repeated(times, *branches):
        return nn.Sequential(*(Mixed(*branches, same=same, residual=True) for _ in range(times)))

    blocks = {name: Mixed(kernel, same=same) for name, kernel in V3_STEM.items()}
    blocks |= {"Mixed_5b": Mixed(*FIVE, same=same), "Repeat": repeated(10, "1", "1 3", "1 3 3")}
    blocks |= {"Mixed_6a": Mixed(*SHRINK, same=same), "PreAuxLogits": repeated(20, "1", "1 1x7 7x1")}
    blocks |= {"Mixed_7a": Mixed("1 3/2", "1 3/2", "1 3 3/2", "max", same=same)}
    blocks |= {"Repeat_2": repeated(10, "1", "1 1x3 3x1"), "Conv2d_7b_1x1": Mixed("1", same=same)}
    return Endpoints(blocks)


FAMILIES = {
    "alexnet": alexnet,
    "vgg": vgg,
    "mobilenet": mobilenet,
    "resnet": resnet,
    "inception_v2": inception_v2,
    "inception_v3": inception_v3,
    "inception_v4": inception_v4,
    "inception_resnet": inception_resnet,
}
PUBLISHED = published()


def rebuilt(name):
    build = next(build for family, build in FAMILIES.items() if name.startswith(family))
    with torch.device("meta"):
        return build(name).eval()


def fields_at(model, endpoints):
    """The field of what comes out of each endpoint: of the last operator that runs inside."""
    found = {}

    def visit(step):
        path = step.module.name
        for endpoint in endpoints:
            if path == endpoint or path.startswith(endpoint + "."):
                found[endpoint] = step.fields[0]

    walk(model, [(1, 3, RESOLUTION, RESOLUTION)], {}, visit)
    return {endpoint: summarize(field) for endpoint, field in found.items()}


def test_the_table_is_all_there():
    assert len(PUBLISHED) == 19
    assert sum(len(endpoints) for endpoints in PUBLISHED.values()) == 187


@pytest.mark.parametrize("name", PUBLISHED)
def test_fields_equal_the_published_ones(name):
    fields = fields_at(rebuilt(name), PUBLISHED[name])
    assert {field.status for field in fields.values()} == {"exact"}
    said = {endpoint: (f.size, f.stride, tuple(-n for n in f.start)) for endpoint, f in fields.items()}
    assert said == {endpoint: tuple((n, n) for n in numbers) for endpoint, numbers in PUBLISHED[name].items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_probe_agrees_at_every_position(name):
    checks = verify_receptive_fields(Subject(rebuilt(name), ((1, 3, RESOLUTION, RESOLUTION),), {}))
    assert [c for c in checks if c.contradicted or c.status != "exact"] == []
