"""A latency comparison as lines for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from profiler.report import units

if TYPE_CHECKING:
    from quant.latency.fresh import Fresh
    from quant.latency.result import Arm, LatencyComparison

_STOPPED = {"precision": "precise enough", "max_seconds": "the time limit"}
_COLD = (("import", "import_ms"), ("load", "load_ms"), ("first run", "first_ms"))


def latency_lines(latency: LatencyComparison, names: tuple[str, str]) -> list[str]:
    """Both medians, the speed-up with its interval and the noise floor, cold start, memory, batches, and warnings."""
    low, high = latency.interval
    settings = latency.settings
    how = f"{latency.pairs} interleaved pairs in {latency.sessions} session(s) of each, ended by {_stopped(latency)}"
    arms = zip(names, (latency.a, latency.b), strict=True)
    medians = ", ".join("{} {:.3f} ms [{:.3f}, {:.3f}]".format(n, a.median_ms, *a.median_interval_ms) for n, a in arms)
    floor = latency.noise_floor
    noise = f"no difference below {floor.fraction:.1%} is claimed"
    itself = "{} against itself [{:.3f}, {:.3f}] over {} pairs".format(names[0], *floor.interval, floor.pairs)
    lines = [
        f"latency   {medians} ({settings.get('device')}, {settings.get('threads')} thread(s))",
        f"          {how}",
        *(_sample_line(name, arm) for name, arm in zip(names, (latency.a, latency.b), strict=True)),
        f"noise     {itself}",
        f"speed-up  {latency.speedup:.3f} [{low:.3f}, {high:.3f}] {latency.verdict}; {noise}",
    ]
    lines += device_lines(latency, names)
    if latency.fresh is not None:
        lines += _fresh_lines(latency.fresh, names)
    if latency.batches:
        lines += ["", *_batch_lines(latency, names), ""]
    return [*lines, *(f"warning: {warning}" for warning in latency.warnings)]


def device_lines(latency: LatencyComparison, names: tuple[str, str]) -> list[str]:
    """Where a GPU's nodes ran, and what is not in its times; nothing for the CPU."""
    lines: list[str] = []
    measured: Any = latency.settings.get("on_device") or ()
    for name, found in zip(names, measured, strict=False):
        moved, engine = found["transfers"], found["engine"]
        copies = f"{moved['host_to_device_ms']:.3f} ms to the device, {moved['device_to_host_ms']:.3f} ms back"
        placement = f"{found['placement']}; " if found["placement"] else ""
        lines.append(f"device    {name}: {placement}copies {copies}, not in the latency")
        if engine is not None:
            first = engine["first_run_seconds"] or 0.0
            how = f"{engine['built']} built" if engine["built"] else "from the cache"
            lines.append(f"engine    {name}: {how}, opening {engine['opening_seconds']:.1f} s, first run {first:.1f} s")
    return lines


def _stopped(latency: LatencyComparison) -> str:
    return _STOPPED[latency.stopped_by]


def _sample_line(name: str, arm: Arm) -> str:
    """Percentiles as far as there are samples enough, the slowest sample, and how many lie far out."""
    percentiles = [f"p{percent:g} {value:.3f}" for percent, value in arm.percentiles_ms.items() if percent > 50]
    left_out = arm.percentiles_left_out
    percentiles += [f"p{percent:g} {why}" for percent, why in list(left_out.items())[:1] if arm.repeats == 1]
    slowest, when = arm.slowest
    far = f"slowest {slowest:.3f} ms after {when:.1f} s; {arm.outliers} outliers, none removed"
    return f"samples   {name}: " + ", ".join([*percentiles, far])


def _fresh_lines(fresh: tuple[Fresh, Fresh], names: tuple[str, str]) -> list[str]:
    lines = []
    for name, model in zip(names, fresh, strict=True):
        cold = model.cold()
        times = ", ".join(
            "{} {:.1f} ms [{:.1f}, {:.1f}]".format(what, *(cold[key][k] for k in ("median", "min", "max")))
            for what, key in _COLD
        )
        lines.append(f"cold      {name}: {times} ({cold['processes']} new processes, range)")
    for name, model in zip(names, fresh, strict=True):
        memory = model.memory()
        if memory is not None:
            sizes = [units.size_of(memory[key]) for key in ("peak_bytes", "load_bytes", "base_bytes")]
            lines.append(
                f"memory    {name}: peak {sizes[0]}, {sizes[1]} of it by loading; beside {sizes[2]} without it"
            )
    return lines


def _batch_lines(latency: LatencyComparison, names: tuple[str, str]) -> list[str]:
    first, second = names
    headers = (
        "batch",
        f"{first} ms",
        f"{second} ms",
        f"{first}/s",
        f"{second}/s",
        "speed-up",
        "95% interval",
        "verdict",
    )
    rows = []
    for row in latency.batches:
        found = row.latency
        if found is None:
            rows.append((row.batch, *[""] * 6, f"left out: {row.why}"))
            continue
        rates = [f"{rate:.1f}" for rate in row.per_second()]
        interval = f"[{found.interval[0]:.3f}, {found.interval[1]:.3f}]"
        speedup = f"{found.speedup:.3f}"
        rows.append((row.batch, f"{found.a_ms:.3f}", f"{found.b_ms:.3f}", *rates, speedup, interval, found.verdict))
    sides = (*("right",) * 7, "left")
    table = str(tabulate(rows, headers, tablefmt="simple", disable_numparse=True, colalign=sides))
    return table.splitlines()
