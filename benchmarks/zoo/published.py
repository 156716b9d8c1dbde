"""Torchvision's published operation and parameter counts beside ours, for every weights entry that has them.

    python benchmarks/zoo/published.py                  all, about two minutes
    python benchmarks/zoo/published.py --only swin      those whose name matches the regular expression

What torchvision publishes under `_ops` is multiply-accumulates in units of 1e9, to three decimals, on the input that
its own test states (test_schema_meta_validation in test/test_extended_models.py): a square of 512 pixels after the
weights' own preprocessing; 16 frames of it for video; a size of its own for each detector. The networks are built as
the weights entry needs them, and nothing is downloaded. A detector's work depends on how many regions its trained
weights propose and how many objects it finds; where that explains its figure, the remark says which numbers do.

Writes benchmarks/results/torchvision_published.json and .md. Exits with 1 where a figure differs.
"""

import argparse
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import zoo_tables
from catalogue import picture, without_random_weights
from isolate import Row, isolated
from torch import nn
from zoos import PACKAGES, RESULTS, load, torchvision_builder, write_results

KINDS = ("classification", "segmentation", "video", "detection")
FRAMES = 16
MOST_REGIONS, MOST_OBJECTS = 1000, 100  # that torchvision's detectors keep
# The side of the square that torchvision's test feeds to each detector.
DETECTION_SIDES = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": 320,
    "fasterrcnn_mobilenet_v3_large_fpn": 800,
    "fasterrcnn_resnet50_fpn": 800,
    "fasterrcnn_resnet50_fpn_v2": 800,
    "fcos_resnet50_fpn": 800,
    "keypointrcnn_resnet50_fpn": 1333,
    "maskrcnn_resnet50_fpn": 800,
    "maskrcnn_resnet50_fpn_v2": 800,
    "retinanet_resnet50_fpn": 800,
    "retinanet_resnet50_fpn_v2": 800,
    "ssd300_vgg16": 300,
    "ssdlite320_mobilenet_v3_large": 320,
}


@dataclass(frozen=True)
class Published:
    """One weights entry.

    Attributes:
        name: builder and entry, "resnet50 IMAGENET1K_V1".
        kind: one of KINDS.
        input: size the count is for.
        gmacs, params: as published.
        build: gives the module as the weights entry needs it, without its weights.
    """

    name: str
    kind: str
    input: tuple[int, ...]
    gmacs: float
    params: int
    build: Callable[[], nn.Module]


def _options(name: str, kind: str, meta: dict[str, Any], side: int) -> dict[str, Any]:
    """What the builder is called with when it loads the entry, the weights themselves left out."""
    options: dict[str, Any] = {"weights": None}
    if meta.get("categories"):
        options["num_classes"] = len(meta["categories"])
    if kind in ("segmentation", "detection"):
        options["weights_backbone"] = None
    if "keypoint_names" in meta:
        options |= {"num_classes": 2, "num_keypoints": len(meta["keypoint_names"])}
    if re.match(r"(fcn|deeplabv3)_", name):
        options["aux_loss"] = True
    if name.startswith("vit_"):
        options["image_size"] = side
    if name == "googlenet":  # the published parameters leave the auxiliary heads out
        options |= {"aux_logits": False, "init_weights": False}
    if name == "inception_v3":  # and here they count them, though evaluation does not run them
        options["init_weights"] = False
    return options


def _input(name: str, kind: str, weights: Any) -> tuple[int, ...]:  # noqa: ANN401  # a weights entry
    if kind == "detection":
        return (3, DETECTION_SIDES[name], DETECTION_SIDES[name])
    transforms = weights.transforms()
    side = getattr(transforms, "crop_size", None) or transforms.resize_size
    height, width = side if len(side) == 2 else side * 2
    return (1, 3, FRAMES, height, width) if kind == "video" else (1, 3, height, width)


def entries() -> list[Published]:
    """All weights entries of the four kinds."""
    models = load("torchvision")
    rows = []
    for name in models.list_models():
        builder, kind = torchvision_builder(name)
        builder = partial(_frozen, builder) if re.search(r"_fpn$", name) else builder
        if kind not in KINDS:
            continue
        for weights in models.get_model_weights(name):
            meta, size = weights.meta, _input(name, kind, weights)
            build = partial(builder, **_options(name, kind, meta, size[-1]))
            rows.append(Published(f"{name} {weights.name}", kind, size, meta["_ops"], meta["num_params"], build))
    return rows


def _frozen(builder: Callable[..., nn.Module], **options: Any) -> nn.Module:  # noqa: ANN401  # passed on
    """A detector whose backbone's norms have buffers in place of parameters, as the builder makes it around weights."""
    model = builder(**options)
    kind = import_module("torchvision.ops").FrozenBatchNorm2d
    for module in list(model.backbone.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, kind(child.num_features, child.eps))
    return model


