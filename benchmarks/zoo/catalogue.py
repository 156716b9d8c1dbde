"""Networks that nobody here wrote: what is built, and on which inputs.

Three sources: torchvision's registry, at least one architecture of every module of timm's registry, and transformers
architectures built small from their configurations. Nothing is downloaded. Random parameters of the two picture zoos
are zeros: the counts depend on sizes, and drawing the numbers of a large network takes longer than counting it.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from small_transformers import Architecture, architectures
from torch import nn
from torch.overrides import TorchFunctionMode
from zoos import load, torchvision_builder

Call = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]

TIMM = Path(__file__).with_name("timm.txt")
# Weights entries at 384 or 512 are the default of some networks; all are counted at the size they were first made for.
_SIDES = {"vit_h_14": 224, "regnet_y_16gf": 224, "regnet_y_32gf": 224, "regnet_y_128gf": 224}


@dataclass(frozen=True)
class Entry:
    """One network of the catalogue.

    Attributes:
        name: source and name, "timm:resnet10t".
        family: module of the registry, or kind of transformer.
        build: gives the module in evaluation mode and what it is called with.
    """

    name: str
    family: str
    build: Callable[[], Call]


class _Zeros(TorchFunctionMode):
    """Fills with zeros where a constructor asks for random numbers."""

    FILLS = re.compile(r"(xavier_|kaiming_|trunc_)?(uniform_|normal_)|orthogonal_|sparse_|erfinv_|exponential_")

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        if self.FILLS.fullmatch(getattr(func, "__name__", "")):
            with torch.no_grad():
                return (args[0] if args else kwargs["tensor"]).zero_()
        return func(*args, **kwargs)


@contextmanager
def without_random_weights() -> Iterator[None]:
    """Constructors inside fill parameters with zeros."""
    with _Zeros(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def picture(*shape: int) -> torch.Tensor:
    """Reproducible noise."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _torchvision(name: str) -> Call:
    builder, kind = torchvision_builder(name)
    weights = load("torchvision").get_model_weights(name).DEFAULT
    options: dict[str, Any] = {"weights": None}
    if kind == "segmentation":
        options |= {"weights_backbone": None, "num_classes": 21}
        options |= {} if name.startswith("lraspp") else {"aux_loss": True}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    with without_random_weights():
        model = builder(**options)
    return model.eval(), _pictures(name, kind, weights), {}


def _pictures(name: str, kind: str, weights: Any) -> tuple[torch.Tensor, ...]:  # noqa: ANN401  # a weights entry
    if kind == "segmentation":
        return (picture(1, 3, 224, 224),)
    if kind == "optical_flow":
        return (picture(1, 3, 128, 128), picture(1, 3, 128, 128))
    side = _SIDES.get(name) or weights.transforms().crop_size[0]
    return (picture(1, 3, 16, side, side) if kind == "video" else picture(1, 3, side, side),)


def _timm(name: str) -> Call:
    with without_random_weights():
        model = load("timm").create_model(name, pretrained=False)
    return model.eval(), (picture(1, *model.default_cfg["input_size"]),), {}


def _transformers(architecture: Architecture) -> Call:
    load("transformers").logging.set_verbosity_error()
    torch.manual_seed(0)
    model, inputs = architecture.build()
    return model, (), inputs


def entries() -> list[Entry]:
    """The whole catalogue."""
    rows = []
    for name in load("torchvision").list_models():
        kind = torchvision_builder(name)[1]
        if kind in ("classification", "segmentation", "video", "optical_flow"):
            rows.append(Entry(f"torchvision:{name}", kind, partial(_torchvision, name)))
    registry = load("timm").models
    for name in TIMM.read_text().split():
        module = registry.model_entrypoint(name).__module__.rpartition(".")[2]
        rows.append(Entry(f"timm:{name}", module, partial(_timm, name)))
    rows += [Entry(f"transformers:{a.name}", a.family, partial(_transformers, a)) for a in architectures()]
    return rows
