"""Large data in a small process: an .npz of 12 GB and 20,000 pictures through `cli.py compare`, each limited to 2 GiB.

The limit is RLIMIT_DATA: heap and private writable mappings, which is what a program allocates. It does not count pages
of libraries and of the files' cache, so the largest resident size, which counts libraries, is held against the same
bound.
"""

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _common import RESULTS, ROOT, table, write_results

CLASSES = 10
SIDE = 224
BLOCK = 64  # samples that are written at a time, and repeat with another brightness
PICTURE = 64
MOST_BYTES = 2 << 30
_STAGE = re.compile(r"(evaluating [ab]|listing|timing[a-z ]*)")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def write_model(path: Path, scale: float) -> None:
    """A mean over the picture and one matrix: little to compute, and ten numbers a sample to keep."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).normal(size=(CLASSES, 3)).astype(np.float32) * np.float32(scale)
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weights"], ["scores"], transB=1),
        ],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(weights, "weights")],
    )
    opset = [helper.make_opsetid("", 17)]
    path.write_bytes(helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString())


def write_npz(path: Path, gigabytes: float) -> int:
    """A stored .npz with `x` float32 (n, 3, 224, 224) and `y`, written a block at a time; returns n."""
    samples = max(BLOCK, int(gigabytes * 1e9) // (3 * SIDE * SIDE * 4))
    generator = np.random.default_rng(1)
    block = generator.random((BLOCK, 3, SIDE, SIDE), dtype=np.float32)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("x.npy", "w", force_zip64=True) as member:
            header = {"descr": "<f4", "fortran_order": False, "shape": (samples, 3, SIDE, SIDE)}
            np.lib.format.write_array_header_1_0(member, header)
            for start in range(0, samples, BLOCK):
                shift = generator.random((BLOCK, 3, 1, 1), dtype=np.float32)
                member.write((block + shift)[: samples - start].tobytes())
        with archive.open("y.npy", "w") as member:
            np.lib.format.write_array(member, generator.integers(0, CLASSES, samples), allow_pickle=False)
    return samples


def write_pictures(folder: Path, count: int) -> str:
    """JPEG and PNG by turns in folders of classes, one of them cut short; returns the name of that one."""
    from PIL import Image

    generator = np.random.default_rng(2)
    for number in range(count):
        place = folder / f"class_{number % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        colour, texture = generator.integers(0, 200, 3), generator.integers(0, 56, (PICTURE, PICTURE + number % 9, 3))
        ending = "jpg" if number % 2 else "png"
        Image.fromarray((colour + texture).astype(np.uint8)).save(place / f"{number:06}.{ending}")
    broken = folder / "class_1" / f"{(count // 2) // CLASSES * CLASSES + 1:06}.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    return f"{broken.parent.name}/{broken.name}"


def limited(arguments: Sequence[str], most: int) -> dict[str, Any]:
    """Run the command line in a process whose data are limited, on a terminal of its own, and watch it."""
    parent, child = os.openpty()
    command = [sys.executable, __file__, "--case", json.dumps({"arguments": list(arguments), "most": most})]
    begun = time.perf_counter()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40", "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=child, env=environment)  # noqa: S603  # ours
        os.close(child)
        shown = _drained(parent)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - begun
        output.seek(0)
        text = output.read()
    words = _ANSI.sub("", shown)
    errors = [line.strip() for line in words.splitlines() if line.startswith("error:")]
    return {
        "exit_code": process.returncode,
        "seconds": round(seconds, 1),
        "peak_rss_bytes": usage.ru_maxrss * 1024,
        "progress": sorted(set(_STAGE.findall(words))),
        "progress_updates": len(_STAGE.findall(words)),
        "error": errors[0] if errors else None,
        "notes": [line for line in text.splitlines() if line.startswith("note:")],
    }


def _drained(terminal: int) -> str:
    """Everything that is written to a terminal until its last writer is gone."""
    parts = []
    while True:
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:  # how Linux says that it is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(terminal)
    return b"".join(parts).decode(errors="replace")


def run_limited(case: dict[str, Any]) -> None:
    """Become the command line, with the limit set: it holds for whatever runs in this process."""
    resource.setrlimit(resource.RLIMIT_DATA, (case["most"], case["most"]))
    os.execv(sys.executable, [sys.executable, str(ROOT / "cli.py"), *case["arguments"]])  # noqa: S606  # ours


def report(cases: Sequence[dict[str, Any]], most: int) -> str:
    """The result in Markdown."""
    headers = ["data", "bytes, GB", "samples", "evaluated", "exit code", "seconds", "peak, MiB", "progress"]
    rows = [
        [
            case["name"],
            case["data_bytes"] / 1e9,
            case["samples"],
            case["evaluated"],
            case["exit_code"],
            case["seconds"],
            case["peak_rss_bytes"] >> 20,
            ", ".join(case["progress"]) or "none",
        ]
        for case in cases
    ]
    said = [f"- {case['name']}: {line}" for case in cases for line in (*case["notes"], case["error"]) if line]
    limit = f"RLIMIT_DATA {most >> 20} MiB. Seconds are of the whole process: both models over all samples, and timing."
    return "\n\n".join([table(headers, rows), limit, "## What was said", "\n".join(said)])


def measure(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Make the data, run the cases, and say what came of each."""
    models = [folder / "a.onnx", folder / "b.onnx"]
    for path, scale in zip(models, (1.0, 1.001), strict=True):
        write_model(path, scale)
    prepare = [f"--preprocess={pair}" for pair in ("resize=64", "crop=56", "mean=0.5", "std=0.25")]
    npz, pictures = folder / "large.npz", folder / "pictures"
    written = write_npz(npz, options.gigabytes)
    broken = write_pictures(pictures, options.pictures)
    weight = sum(path.stat().st_size for path in pictures.rglob("*.*"))
    plan = [
        ("one .npz", npz, written, npz.stat().st_size, []),
        ("a folder", pictures, options.pictures, weight, prepare),
        ("a folder, --strict", pictures, options.pictures, weight, [*prepare, "--strict"]),
    ]
    cases = []
    for name, data, samples, size, further in plan:
        told = folder / "report.json"
        told.unlink(missing_ok=True)
        arguments = [
            "compare",
            *map(str, models),
            "--data",
            str(data),
            "--seconds",
            "1",
            "--report",
            str(told),
            *further,
        ]
        found = limited(arguments, options.most)
        metrics = json.loads(told.read_text())["metrics"] if told.exists() else {}
        evaluated = next((metric["n"] for metric in metrics.values()), None)
        named = broken in " ".join([*found["notes"], found["error"] or ""])
        expected = {"one .npz": (0, samples), "a folder": (0, samples - 1)}.get(name, (4, None))
        kept = (found["exit_code"], evaluated) == expected and found["peak_rss_bytes"] < options.most
        kept = kept and (named or data == npz)
        row = {"name": name, "data_bytes": size, "samples": samples, "evaluated": evaluated, "kept": kept, **found}
        clean = json.loads(json.dumps(row).replace(f"{folder}{os.sep}", ""))
        cases.append(clean)
        print(
            f"{name}: exit {found['exit_code']}, {found['seconds']} s, {found['peak_rss_bytes'] >> 20} MiB", flush=True
        )
    return cases


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; 1 where a case ended otherwise than it should, or took more."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=12.0, help="size of the .npz")
    parser.add_argument("--pictures", type=int, default=20_000, help="how many")
    parser.add_argument("--most", type=int, default=MOST_BYTES, help="bytes that the process may have")
    parser.add_argument(
        "--folder", type=Path, help="where the data are made for a while; the system's own if not given"
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for data.json and data.md")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.case:
        run_limited(options.case)
    folder = Path(tempfile.mkdtemp(prefix="netgauge-data-", dir=options.folder))
    try:
        cases = measure(options, folder)
    finally:
        shutil.rmtree(folder)
    record = {"limit": "RLIMIT_DATA", "limit_bytes": options.most, "cases": cases}
    print(write_results(options.output, "data", record, report(cases, options.most), ("onnxruntime", "pillow")))
    return 0 if all(case["kept"] for case in cases) else 1


if __name__ == "__main__":
    sys.exit(main())
