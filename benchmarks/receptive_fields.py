"""Receptive fields of networks that nobody here wrote, row by row against the probe.

    python benchmarks/receptive_fields.py                  all networks, then 2,000 random graphs
    python benchmarks/receptive_fields.py --sample 12      12 of the networks, evenly spread
    python benchmarks/receptive_fields.py --only swin      those whose name contains the text
    python benchmarks/receptive_fields.py --graphs 0       no random graphs

Weights are random, nothing is downloaded; needs torchvision, timm and hypothesis. A whole run writes
benchmarks/results/receptive_fields.json and .md. Exits with 1 where the probe contradicts a field, or where 5 % or more
of a convolutional network's rows are neither exact nor the whole input.
"""

import argparse
import importlib.util
import json
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
RESULTS = ROOT / "benchmarks" / "results"
GRAPHS = ROOT / "tests" / "profiler" / "random_graphs.py"
MOST_NEITHER = 0.05

# Per kind: torchvision's names, then timm's; "@" gives the side, 96 where there is none, "default" the network's own.
NETWORKS = {
    "convolutional": (
        "tv:alexnet@128 tv:vgg11 tv:vgg16_bn tv:resnet18@128 tv:resnet50@224 tv:resnext50_32x4d tv:wide_resnet50_2 "
        "tv:squeezenet1_1@128 tv:densenet121 tv:inception_v3@160 tv:googlenet@128 tv:shufflenet_v2_x1_0 "
        "tv:mobilenet_v2 tv:mobilenet_v3_small tv:mnasnet1_0 tv:regnet_y_400mf tv:regnet_x_400mf tv:efficientnet_b0 "
        "tv:efficientnet_v2_s tv:convnext_tiny tv:fcn_resnet50 tv:deeplabv3_resnet50 tv:lraspp_mobilenet_v3_large "
        "tv:r3d_18@56 tv:mc3_18@56 tv:r2plus1d_18@56 tv:s3d@224 "
        "resnetv2_50 res2net50_26w_4s resnest14d skresnet18 seresnet50 ecaresnet26t gernet_s repvgg_a0 dla34 "
        "hrnet_w18_small vovnet39a selecsls42 xception41 cspresnet50 darknet53 dpn68 nfnet_l0 hardcorenas_a fbnetc_100 "
        "ghostnet_100 tinynet_e lcnet_050 mixnet_s rexnet_100 convnextv2_atto inception_next_atto fasternet_t0 "
        "starnet_s1 mobileone_s0 convmixer_768_32 hgnetv2_b0 rdnet_tiny inception_v4@160 inception_resnet_v2@160 "
        "tresnet_m mambaout_femto cs3darknet_s mobilenetv4_conv_small efficientnet_lite0 focalnet_tiny_srf"
    ),
    "hybrid": (
        "botnet26t_256@default bat_resnext26ts@256 mobilevit_xxs@128 mobilevitv2_050@128 edgenext_xx_small@128 "
        "coatnet_nano_rw_224@default maxvit_tiny_tf_224@default efficientformer_l1@default efficientvit_b0@128 "
        "fastvit_t8@128 levit_128s@default visformer_tiny@default poolformer_s12 repvit_m1 tiny_vit_5m_224@default "
        "nextvit_small@128 convit_tiny@default caformer_s18 convformer_s18 coat_tiny@default pvt_v2_b0@128"
    ),
    "transformer": (
        "tv:vit_b_16@224 tv:swin_t@128 tv:swin_v2_t@128 tv:maxvit_t@224 deit_tiny_patch16_224@default "
        "beit_base_patch16_224@default swinv2_tiny_window8_256@default tnt_s_legacy_patch16_224@default "
        "volo_d1_224@default twins_svt_small@default mixer_s32_224@default resmlp_12_224@default "
        "eva02_tiny_patch14_224@default davit_tiny@default hiera_tiny_224@default mvitv2_tiny@default "
        "sequencer2d_s@default xcit_nano_12_p16_224@default crossvit_9_240@default cait_xxs24_224@default "
        "gcvit_xxtiny@default nest_tiny@default gmlp_s16_224@default"
    ),
}
VIDEO = {"r3d_18", "mc3_18", "r2plus1d_18", "s3d"}
FRAMES = {"s3d": 16}


