"""`netgauge quantize`, `compare` and `doctor`: they parse, call and print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from profiler import settings
from profiler.trusted.options import trusting
from quant.latency.options import timing_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from quant.latency.whole import Timing

_DATA = (
    "an .npz or .npy, a folder of pictures by class, a .csv of paths and labels, COCO's .json, a built-in set (digits, "
    "digits-ink) or FILE.py:function"
)
_PICTURES = ("preprocess", "classes", "images", "strict")


def _shared(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Options that several commands have."""
    table: dict[str, Any] = {
        "metric": click.option(
            "--metric",
            "metrics",
            multiple=True,
            metavar="NAME[:PARAM=VALUE]",
            help="Metric to report, the primary one first; repeat.",
        ),
        "device": click.option(
            "--device", type=click.Choice(("cpu", "cuda", "tensorrt")), default="cpu", show_default=True
        ),
        "threads": click.option("--threads", type=click.IntRange(1), default=1, show_default=True),
        "seed": click.option("--seed", type=int, default=0, show_default=True),
        "seconds": click.option(
            "--seconds", type=click.FloatRange(0.1), default=20.0, show_default=True, help="Most time for the timing."
        ),
        "layers": click.option("--layers", is_flag=True, help="Time every layer too, beside what this machine can do."),
        "links": click.option(
            "--trust",
            is_flag=True,
            help="Read tensors from files with several names (hard links); follow paths out of a folder of data.",
        ),
        "limit": click.option(
            "--limit", "limits", multiple=True, metavar="NAME=N", help="Raise what a file may ask for; repeat."
        ),
        "preprocess": click.option(
            "--preprocess",
            multiple=True,
            metavar="KEY=VALUE",
            help="How pictures are prepared, such as resize=256 crop=224; or FILE.json, timm:NAME, hf:FOLDER. Repeat.",
        ),
        "classes": click.option(
            "--classes", metavar="FILE", help="Names of the classes, a line each, the first for 0."
        ),
        "images": click.option("--images", metavar="FOLDER", help="Where the paths in a CSV or COCO file begin."),
        "strict": click.option("--strict", is_flag=True, help="Stop at a picture that cannot be read; else skip it."),
        "format": click.option(
            "--format", "style", type=click.Choice(("text", "json")), default="text", show_default=True
        ),
        "report": click.option("--report", metavar="OUT.json", help="Where to write the report as JSON."),
    }

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for name in reversed(names):
            command = table[name](command)
        return command

    return decorate


@click.command()
@click.argument("target", required=False)
@click.option("--weights", metavar="FILE", help="State dict for a FILE.py:factory or a named model.")
@settings.option
@click.option("--calibration", metavar="DATA", help=f"Samples to find ranges on: {_DATA}.")
@click.option("--data", metavar="DATA", help="Labelled samples to measure accuracy on; same forms.")
@click.option("--output", metavar="OUT.onnx", help="Where to write the int8 model.")
@click.option("--target", "runtime", type=click.Choice(("auto", "cpu")), default="auto", show_default=True)
@click.option("--max-drop", type=click.FloatRange(0.0), help="Most accuracy to lose; exit code 1 where more is lost.")
@click.option(
    "--fp16/--no-fp16", default=None, help="Measure float16 beside int8; it is done on GPUs unless told otherwise."
)
@_shared("format", "metric", *_PICTURES, "report", "device", "threads", "seed", "seconds", "layers")
@timing_options
@trusting
@click.pass_context
def quantize(  # noqa: PLR0913  # one parameter per option
    context: click.Context,
    /,
    *,
    target: str | None,
    weights: str | None,
    kwargs: dict[str, Any],
    calibration: str | None,
    data: str | None,
    output: str | None,
    runtime: str,
    max_drop: float | None,
    fp16: bool | None,
    style: str,
    metrics: tuple[str, ...],
    report: str | None,
    device: str,
    threads: int,
    seed: int,
    seconds: float,
    layers: bool,
    timing: Timing,
    trust: bool,
    limits: tuple[str, ...],
    **pictures: Any,  # noqa: ANN401  # the options of _PICTURES
) -> None:
    """Make an int8 file of TARGET for ONNX Runtime, and measure what it cost in accuracy and won in latency.

    TARGET is an .onnx file, a .pt with a module of stock classes, FILE.py:factory, package.module:factory, or a name:
    timm:NAME, torchvision:NAME, hf:NAME or hf:FOLDER. Without TARGET, in a checkout, the reference network
    models/digits_mobile.py is taken with its data.
    """
    from profiler.files import check_writable, write_whole
    from profiler.progress import shown
    from profiler.sources import Limits, is_factory
    from quant.data import data_options
    from quant.pipeline import quantize as run
    from quant.report import json_text, quantization_text

    if target is None:
        target, weights, calibration, data = _reference_network(context)
    elif calibration is None:
        raise click.UsageError(f"--calibration is needed: samples of the model's input, as {_DATA}")
    # A name may hold slashes, as those of the hub do.
    stem = Path(target.rpartition(":")[2]).name if is_factory(target) else Path(target).stem
    output = output or f"{stem}.int8.onnx"
    report = report or str(Path(output).with_suffix("").with_suffix(".quantization.json"))
    for path in (output, report):
        check_writable(path)
    with shown() as progress:
        result = run(
            target,
            calibration,
            data,
            output,
            weights=weights,
            kwargs=kwargs,
            target="cpu" if runtime == "auto" else runtime,
            metrics=metrics or None,
            options=data_options(**pictures),
            max_drop=max_drop,
            device=device,
            threads=threads,
            seed=seed,
            seconds=seconds,
            layers=layers,
            timing=timing,
            fp16=fp16,
            trust=trust,
            limits=Limits().raised(limits),
            progress=progress,
        )
    text = json_text(result)
    click.echo(text if style == "json" else quantization_text(result))
    click.echo(f"wrote {write_whole(report, text)}", err=style == "json")
    if result.budget is False:
        context.exit(1)


