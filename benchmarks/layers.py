"""Time per layer: how much of a recorded run the nodes' times cover, and whether they say the same twice.

    python benchmarks/layers.py                     the reference networks and three of other zoos, about 15 minutes
    python benchmarks/layers.py --only resnet       those whose name matches

Each network is quantized, and its float and int8 files are taken apart in a process of their own: several times as they
are, which shows whether shares of the time repeat, and once with 32 inputs in a run, where what recording itself takes
between the nodes weighs little. Networks of other zoos have random weights.
"""

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from _common import RESULTS, ROOT, declare_torchvision_operators, run_case, table, write_results

COVERED, MAPPED, REPEATS, WORTH = 0.90, 0.95, 0.10, 0.02
BATCH = 32
REFERENCE = {
    f"digits_{name}": (f"{ROOT}/models/digits_{name}.py:digits_{name}", f"{ROOT}/models/digits_{name}.safetensors")
    for name in ("lstm", "mobile", "resnet", "unet", "vit")
} | {"digits_cnn": (f"{ROOT}/models/digits_cnn.pt", None)}
OTHERS = ("torchvision:resnet18", "torchvision:mobilenet_v3_small", "timm:vit_tiny_patch16_224")
SIDE = 224


def files(name: str, folder: Path, seconds: float) -> dict[str, bytes]:
    """A network's float and int8 files; the int8 one is missing where int8 does not pay here."""
    declare_torchvision_operators()
    from quant import quantize

    output = folder / "model.onnx"
    if name in REFERENCE:
        target, weights = REFERENCE[name]
        data: Any = "digits-ink" if name.endswith("unet") else "digits"
    else:
        target, weights = name, None
        data = np.random.default_rng(0).standard_normal((8, 3, SIDE, SIDE)).astype(np.float32)
    result = quantize(target, data, None, output, weights=weights, seconds=seconds)
    found = {"float": (folder / "model.float.onnx").read_bytes()}
    return found if result.placement == "float" else {**found, "int8": output.read_bytes()}


def repeated(times: Sequence[Any]) -> dict[str, float]:
    """Share of each node over 2 % -> largest over smallest of its shares, less one."""
    shares = [{"|".join(sorted(node.names)): node.share for node in each.nodes} for each in times]
    worth = [name for name in shares[0] if max(each.get(name, 0.0) for each in shares) > WORTH]
    return {
        name: max(each[name] for each in shares) / max(min(each[name] for each in shares), 1e-9) - 1 for name in worth
    }


def measure(name: str, repeats: int, seconds: float) -> dict[str, Any]:
    """One network: both of its files."""
    from quant import layer_times

    with tempfile.TemporaryDirectory() as folder:
        models = files(name, Path(folder), min(seconds, 2.0))
    found: dict[str, Any] = {}
    for kind, model in models.items():
        times = [layer_times(model, seconds=seconds) for _ in range(repeats)]
        try:
            batched = layer_times(model, batch=BATCH, seconds=seconds, ceilings=False).to_dict()["coverage"]
        except Exception as error:  # noqa: BLE001  # a file for one input a run
            batched = {"error": str(error)}
        deviations = repeated(times)
        found[kind] = {
            **times[0].to_dict(),
            "covered": min(each.coverage.part for each in times),
            "of_recording": min(each.coverage.part_of_recording for each in times),
            "of_plain": [each.coverage.part_of_plain for each in times],
            "mapped": min(each.mapped for each in times),
            "batched": batched,
            "deviations": deviations,
            "largest_deviation": max(deviations.values(), default=0.0),
        }
    return found


def kept(found: dict[str, Any]) -> bool:
    """Whether a file's figures are within the limits."""
    within = found["covered"] >= COVERED and found["mapped"] >= MAPPED
    return bool(within and found["largest_deviation"] <= REPEATS)


def report(networks: dict[str, Any]) -> str:
    """The result in Markdown."""
    rows, limited, errors, roofs = [], [], [], []
    for name, kinds in networks.items():
        if "error" in kinds:
            errors.append(f"- {name}: {kinds['error']}")
            continue
        for kind, found in kinds.items():
            coverage = found["coverage"]
            rows.append(
                [
                    *(f"{name}, {kind}", f"{coverage['plain_ms']:.3f}", f"{found['covered']:.1%}"),
                    *(f"{found['of_recording']:.1%}", _part(found["batched"].get("part_of_recording"))),
                    *(f"{coverage['part_of_plain']:.1%}", f"{found['mapped']:.1%}", len(found["deviations"])),
                    f"{found['largest_deviation']:.1%}",
                ]
            )
            limited += [f"- {name}, {kind}: {sentence}" for sentence in found["most_limited"]]
            roof = found["ceilings"]
            roofs.append([f"{name}, {kind}", *(roof[k] for k in ("float32_gmac_s", "int8_gmac_s", "memory_gb_s"))])
    headers = ["network", "ms", "nodes of the run", "with the recorder", f"the same, {BATCH} inputs"]
    headers += ["net of an unrecorded run", "traced", "nodes over 2 %", "largest difference of a share"]
    parts = [table(headers, rows), "## Most limited layers", "\n".join(limited)]
    parts += ["## Ceilings", table(["process of", "float32 GMAC/s", "int8 GMAC/s", "memory GB/s"], roofs)]
    return "\n\n".join([*parts, *(["## Not measured", "\n".join(errors)] if errors else [])])


def _part(value: float | None) -> str | None:
    return None if value is None else f"{value:.1%}"


def chosen(pattern: str) -> list[str]:
    """Names that match, of networks whose package is installed."""
    others = [name for name in OTHERS if find_spec(name.partition(":")[0])]
    found = [name for name in (*REFERENCE, *others) if re.search(pattern, name)]
    if not found:
        raise SystemExit(f"no network matches {pattern!r}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; 1 where a file is outside the limits or a network failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="regular expression that a network's name must match")
    parser.add_argument("--repeats", type=int, default=3, help="times that each file is taken apart")
    parser.add_argument("--seconds", type=float, default=4.0, help="of recording, each time")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for layers.json and layers.md")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.case:
        print(json.dumps(measure(**options.case)))
        return 0
    networks = {}
    for name in chosen(options.only):
        case = {"name": name, "repeats": options.repeats, "seconds": options.seconds}
        networks[name] = found = run_case(__file__, case, timeout=1800.0)
        for kind, one in found.items():
            text = one if kind == "error" else f"covered {one['covered']:.1%}, traced {one['mapped']:.1%}, "
            more = "" if kind == "error" else f"shares within {one['largest_deviation']:.1%}"
            print(f"{name}, {kind}: {text}{more}", flush=True)
    beyond = [
        f"{n}, {kind}" for n, f in networks.items() for kind, one in f.items() if kind == "error" or not kept(one)
    ]
    limits = {"covered": COVERED, "mapped": MAPPED, "repeats": REPEATS, "worth": WORTH}
    record = {"limits": limits, "beyond": beyond, "networks": networks}
    print(write_results(options.output, "layers", record, report(networks), ("onnxruntime", "torchvision", "timm")))
    print(f"outside the limits: {', '.join(beyond) or 'none'}")
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