def listed() -> list[tuple[str, str]]:
    return [(kind, name) for kind, names in NETWORKS.items() for name in names.split()]


def built(entry: str) -> tuple[Any, tuple[int, ...]]:
    """The network in evaluation mode and the size of its input."""
    import timm
    import torch
    import torchvision

    name, _, side = entry.removeprefix("tv:").partition("@")

    def make() -> Any:  # noqa: ANN401  # a module
        if not entry.startswith("tv:"):
            return timm.create_model(name)
        heads = {"weights_backbone": None} if name.startswith(("fcn", "deeplab", "lraspp")) else {}
        return torchvision.models.get_model(name, weights=None, **heads)

    try:
        with torch.device("meta"):
            model = make()
    except (RuntimeError, NotImplementedError):  # a constructor that computes with its parameters
        model = make()
    if side == "default":
        return model.eval(), (1, *model.default_cfg["input_size"])
    sides = (int(side or 96),) * 2
    return model.eval(), (1, 3, FRAMES.get(name, 8), *sides) if name in VIDEO else (1, 3, *sides)


def measured(kind: str, entry: str) -> dict[str, Any]:
    """One network's row."""
    from profiler.analyzer import Subject
    from profiler.crosscheck.receptive import verify_receptive_fields

    row: dict[str, Any] = {"network": entry.partition("@")[0], "kind": kind, "error": ""}
    try:
        model, size = built(entry)
        begun = time.perf_counter()
        checks = verify_receptive_fields(Subject(model, (size,), {}))
    except Exception as error:  # noqa: BLE001  # any crash is a result
        return {**row, "error": f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"}
    seconds = time.perf_counter() - begun
    rows = [c for c in checks if not c.free]
    wrong = [c for c in checks if c.contradicted]
    neither = [c for c in rows if not c.settled]
    return {
        **row,
        "input": list(size),
        "rows": len(rows),
        "exact": sum(c.settled and c.reported == "exact" for c in rows),
        "whole_input": sum(c.settled and c.reported != "exact" for c in rows),
        "neither": len(neither),
        "neither_share": round(len(neither) / max(1, len(rows)), 4),
        "not_probed": sum(c.status == "not probed" for c in rows),
        "reasons": dict(Counter(f"{c.reported}: {c.reason}" for c in neither).most_common()),
        "contradicted": [f"{c.name or '.'} ({c.packet}, call {c.call}): {c.detail}" for c in wrong],
        "seconds": round(seconds, 2),
    }


def random_graphs(count: int) -> dict[str, Any]:
    """Rows by status over so many random graphs, and the graphs that the probe contradicts, as code."""
    from hypothesis import HealthCheck, Phase, given, seed, settings

    from profiler.analyzer import Subject
    from profiler.crosscheck.receptive import verify_receptive_fields
    from profiler.errors import ModelError

    spec = importlib.util.spec_from_file_location("random_graphs", GRAPHS)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["random_graphs"] = module
    spec.loader.exec_module(module)
    rows: Counter[str] = Counter()
    operators: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    wrong, graphs = [], 0

    @seed(0)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(module.graphs())
    def run(graph: Any) -> None:  # noqa: ANN401  # a Graph
        nonlocal graphs
        graphs += 1
        try:
            checks = verify_receptive_fields(Subject(graph.model(), (graph.size,), {}))
        except ModelError as error:
            wrong.append(f"{graph!r}{error}")
            return
        rows.update(("exact" if c.reported == "exact" else "whole-input") if c.settled else "neither" for c in checks)
        operators.update(c.packet for c in checks)
        reasons.update(c.reason.partition(" in ")[0] for c in checks if not c.settled)
        first = next((f"{c.packet}: {c.detail}" for c in checks if c.contradicted), "")
        if first:
            wrong.append(f"{graph!r}{first}")

    begun = time.perf_counter()
    run()
    return {
        "graphs": graphs,
        "rows": rows.total(),
        "exact": rows["exact"],
        "whole_input": rows["whole-input"],
        "neither": rows["neither"],
        "exact_share": round(rows["exact"] / max(1, rows.total()), 4),
        "reasons": dict(reasons.most_common()),
        "operators": dict(operators.most_common()),
        "contradicted": wrong,
        "seconds": round(time.perf_counter() - begun, 1),
    }


def totals(rows: list[dict[str, Any]]) -> dict[str, Any]:
    done = [r for r in rows if not r["error"]]
    sums = {name: sum(r[name] for r in done) for name in ("rows", "exact", "whole_input", "neither", "not_probed")}
    worst = max((r for r in done if r["kind"] == "convolutional"), key=lambda r: r["neither_share"], default=None)
    return {
        "networks": len(done),
        "failed": len(rows) - len(done),
        **sums,
        "contradicted": sum(len(r["contradicted"]) for r in done),
        "worst_convolutional": [worst["network"], worst["neither_share"]] if worst else None,
    }


HEADER = (
    "network",
    "kind",
    "input",
    "rows",
    "exact",
    "whole input",
    "neither",
    "share",
    "wrong",
    "seconds",
    "why neither",
)


def markdown(report: dict[str, Any]) -> str:
    """The results for readers."""
    from tabulate import tabulate

    total, graphs, machine = report["totals"], report["random_graphs"], report["environment"]
    table = []
    for r in report["networks"]:
        if r["error"]:
            table.append([r["network"], r["kind"], *[""] * 8, f"failed: {r['error']}"])
            continue
        why = "; ".join(f"{n} {reason}" for reason, n in list(r["reasons"].items())[:3])
        counts = [r["rows"], r["exact"], r["whole_input"], r["neither"], f"{r['neither_share']:.1%}"]
        size = "x".join(map(str, r["input"]))
        table.append([r["network"], r["kind"], size, *counts, len(r["contradicted"]), r["seconds"], why])
    first = (
        f"{total['networks']} networks, {total['rows']} rows, compared at every position of every axis: "
        f"{total['exact']} exact and equal, {total['whole_input']} that see the whole input and were seen to, "
        f"{total['neither']} neither; {total['contradicted']} contradicted."
    )
    drawn = (
        f"{graphs['graphs']} random graphs, {graphs['rows']} rows: {graphs['exact']} exact and equal "
        f"({graphs['exact_share']:.1%}), {graphs['whole_input']} whole input, {graphs['neither']} neither; "
        f"{len(graphs['contradicted'])} contradicted."
    )
    where = f"Torch {machine['packages']['torch']}, {machine['platform']}, {machine['cores']} cores, one thread."
    text = ["# Receptive fields against the probe", first, drawn, where, tabulate(table, HEADER, tablefmt="github")]
    return "\n\n".join(text) + "\n"


def torchvision_operators() -> Any:  # noqa: ANN401  # a library, which lives as long as it is held
    """Torchvision without its compiled operators imports once two of them are declared."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", type=int)
    parser.add_argument("--only", default="")
    parser.add_argument("--graphs", type=int)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")  # the zoos' own
    import torch

    from profiler.environment import environment

    torch.set_num_threads(1)
    library = torchvision_operators()
    chosen = [(kind, name) for kind, name in listed() if options.only in name]
    if options.sample:
        chosen = chosen[:: max(1, len(chosen) // options.sample)][: options.sample]
    whole = not options.only and not options.sample
    rows = []
    for kind, name in chosen:
        row = measured(kind, name)
        rows.append(row)
        shown = ("rows", "exact", "whole_input", "neither", "seconds")
        print(f"{name}: {row['error'] or {k: row[k] for k in shown}}", flush=True)
        print("".join(f"    contradicted: {wrong}\n" for wrong in row.get("contradicted", ())[:3]), end="")
    count = (2000 if whole else 0) if options.graphs is None else options.graphs
    graphs = random_graphs(count) if count else {}
    del library
    report = {"environment": environment(), "totals": totals(rows), "networks": rows, "random_graphs": graphs}
    print(json.dumps(report["totals"], indent=1))
    print(json.dumps({k: v for k, v in graphs.items() if k not in ("operators", "contradicted")}, indent=1))
    print("".join(f"contradicted: {graph}\n" for graph in graphs.get("contradicted", ())[:5]), end="")
    if whole and graphs:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "receptive_fields.json").write_text(json.dumps(report, indent=1) + "\n")
        (RESULTS / "receptive_fields.md").write_text(markdown(report))
    over = [r for r in rows if not r["error"] and r["kind"] == "convolutional" and r["neither_share"] >= MOST_NEITHER]
    return int(bool(report["totals"]["contradicted"] or over or graphs.get("contradicted")))


if __name__ == "__main__":
    sys.exit(main())
