"""`quantize()`: the stages in order. It reads like the table of contents.

open and export -> prepare -> hold samples back -> calibrate -> place by measurement -> refine -> time -> evaluate
-> explain -> float16
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from profiler.errors import UsageError
from profiler.files import check_writable, write_whole
from profiler.progress import Progress, silent
from profiler.sources.limits import DEFAULT, Limits
from quant.calibrate import observe
from quant.correct.weights import mse_scale
from quant.data import Options, open_data
from quant.explain import explain, layer_of
from quant.float16 import half_arm
from quant.graph import prepare, to_bytes, without_traces
from quant.inference import feeds, first_output
from quant.judge import Judge
from quant.latency.nodes import SESSIONS
from quant.latency.per_layer import SECONDS, LayerComparison, compare_layers, layer_times
from quant.latency.shares import time_shares
from quant.latency.whole import Timing
from quant.machine import describe
from quant.metrics.registry import find
from quant.place import cpu
from quant.place.lower import lower
from quant.reference import float_reference
from quant.result import NodeRow, Quantization, beside
from quant.run import Run
from quant.runtime import check_device
from quant.select import Bench, Candidate, ranking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import onnx_ir as ir

    from quant.affine import Range
    from quant.data import Samples
    from quant.latency.result import LatencyComparison
    from quant.place.plan import Plan
    from quant.runtime import RuntimeSession

TARGETS = {"cpu": cpu.candidates}
HELD_BACK = 0.25
MOST_HELD_BACK = 100
TIMED_INPUTS = 16
SCREENING_SECONDS = 1.5
SHARE_SECONDS, SHARE_SESSIONS = 0.5, 2  # for the part of the time that a node takes, where no more is asked for
FLOAT = "float"
_NOT_FASTER = "int8 was timed and is not faster on this machine"
_NO_KERNEL = "nothing in the graph has an int8 kernel"


def quantize(  # noqa: PLR0913  # the contract's signature
    model: Any,  # noqa: ANN401  # whatever float_reference takes
    calibration: Any,  # noqa: ANN401  # whatever open_data takes
    evaluation: Any = None,  # noqa: ANN401  # as above
    output: str | Path | None = None,
    *,
    target: str = "cpu",
    metrics: Sequence[str] | None = None,
    max_drop: float | None = None,
    options: Options | None = None,
    weights: str | Path | None = None,
    kwargs: Mapping[str, Any] | None = None,
    device: str = "cpu",
    threads: int = 1,
    seed: int = 0,
    seconds: float = 20.0,
    layers: bool = False,
    timing: Timing = Timing(),  # noqa: B008  # frozen
    fp16: bool | None = None,
    trust: bool = False,
    limits: Limits = DEFAULT,
    progress: Progress = silent,
) -> Quantization:
    """Make an int8 model for ONNX Runtime, and measure what it cost in accuracy and won in latency.

    Args:
        model: a module, an ONNX graph, or anything that `profiler.open_model` opens.
        calibration: samples to find ranges on; labels are not used. Whatever `quant.open_data` takes. A quarter of
            them, at most 100, is held back to choose between placements.
        evaluation: labelled samples to measure the drop on; None reports fidelity to float on the samples held back.
        output: where to write the int8 model; the float model is written beside it as `NAME.float.onnx`.
        target: what the file is made for: "cpu".
        metrics: NAME[:PARAMETER=VALUE]... of `quant.metrics.METRICS`; the task's default set where None.
        max_drop: the most accuracy to lose. Placements are tried, fastest first, until the interval of the drop lies
            below it. Where none does, the fastest is kept and `budget` of the result is False.
        options: how data are read and pictures prepared, from `quant.data.data_options`; the same for all data.
        weights: a state dict for a factory or a named model.
        kwargs: arguments for a factory or a named model.
        device: where to run both models: "cpu", "cuda" or "tensorrt".
        threads: that one operator may use.
        seed: of splits and resampling.
        seconds: most time for the final timing.
        layers: whether to time every layer of both models, beside what this machine can do at most.
        timing: what the final timing measures beside the latency: cold start, memory, batch sizes; and on which cores.
        fp16: make a float16 file of the float model too, and measure it beside int8; None does so on GPUs.
        trust: let code in the file run, in this process, and take files of tensors that have several names.
        limits: how much the file may ask for, as for `profiler.open_model`.
        progress: called with the stage and the part of it that is done.

    Returns:
        Metrics, latency, nodes, file sizes and the model. Where int8 does not pay on this machine `model` is the float
        one, `placement` is "float", and the nodes say why.

    Raises:
        UsageError: an unknown target, metric or device, or an output that cannot be written.
        UnavailableError: the device cannot be used here.
        ModelError: the model cannot be opened, exported or quantized.
        DataError: the data cannot be read or does not fit the model.
        RefusedError: opening the model would run code, read what does not belong to it, or ask for too much.
    """
    if target not in TARGETS:
        raise UsageError(f"no target {target!r}; there is {', '.join(TARGETS)}")
    for name in metrics or ():
        find(name)  # a misspelt name is said before anything is done
    destination = check_writable(output) if output is not None else None
    check_device(device)
    run = Run(device, threads, seed, progress)
    how = replace(options or Options(), model=model, trust=trust, limits=limits, progress=progress)
    samples = open_data(calibration, split="calibration", options=how)
    labelled = open_data(evaluation, split="evaluation", options=how) if evaluation is not None else None

    with run.stage("export", "brought the model to ONNX and cleaned the graph") as stage:
        reference = float_reference(model, samples, weights=weights, kwargs=kwargs, trust=trust, limits=limits)
        original = prepare(reference.model)
        stage.details = {"nodes": sum(1 for _ in original.graph)}
    float_file = to_bytes(without_traces(original))
    calibrating, held_back, notes = _held_back(samples, seed)
    bench = _bench(run.opened(float_file), held_back, run)
    judge = Judge(bench, labelled or held_back, labelled=labelled is not None, metrics=metrics)
    judge.check()  # what does not fit is said before minutes are spent on measuring

    graph = lower(original)
    plans = {name: plan for name, plan in TARGETS[target](graph.graph).items() if plan.matrices}
    ranked = _placed(graph, calibrating, bench, plans, min(SCREENING_SECONDS, seconds))
    within = [c for c in ranked if judge.within(c, max_drop)]
    chosen, latency = _settled(within or ranked, bench, float_file, seconds, timing)
    int8_file = chosen.file if chosen else float_file
    with run.stage("evaluate", f"ran both models on {len(judge.samples)} samples"):
        comparison = judge.compared(int8_file)
    with run.stage("explain", "looked at the graph that ONNX Runtime makes of the file"):
        rows = _rows(graph, chosen, ranked) if chosen else _float_rows(original, ranked)
    half, unavailable = half_arm(original, calibrating, bench, judge, seconds, fp16=fp16)
    timed = _timed_layers(float_file, int8_file, bench, seconds, both=layers) if device == "cpu" else None
    if chosen and timed:
        found = time_shares(graph.graph, timed.b.nodes)
        rows = tuple(replace(r, time_share=found.get(n)) for r, n in zip(rows, graph.graph, strict=True))
    written = _written(destination, int8_file, float_file)
    return Quantization(
        metrics=comparison.metrics,
        comparison=comparison,
        latency=latency,
        nodes=rows,
        file_bytes={"float": len(float_file), "int8": len(int8_file)},
        stages=tuple(run.stages),
        placement=chosen.plan.name if chosen else FLOAT,
        budget=None if max_drop is None else chosen is None or chosen in within,
        output=written[0],
        reference=written[1],
        model=int8_file,
        notes=(*reference.notes, *notes, *_remarks(samples, labelled), *unavailable),
        environment={**describe().to_dict(), "seed": seed},
        layers=timed if layers else None,
        float16=half.written(destination) if half else None,
    )


def _remarks(samples: Samples, labelled: Samples | None) -> tuple[str, ...]:
    """What was taken for granted about the data, and what of them was skipped, each said once."""
    return tuple(dict.fromkeys((*samples.remarks(), *(labelled.remarks() if labelled else ()))))


def _held_back(samples: Samples, seed: int) -> tuple[Samples, Samples, list[str]]:
    """Samples to calibrate on and others to judge on; of fewer than four all serve for both, which is said."""
    count = min(MOST_HELD_BACK, int(len(samples) * HELD_BACK))
    if count:
        return *samples.split(count, seed), []
    note = f"only {len(samples)} calibration samples: none could be held back, and closeness to float looks too good"
    return samples, samples, [note]


def _bench(session: RuntimeSession, held_back: Samples, run: Run) -> Bench:
    few = held_back.take(range(min(TIMED_INPUTS, len(held_back))))
    timed = [feed for feed, _ in feeds(session, few, batch=1)]
    outputs = first_output(session, held_back, stage="running float", progress=run.progress)
    return Bench(session, outputs, held_back, timed, run)


def _placed(
    graph: ir.Model, calibrating: Samples, bench: Bench, plans: Mapping[str, Plan], screening: float
) -> list[Candidate]:
    """The placements as quantized models, the one to take first in front and refined."""
    run = bench.run
    if not plans:
        with run.stage("place", "found nothing in the graph that has an int8 kernel") as stage:
            stage.kept = False
        return []
    tensors = tuple(dict.fromkeys(name for plan in plans.values() for name in plan.observed))
    with run.stage("calibrate", f"found the ranges of {len(tensors)} tensors on {len(calibrating)} samples"):
        ranges = observe(graph, _batches(bench.reference, calibrating, run), tensors, threads=run.threads)
    measured = []
    for plan in plans.values():
        with run.stage(f"place: {plan.name}", "quantized by this placement and timed it") as stage:
            candidate = bench.timed(bench.built(plan, graph, ranges), screening)
            measured.append(candidate)
            stage.details = candidate.summary()
    ranked = ranking(measured)
    kept = f"place: {ranked[0].plan.name}"
    run.stages = [replace(s, kept=s.name == kept) if s.name.startswith("place: ") else s for s in run.stages]
    return [_refined(ranked[0], graph, ranges, bench), *ranked[1:]]


def _batches(session: RuntimeSession, samples: Samples, run: Run) -> Callable[[], Iterator[dict[str, np.ndarray]]]:
    def batches() -> Iterator[dict[str, np.ndarray]]:
        done = 0
        for feed, count in feeds(session, samples):
            yield feed
            done += count
            run.progress("calibrate", done / len(samples))

    return batches


def _refined(best: Candidate, graph: ir.Model, ranges: Mapping[str, Range], bench: Bench) -> Candidate:
    """Search the weights' scales; kept only where it brings the outputs closer, on the samples held back."""
    with bench.run.stage("weights", "searched the scale of each channel for the least squared error") as stage:
        tried = bench.built(best.plan, graph, ranges, mse_scale)
        stage.kept = tried.error < best.error
        stage.details = {"error_before": best.error, "error_after": tried.error}
    return replace(tried, latency=best.latency) if stage.kept else best