def compare(entry: Published) -> Row:
    """Count one entry."""
    from profiler import analyze

    detects = entry.kind == "detection"
    with without_random_weights():
        model = entry.build().eval()
    image = picture(*entry.input)
    # Region pooling that is written in torch is compiled at its first call, which takes minutes.
    torch.compiler.set_stance("force_eager")
    profile = analyze(model, [image] if detects else image)
    gmacs, params = round(profile.totals.macs / 1e9, 3), profile.totals.params
    row = {name: value for name, value in asdict(entry).items() if name != "build"}
    row |= {"our_gmacs": gmacs, "our_params": params, "uncounted": dict(profile.uncounted), "remark": ""}
    if detects and gmacs != entry.gmacs:
        row["remark"] = _at_their_numbers(profile, model, entry.gmacs)
    row["equal"] = (gmacs, params) == (entry.gmacs, entry.params)
    return row


def _at_their_numbers(profile: Any, model: nn.Module, published: float) -> str:  # noqa: ANN401  # a Profile
    """The regions and objects with which our count is the published one, those nearest to the ones here; or "".

    A detector with regions costs the same everywhere but in its heads, which run once a region or once an object.
    """
    from profiler import analyze

    heads = model.roi_heads
    region, crop = ((1, model.backbone.out_channels, side, side) for side in (7, 14))
    each_region = analyze(nn.Sequential(heads.box_head, heads.box_predictor), region).totals.macs
    parts = [getattr(heads, f"{kind}_{part}", None) for kind in ("mask", "keypoint") for part in ("head", "predictor")]
    used = [part for part in parts if part is not None]
    each_object = analyze(nn.Sequential(*used), crop).totals.macs if used else 0
    rest = sum(row.macs for row in profile.layers if not row.name.startswith("roi_heads."))
    ours = sum(row.macs for row in profile.layers if row.name.startswith("roi_heads.box_")) // each_region
    for regions in sorted(range(MOST_REGIONS + 1), key=lambda n: (abs(n - ours), n)):
        for objects in range(MOST_OBJECTS + 1 if used else 1):
            if round((rest + regions * each_region + objects * each_object) / 1e9, 3) == published:
                text = f"{rest / 1e9:.4f} G + {regions} regions of {each_region / 1e6:.3f} M"
                return text + (f" + {objects} objects of {each_object / 1e6:.3f} M" if used else "")
    return ""


def page(rows: list[Row]) -> str:
    """The results as Markdown."""
    required = [row for row in rows if row["kind"] != "detection"]
    equal = sum(row.get("equal", False) for row in required)
    text = [f"{equal} of {len(required)} weights entries for classification, segmentation and video are equal:"]
    text += ["GMACs to three decimals and parameters exactly."]
    head = ["weights entry", "input", "published GMACs", "ours", "published parameters", "ours", ""]
    for kind in KINDS:
        part = [row for row in rows if row["kind"] == kind]
        if part:
            text += ["", f"## {kind.capitalize()}", "", *zoo_tables.table(head, map(_cells, part))]
    return "\n".join(text)


def _cells(row: Row) -> list[str]:
    size = "x".join(map(str, row["input"]))
    if "error" in row:
        return [row["name"], size, f"{row['gmacs']:.3f}", "", f"{row['params']:,}", "", row["error"]]
    explained = f"the published one is {row['remark']}" if row["remark"] else "differs"
    verdict = "equal" if row["equal"] else explained
    counts = [f"{row['gmacs']:.3f}", f"{row['our_gmacs']:.3f}", f"{row['params']:,}", f"{row['our_params']:,}"]
    return [row["name"], size, *counts, verdict]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="PATTERN")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER")
    parser.add_argument("--seconds", type=float, default=600, help="limit for one network")
    parser.add_argument("--memory", type=float, default=16, help="GiB of address space for one network")
    options = parser.parse_args()
    torch.set_num_threads(1)
    load("timm")
    rows: list[Row] = []
    for entry in entries():
        if not re.search(options.only, f"{entry.kind} {entry.name}"):
            continue
        found = isolated(partial(_compared, entry), options.seconds, options.memory)
        rows.append({"name": entry.name, "kind": entry.kind, "input": entry.input, **found, "gmacs": entry.gmacs})
        rows[-1]["params"] = entry.params
        print(" | ".join(_cells(rows[-1])), flush=True)
    write_results(options.output, "torchvision_published", {"entries": rows}, page(rows), PACKAGES)
    return 0 if all(row.get("equal") for row in rows if row["kind"] != "detection") else 1


def _compared(entry: Published) -> Row:
    try:
        return compare(entry)
    except Exception as error:  # noqa: BLE001  # a crash is a result
        return {"error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    sys.exit(main())