def _reference_network(context: click.Context) -> tuple[str, str, str, str]:
    root = (context.find_root().obj or {}).get("checkout")
    if root is None:
        raise click.UsageError(
            "name the model to quantize, and samples of its input: netgauge quantize model.onnx --calibration data.npz"
        )
    folder = root / "models"
    return f"{folder / 'digits_mobile.py'}:digits_mobile", str(folder / "digits_mobile.safetensors"), "digits", "digits"


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--data", metavar="DATA", help=f"Labelled samples: {_DATA}.")
@_shared("format", "metric", *_PICTURES, "report", "device", "threads", "seed", "seconds", "layers", "links", "limit")
@timing_options
def compare(  # noqa: PLR0913  # one parameter per option
    *,
    a: str,
    b: str,
    data: str | None,
    style: str,
    metrics: tuple[str, ...],
    report: str | None,
    device: str,
    threads: int,
    seed: int,
    seconds: float,
    layers: bool,
    timing: Timing,
    trust: bool,
    limits: tuple[str, ...],
    **pictures: Any,  # noqa: ANN401  # the options of _PICTURES
) -> None:
    """Accuracy and latency of two ONNX files, A and B, on the same samples; verdicts speak of B against A."""
    from profiler.files import check_writable, write_whole
    from profiler.progress import shown
    from profiler.sources import Limits
    from quant.comparing import compare as run
    from quant.data import data_options
    from quant.report import comparison_text, json_text

    if data is None and any(pictures.values()):
        raise click.UsageError("--preprocess, --classes, --images and --strict are about --data, which is not given")
    if report:
        check_writable(report)
    with shown() as progress:
        result = run(
            a,
            b,
            data,
            metrics=metrics or None,
            options=data_options(**pictures),
            device=device,
            threads=threads,
            seed=seed,
            seconds=seconds,
            layers=layers,
            timing=timing,
            trust=trust,
            limits=Limits().raised(limits),
            progress=progress,
        )
    click.echo(json_text(result) if style == "json" else comparison_text(result, (a, b)))
    if report:
        click.echo(f"wrote {write_whole(report, json_text(result))}", err=style == "json")


@click.command()
@_shared("format")
def doctor(style: str) -> None:
    """What this machine can do for int8: instructions, ONNX Runtime providers that load, versions."""
    from quant.machine import doctor as run
    from quant.report import diagnosis_text, json_text

    diagnosis = run()
    click.echo(json_text(diagnosis) if style == "json" else diagnosis_text(diagnosis))
