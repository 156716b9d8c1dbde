"""Four networks on a GPU in float32, float16 and int8: latency, throughput, copies, memory, and which nodes ran there.

Every case (network, batch, precision) runs in a process of its own. The model is opened alone and run, which tells how
much of the GPU's memory it takes; then it is timed against the float32 file by the interleaved protocol of
docs/gpu.md, with inputs and outputs on the device. float32 is timed against itself: what that shows is noise.

    python benchmarks/gpu.py                             # CUDA, batches 1, 8 and 64: about twenty minutes
    python benchmarks/gpu.py --device tensorrt
    python benchmarks/gpu.py --device cpu --models resnet50 --batches 1    # tries the script without a GPU

Without a usable GPU it ends with exit code 4 and says what is missing. Results: results/gpu.json and gpu.md.
"""

import argparse
import contextlib
import importlib.metadata
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _common import RESULTS, run_case, table, write_results

PACKAGES = ("onnx", "onnxruntime", "onnxruntime-gpu", "torchvision", "transformers", "tensorrt")
_LIBRARIES = ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12", "nvidia-cudnn-cu13", "nvidia-cudnn-cu12", "tensorrt")
_GPU = ("name", "driver_version", "memory.total", "compute_cap", "clocks.max.sm", "power.limit", "persistence_mode")
TIMEOUT = 1800.0  # of a case; TensorRT builds engines for minutes


def smi(query: Sequence[str]) -> list[str] | None:
    """The first GPU's values by nvidia-smi; None where there is none to ask."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    arguments = [command, f"--query-gpu={','.join(query)}", "--format=csv,noheader,nounits", "--id=0"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603  # a fixed query
    return [value.strip() for value in done.stdout.split(",")] if done.returncode == 0 else None


def gpu_described() -> dict[str, Any] | None:
    """GPU, driver, CUDA, cuDNN and TensorRT, as far as they say so themselves; None without a GPU."""
    values = smi(_GPU)
    if values is None:
        return None
    from quant.installation import import_onnxruntime, installed_distributions

    ort = import_onnxruntime()
    libraries = {}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            libraries[name] = importlib.metadata.version(name)
    return {
        **dict(zip(_GPU, values, strict=False)),
        "onnxruntime": installed_distributions(),
        "built_for_cuda": getattr(ort, "cuda_version", None),
        "libraries": libraries,
    }


def used_mib() -> int | None:
    """Memory in use on the GPU, by all processes; None where nvidia-smi does not tell."""
    values = smi(["memory.used"])
    return int(values[0]) if values and values[0].isdigit() else None


def measured(case: dict[str, Any]) -> dict[str, Any]:
    """One case: memory of the model alone, then its times against float32."""
    import numpy as np
    from _gpu_networks import inputs

    from quant.latency import compare_latency, statistics
    from quant.runtime import open_session

    folder, device, batch = Path(case["folder"]), case["device"], case["batch"]
    float32, file = (folder / f"{case['model']}.{kind}.onnx" for kind in ("float32", case["precision"]))
    before = used_mib()
    session = open_session(file, device=device, threads=case["threads"])
    feeds = inputs(session.input_names, session.input_shapes, batch)
    session.run(feeds[0])  # TensorRT builds its engine for these sizes, and takes the time
    bound = session.bound(feeds)
    for index in range(2 * len(feeds)):
        bound(index)
    after = used_mib()  # the provider's allocator gives nothing back: this is the peak
    transfers = bound.transfers()
    del bound
    reference = open_session(float32, device=device, threads=case["threads"])
    found = compare_latency(reference, session, inputs=feeds, seconds=case["seconds"])
    samples = found.b.samples
    low, high = statistics.median_interval(samples)
    return {
        "latency_ms": 1e3 * float(np.median(samples)),
        "latency_interval_ms": [1e3 * low, 1e3 * high],
        "throughput_per_s": batch / float(np.median(samples)),
        "percentiles_ms": found.b.percentiles_ms,
        "float32_ms": found.a_ms,
        "speedup": found.speedup,
        "speedup_interval": list(found.interval),
        "verdict": found.verdict,
        "noise_floor": found.noise_floor.fraction,
        "pairs": found.pairs,
        "transfers": transfers.to_dict(),
        "nodes": session.assignment.nodes if session.assignment else None,
        "placement": session.assignment.summary() if session.assignment else None,
        "engine": session.engine.to_dict() if session.engine else None,
        "gpu_memory_mib": after - before if before is not None and after is not None else None,
        "io_binding": found.settings["io_binding"],
        "warnings": list(found.warnings),
    }


def run_one(case: dict[str, Any]) -> dict[str, Any]:
    """What a child process does: write a network's files, or measure one case."""
    if "precision" in case:
        return measured(case)
    from _gpu_networks import write_files

    return {"file_bytes": write_files(case["model"], Path(case["folder"]))}


