"""Imports the zoos, also where torchvision's binary part does not fit the installed torch."""

import sys
import warnings
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

BENCHMARKS = Path(__file__).resolve().parents[1]
if str(BENCHMARKS) not in sys.path:
    sys.path.insert(0, str(BENCHMARKS))
from _common import RESULTS, table, write_results  # noqa: E402  # found by the line above

PACKAGES = ("torchvision", "timm", "transformers")


__all__ = ["PACKAGES", "RESULTS", "load", "table", "torchvision_builder", "write_results"]


def load(package: str) -> Any:  # noqa: ANN401  # a module
    """Import torchvision.models, timm, transformers or another package.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if package in ("torchvision", "timm"):
            _torchvision()
        return import_module("torchvision.models" if package == "torchvision" else package)


def torchvision_builder(name: str) -> tuple[Callable[..., nn.Module], str]:
    """A builder of torchvision's registry and its kind: classification, segmentation, video, detection ..."""
    builder = load("torchvision").get_model_builder(name)
    parts = builder.__module__.split(".")
    return builder, parts[2] if len(parts) > 3 else "classification"


@cache
def _torchvision() -> torch.library.Library | None:
    """Import torchvision. Where its operators are missing, they are declared, and `nms` is written in torch."""
    try:
        import_module("torchvision")
    except RuntimeError as error:  # operator torchvision::nms does not exist
        if "torchvision::" not in str(error):
            raise
    else:
        return None
    for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", _nms, "CPU")
    import_module("torchvision")
    import_module("torchvision.ops.boxes")._assert_has_ops = lambda: None  # noqa: SLF001  # the operator is here now
    return library


def _nms(boxes: torch.Tensor, scores: torch.Tensor, limit: float) -> torch.Tensor:
    """Greedy non-maximum suppression: the best box first, all that overlap it by more than the limit dropped."""
    box_iou = import_module("torchvision.ops").box_iou
    order, kept = scores.argsort(descending=True), []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        order = order[box_iou(boxes[best][None], boxes[order])[0] <= limit]
    return torch.stack(kept) if kept else order