def _settled(
    ranked: Sequence[Candidate], bench: Bench, float_file: bytes, seconds: float, timing: Timing
) -> tuple[Candidate | None, LatencyComparison]:
    """The first placement that is not slower than float, timed at length; None and float itself where there is none."""
    for candidate in ranked:
        if candidate.latency is None or _slower(candidate.latency):
            continue
        with bench.run.stage("time", f"timed the placement {candidate.plan.name} against float") as stage:
            latency = bench.at_length(float_file, candidate.file, seconds, timing)
            stage.kept = not _slower(latency)
        if stage.kept:
            return candidate, latency
    with bench.run.stage("time", "timed float against itself: no placement is faster here"):
        return None, bench.at_length(float_file, float_file, seconds, timing)


def _slower(latency: LatencyComparison) -> bool:
    """Whether a file should not be handed out: slower, or not shown to differ and slower by the estimate."""
    return latency.verdict == "slower" or (latency.verdict != "faster" and latency.speedup < 1)


def _timed_layers(float_file: bytes, int8_file: bytes, bench: Bench, seconds: float, *, both: bool) -> LayerComparison:
    """Time per layer: of both models beside the machine's ceilings, or, for shares alone, of the int8 model."""
    run = bench.run
    with run.stage("layers", "timed every layer, in runs that record it"):
        if both and int8_file != float_file:
            longest = min(SECONDS, seconds)
            return compare_layers(
                float_file, int8_file, bench.feeds, threads=run.threads, seconds=longest, progress=run.progress
            )
        longest, sessions = (SECONDS, SESSIONS) if both else (SHARE_SECONDS, SHARE_SESSIONS)
        shortened: dict[str, Any] = {"seconds": min(longest, seconds), "sessions": sessions, "ceilings": both}
        times = layer_times(int8_file, bench.feeds, threads=run.threads, **shortened, progress=run.progress)
        return LayerComparison(times, times)


