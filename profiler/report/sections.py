"""What stands below the rows, in sentences: totals, memory, what was not counted, how other counters compare."""

import textwrap
from collections.abc import Iterable, Sequence

import click

from profiler.profile import Profile
from profiler.report import units
from profiler.report.options import Options

# A line that a reader must not miss begins with one of these.
ALARMS = ("NOT COUNTED", "UNEXPLAINED")


def summary_lines(profile: Profile) -> list[str]:
    """Totals, memory, and what was not counted."""
    t = profile.totals
    trains = t.trainable_params or profile.subject is not None  # a graph trains nothing
    trainable = f"{t.trainable_params:,} trainable, " if trains else ""
    stored = f"{trainable}{units.size_of(t.param_bytes)}"
    bound = "at least " if profile.uncounted else ""
    moved = f"{units.size_of(t.read_bytes)} read, {units.size_of(t.write_bytes)} written"
    return [
        f"{bound}{t.macs:,} MACs, {t.flops:,} FLOPs, {t.params:,} parameters ({stored})",
        f"activations: {units.size_of(t.activation_bytes)} computed, {units.size_of(t.peak_bytes)} alive at most",
        f"memory traffic: {moved}, {t.intensity:.2f} FLOPs per byte",
        _uncounted(profile.uncounted.items()) or "every operator is counted, or free by convention",
    ]


def _uncounted(calls: Iterable[tuple[str, int]]) -> str:
    named = ", ".join(f"{units.printable(name)} ({_calls(n)})" for name, n in calls)
    return f"{ALARMS[0]}, no formula known: {named}" if named else ""


def _calls(number: int) -> str:
    return f"{number:,} call" + ("" if number == 1 else "s")


def backward_lines(profile: Profile) -> list[str]:
    """Totals of the backward pass and of the training step; none where it was not asked for."""
    back = profile.backward
    if back is None:
        return []
    t = profile.totals
    lines = [
        f"backward: {back.macs:,} MACs, {back.flops:,} FLOPs",
        f"training step, forward and backward: {t.macs + back.macs:,} MACs, {t.flops + back.flops:,} FLOPs",
        f"training step: {units.size_of(back.peak_bytes)} of activations and gradients alive at most",
    ]
    uncounted = _uncounted(back.uncounted.items())
    return [*lines, uncounted] if uncounted else lines


def crosscheck_lines(profile: Profile, peers: Sequence[str]) -> list[str]:
    """How each peer's figure follows from ours."""
    lines = []
    for peer in peers:
        check = profile.crosscheck(peer)
        if check.theirs is None:
            lines.append(f"{peer}: {check.status}: {units.printable(check.reason)}")
            continue
        unit = "" if check.unit == "MACs" else f" ({check.unit})"
        ours = f"netgauge {check.ours:,} MACs"
        lines.append(f"{peer} says {check.theirs:,}{unit}; {ours}; unexplained {check.unexplained:,}")
        lines += [f"  {term.amount:+,}  {term.reason} ({_calls(term.calls)})" for term in check.terms]
        lines += [
            f"  {ALARMS[1]} {row.unexplained:+,}  {units.printable(row.name or '.')} {row.op}: "
            f"{row.theirs:,}, rule {row.predicted:,}"
            for row in check.rows
            if row.unexplained
        ]
    return lines


def prose(lines: Iterable[str], options: Options) -> str:
    """Lines broken to fit the terminal, those that must not be missed in red."""
    text = []
    for line in lines:
        wrapped = _wrapped(line, options.width)
        alarm = options.color and line.strip().startswith(ALARMS)
        text += [click.style(part, fg="red", bold=True) if alarm else part for part in wrapped]
    return "\n".join(text)


def _wrapped(line: str, width: int | None) -> list[str]:
    if width is None or len(line) <= width:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.wrap(line, max(width, 20), subsequent_indent=indent, break_on_hyphens=False)
