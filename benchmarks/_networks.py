"""The networks that the benchmarks run on, each built with random weights: nothing is downloaded.

`BUILDERS` is the one table; a name's prefix says which package it needs ("plain" needs torch alone).
"""

import re
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from _common import declare_torchvision_operators
from torch import nn

Built = tuple[nn.Module, tuple[torch.Tensor, ...]]


class Recurrent(nn.Module):
    """Speech-like features through a two-layer bidirectional LSTM and a classifier at every step."""

    def __init__(self, features: int = 80, hidden: int = 256, classes: int = 40) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(2 * hidden, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0])


def _double(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Ronneberger et al. 2015 with padded convolutions: four levels, skip connections by concatenation."""

    def __init__(self, width: int = 32, depth: int = 4, classes: int = 2) -> None:
        super().__init__()
        sizes = [width * 2**n for n in range(depth + 1)]
        self.down = nn.ModuleList(_double(i, o) for i, o in zip([3, *sizes], sizes, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * s, s, 2, stride=2) for s in reversed(sizes[:-1]))
        self.join = nn.ModuleList(_double(2 * s, s) for s in reversed(sizes[:-1]))
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for block in self.down[:-1]:
            x = block(x)
            skips.append(x)
            x = self.pool(x)
        x = self.down[-1](x)
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat((skips.pop(), up(x)), dim=1))
        return self.head(x)


def _tiny() -> Built:
    network = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)),
    )
    return network, (torch.zeros(1, 3, 32, 32),)


def _lstm() -> Built:
    return Recurrent(), (torch.zeros(1, 200, 80),)


def _unet() -> Built:
    return UNet(), (torch.zeros(1, 3, 256, 256),)


def _torchvision(name: str, size: int = 224) -> Callable[[], Built]:
    def build() -> Built:
        declare_torchvision_operators()
        from torchvision import models

        # The two Inceptions draw their weights from a truncated normal of scipy's speed; any weights do here.
        options: dict[str, Any] = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        if name.startswith(("fcn", "deeplab", "lraspp")):
            options["weights_backbone"] = None
        return models.get_model(name, weights=None, **options), (torch.zeros(1, 3, size, size),)

    return build


def _timm(name: str, size: int = 224) -> Callable[[], Built]:
    def build() -> Built:
        declare_torchvision_operators()
        import timm

        return timm.create_model(name, pretrained=False), (torch.zeros(1, 3, size, size),)

    return build


def _bert_small() -> Built:
    declare_torchvision_operators()
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_size=512, num_hidden_layers=4, num_attention_heads=8, intermediate_size=2048)
    return BertModel(config), (torch.zeros(1, 128, dtype=torch.int64),)


def _gpt2_small() -> Built:
    declare_torchvision_operators()
    from transformers import GPT2Config, GPT2LMHeadModel

    # Without the cache: torch.jit.trace, which two peers stand on, cannot return one.
    return GPT2LMHeadModel(GPT2Config(use_cache=False)), (torch.zeros(1, 128, dtype=torch.int64),)


BUILDERS: dict[str, Callable[[], Built]] = {
    "plain/tiny": _tiny,
    "plain/lstm": _lstm,
    "plain/unet": _unet,
    **{
        f"torchvision/{name}": _torchvision(name)
        for name in (
            *("alexnet", "vgg16", "squeezenet1_1", "googlenet", "resnet18", "resnet50", "densenet121", "mobilenet_v2"),
            *("mobilenet_v3_small", "mnasnet1_0", "shufflenet_v2_x1_0", "efficientnet_b0", "regnet_y_400mf"),
            *("convnext_tiny", "vit_b_16", "swin_t", "fcn_resnet50", "deeplabv3_mobilenet_v3_large"),
        )
    },
    "torchvision/inception_v3": _torchvision("inception_v3", 299),
    "timm/mobilevit_s": _timm("mobilevit_s", 256),
    "timm/poolformer_s12": _timm("poolformer_s12"),
    "transformers/bert-small": _bert_small,
    "transformers/gpt2-small": _gpt2_small,
}


def build(name: str) -> Built:
    """A network in evaluation mode and the inputs it is run on, the same at every call."""
    torch.manual_seed(0)
    model, inputs = BUILDERS[name]()
    return model.eval(), inputs


def chosen(pattern: str) -> list[str]:
    """Names that match, of the networks whose package is installed; the smoke test's only where it is asked for."""
    names = [n for n in BUILDERS if re.search(pattern, n) and (pattern or n != "plain/tiny")]
    packages = {n.partition("/")[0] for n in names} - {"plain"}
    missing = {p for p in packages if find_spec(p) is None}
    found = [n for n in names if n.partition("/")[0] not in missing]
    if not found:
        raise SystemExit(
            f"no network matches {pattern!r}" + (f" without {', '.join(sorted(missing))}" if missing else "")
        )
    return found