def run_all(options: argparse.Namespace, folder: str) -> dict[str, Any]:
    """All cases of all networks; one that fails is a result with its error."""
    record: dict[str, Any] = {}
    for model in options.models:
        shared = {"model": model, "folder": folder}
        entry = record[model] = run_case(__file__, shared, TIMEOUT)
        entry["cases"] = []
        for batch in options.batches if "error" not in entry else ():
            for precision in options.precisions:
                settings = {"device": options.device, "threads": options.threads, "seconds": options.seconds}
                case = {"batch": batch, "precision": precision}
                found = run_case(__file__, {**shared, **settings, **case}, TIMEOUT)
                entry["cases"].append({**case, **found})
                shown = found.get("error") or f"{found['latency_ms']:.3f} ms, {found['speedup']:.2f}x float32"
                print(f"{model} batch {batch} {precision}: {shown}", file=sys.stderr)
    return record


def report(record: dict[str, Any], device: str) -> str:
    """The figures as a table, and what failed."""
    headers = (
        *("network", "batch", "precision", "ms", "95 % interval", "per second", "over float32", "95 % interval"),
        *("to device ms", "to host ms", "memory MiB", "nodes"),
    )
    rows, failures = [], []
    for model, entry in record.items():
        if "error" in entry:
            failures.append(f"* {model}: {entry['error']}")
        for case in entry["cases"]:
            name = (model, case["batch"], case["precision"])
            if "error" in case:
                failures.append(f"* {model}, batch {case['batch']}, {case['precision']}: {case['error']}")
                continue
            low, high = case["latency_interval_ms"]
            slow, fast = case["speedup_interval"]
            copies = case["transfers"]
            rows.append(
                (
                    *name,
                    f"{case['latency_ms']:.3f}",
                    f"{low:.3f} - {high:.3f}",
                    f"{case['throughput_per_s']:.0f}",
                    case["speedup"],
                    f"{slow:.2f} - {fast:.2f}",
                    f"{copies['host_to_device_ms']:.3f}",
                    f"{copies['device_to_host_ms']:.3f}",
                    case["gpu_memory_mib"],
                    case["placement"],
                )
            )
    where = "plain runs" if device == "cpu" else "inputs and outputs stay on the device, and copies are timed apart"
    text = f"Device: {device}; {where}.\n\n"
    return text + table(headers, rows) + ("\n\nFailed:\n\n" + "\n".join(failures) if failures else "")


def missing(device: str) -> str | None:
    """What the device lacks, in a sentence or two; None where it works."""
    from profiler.errors import UnavailableError
    from quant.assignment import short
    from quant.devices import DEVICES
    from quant.installation import provider_state

    try:
        state = provider_state(DEVICES[device][0])
    except UnavailableError as error:
        return str(error)
    return None if state.loads else f"{short(state.name)} does not load: {state.reason}\n{state.remedy}"


def options_from(arguments: Sequence[str] | None) -> argparse.Namespace:
    from _gpu_networks import NETWORKS, PRECISIONS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "tensorrt", "cpu"), default="cuda")
    parser.add_argument("--models", nargs="+", choices=tuple(NETWORKS), default=[n for n in NETWORKS if n != "tiny"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--seconds", type=float, default=10.0, help="most time for the pairs of one case")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["--case"]:
        print(json.dumps(run_one(json.loads(given[1]))))
        return 0
    options = options_from(given)
    if reason := missing(options.device):
        print(f"benchmarks/gpu.py: {reason}", file=sys.stderr)
        return 4
    with tempfile.TemporaryDirectory(prefix="netgauge-gpu-") as folder:
        record = run_all(options, folder)
    name = "gpu" if options.device == "cuda" else f"gpu_{options.device}"
    whole = {"device": options.device, "gpu": gpu_described(), "networks": record}
    text = report(record, options.device)
    print(text)
    path = write_results(options.output, name, whole, text, PACKAGES)
    print(f"wrote {path}")
    failed = [case for entry in record.values() for case in (entry, *entry["cases"]) if "error" in case]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