def _rows(graph: ir.Model, chosen: Candidate, ranked: Sequence[Candidate]) -> tuple[NodeRow, ...]:
    """What became of every node."""
    rows = explain(graph, chosen.plan, chosen.graph).rows
    measured = _against_full(chosen, ranked)
    return tuple(replace(row, reason=row.reason + measured) if _left_out(row) else row for row in rows)


def _float_rows(original: ir.Model, ranked: Sequence[Candidate]) -> tuple[NodeRow, ...]:
    """Why every node stayed float where the whole model did."""
    full = next((c.plan for c in ranked if c.plan.name == cpu.FULL), None)
    reasons = {name: d.reason for name, d in full.nodes.items() if d.kernel == "float"} if full else {}
    best = max((c.speedup for c in ranked), default=0.0)
    timed = f"{_NOT_FASTER}: the best placement ran at {best:.2f}x float's speed" if ranked else _NO_KERNEL
    return tuple(
        NodeRow(node.name or "", node.op_type, layer_of(node), "float", reasons.get(node.name or "", timed))
        for node in original.graph
    )


def _left_out(row: NodeRow) -> bool:
    return row.kernel == "float" and row.reason.startswith(cpu.LEFT_FLOAT)


def _against_full(chosen: Candidate, ranked: Sequence[Candidate]) -> str:
    """What leaving nodes float was measured to bring, against the placement that leaves none."""
    full = next((c for c in ranked if c.plan.name == cpu.FULL), None)
    if full is None or full.plan is chosen.plan:
        return ""
    with_it, without = (f"{c.speedup:.2f}x float's speed, {c.sqnr_db:.1f} dB" for c in (chosen, full))
    return f", which was measured: {with_it} against {without} with every rule applied"


def _written(destination: Path | None, int8_file: bytes, float_file: bytes) -> tuple[Path | None, Path | None]:
    """Write the int8 model, and the float one it was compared with beside it."""
    if destination is None:
        return None, None
    return write_whole(destination, int8_file), write_whole(beside(destination, FLOAT), float_file)
