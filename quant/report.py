"""Views of results: text for a terminal, and JSON. They show; they never compute."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from tabulate import tabulate

from profiler.escaping import printable
from profiler.report import units
from quant.latency.lines import latency_lines
from quant.layer_report import layer_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from quant.machine import Diagnosis
    from quant.metrics import Comparison, MetricResult
    from quant.result import Float16, ModelComparison, NodeRow, Quantization

MOST_REASONS = 6
_KEPT = "budget: kept, the interval of the drop lies below it"
_FLOAT_KEPT = "budget: kept, the result is the float model itself"
_MISSED = (
    "budget: MISSED, the interval of the drop reaches beyond it; more samples narrow it, if the drop itself is small"
)


class _Result(Protocol):
    def to_dict(self) -> dict[str, Any]: ...


def json_text(result: _Result) -> str:
    """A result as JSON; infinite and undefined numbers become null, which JSON lacks words for."""
    return json.dumps(_plain(result.to_dict()), indent=2, allow_nan=False)


def _plain(value: Any) -> Any:  # noqa: ANN401  # any JSON value
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):  # noqa: PLR0124  # NaN
        return None
    return value


def quantization_text(result: Quantization) -> str:
    """What int8 cost and won, and what stayed float and why."""
    lines = [*metric_lines(result.comparison, ("float", "int8")), ""]
    before, after = result.file_bytes["float"], result.file_bytes["int8"]
    lines.append(f"file      {units.size_of(before)} -> {units.size_of(after)} ({before / after:.2f}x smaller)")
    lines += latency_lines(result.latency, ("float", "int8"))
    lines += ["", *node_lines(result.nodes, result.placement), ""]
    if result.layers is not None:
        lines += [*layer_lines(result.layers, ("float", "int8")), ""]
    if result.float16 is not None:
        lines += [*float16_lines(result.float16), ""]
    lines += [f"note: {note}" for note in result.notes]
    if result.budget is not None:
        kept = _FLOAT_KEPT if result.placement == "float" else _KEPT
        lines.append(kept if result.budget else _MISSED)
    for path in (result.output, result.reference, result.float16.output if result.float16 else None):
        if path is not None:
            lines.append(f"wrote {path}")
    return _text(lines)


def comparison_text(result: ModelComparison, names: tuple[str, str]) -> str:
    """Two models side by side."""
    lines = [f"a: {names[0]}", f"b: {names[1]}", ""]
    if result.comparison is not None:
        lines += [*metric_lines(result.comparison, ("a", "b")), ""]
    lines += latency_lines(result.latency, ("a", "b"))
    if result.layers is not None:
        lines += ["", *layer_lines(result.layers, ("a", "b"))]
    return _text(lines)


def _text(lines: Iterable[str]) -> str:
    """Lines with names from a file in them, made harmless."""
    return "\n".join(map(printable, lines))


def metric_lines(comparison: Comparison, names: tuple[str, str]) -> list[str]:
    """The table of metrics, the confusion matrices, and what was assumed."""
    headers = ("metric", *names, "drop", "95% interval of the drop", "verdict", "n", "detectable")
    rows = [_metric_row(metric) for metric in comparison.metrics.values()]
    table = tabulate(rows, headers, tablefmt="simple", disable_numparse=True, colalign=_metric_alignment(headers))
    lines = table.splitlines()
    matrices = comparison.confusion
    if matrices is not None and len(matrices[0]) <= 20:
        lines += ["", f"confusion matrix, rows: truth, columns: prediction; {names[0]} left, {names[1]} right"]
        lines += _side_by_side(*matrices)
    lines += (
        [_detectable_line(comparison)] if any(m.detectable is not None for m in comparison.metrics.values()) else []
    )
    lines += [f"{m.name}: McNemar's exact p = {m.p:.3g}" for m in comparison.metrics.values() if m.p is not None]
    return [*lines, *(f"note: {note}" for note in comparison.notes)]


def _detectable_line(comparison: Comparison) -> str:
    first = next(m for m in comparison.metrics.values() if m.detectable is not None)
    return f"detectable: the smallest drop that so many could show; {first.detectable:.4f} with {first.n} {first.unit}s"


def _metric_alignment(headers: Sequence[str]) -> tuple[str, ...]:
    return tuple("left" if h in ("metric", "verdict") else "right" for h in headers)


def _metric_row(metric: MetricResult) -> tuple[str, ...]:
    def number(value: float | None, *, sign: bool = False) -> str:
        return "" if value is None else f"{value:+.4f}" if sign else f"{value:.4f}"

    low, high = metric.interval if metric.interval is not None else (None, None)
    interval = "" if low is None else f"[{number(low, sign=True)}, {number(high, sign=True)}]"
    return (
        metric.name,
        number(metric.float),
        number(metric.int8),
        number(metric.drop, sign=True),
        interval,
        f"{metric.verdict} at {metric.n} {metric.unit}s" if metric.verdict == "cannot tell" else metric.verdict,
        str(metric.n),
        number(metric.detectable),
    )


def _side_by_side(first: Any, second: Any) -> list[str]:  # noqa: ANN401  # two square arrays of counts
    width = max(len(str(int(first.max()))), len(str(int(second.max())))) + 1
    return [
        "  " + "".join(f"{int(n):>{width}}" for n in left) + "    |" + "".join(f"{int(n):>{width}}" for n in right)
        for left, right in zip(first, second, strict=True)
    ]


def float16_lines(half: Float16) -> list[str]:
    """The float model in float16, as int8 is shown above it."""
    names = ("float", "float16")
    kept = f", {len(half.kept)} nodes stay float32: their values would overflow" if half.kept else ""
    return [
        f"float16   file {units.size_of(half.file_bytes)}{kept}",
        *metric_lines(replace(half.comparison, confusion=None), names),
        *latency_lines(half.latency, names),
    ]


def node_lines(nodes: Iterable[NodeRow], placement: str) -> list[str]:
    """How many nodes run as int8, and why the others do not."""
    nodes = list(nodes)
    kernels = Counter(row.kernel for row in nodes)
    lines = [f"nodes     {kernels['int8']} int8, {kernels['float']} float; placement: {placement}"]
    floats = [row for row in nodes if row.kernel != "int8"]
    groups: dict[tuple[str, str], list[NodeRow]] = {}
    for row in floats:
        groups.setdefault((row.op, row.reason), []).append(row)
    ordered = sorted(groups.items(), key=lambda item: -_share(item[1]))
    for (op, reason), rows in ordered[:MOST_REASONS]:
        layers = list(dict.fromkeys(r.layer or r.name for r in rows))
        more = f" and {len(layers) - 3} more" if len(layers) > 3 else ""
        share = f", {_share(rows):.0%} of the time" if _share(rows) >= 0.005 else ""
        lines.append(f"  float: {op} x{len(rows)} in {', '.join(layers[:3])}{more}{share}: {reason}")
    if len(groups) > MOST_REASONS:
        lines.append(f"  ... and {len(groups) - MOST_REASONS} more reasons; the JSON report lists every node")
    return lines


def _share(rows: Sequence[NodeRow]) -> float:
    return sum(row.time_share or 0.0 for row in rows)


def diagnosis_text(diagnosis: Diagnosis) -> str:
    """What this machine can do for int8."""
    machine = diagnosis.machine
    lines = [f"{machine.cpu.model}, {machine.os}", "", "int8 instructions"]
    lines += [f"  {'yes' if p.present else 'no ':3}  {p.name}: {p.meaning}" for p in diagnosis.int8_paths]
    lines += [f"  {diagnosis.advice}", "", "ONNX Runtime providers"]
    lines += [f"  {_state(p)}" for p in diagnosis.providers] or ["  none"]
    lines += ["", "versions", *_versions(machine.versions)]
    lines += [f"problem: {problem}" for problem in diagnosis.problems]
    lines += [f"warning: {warning}" for warning in machine.warnings()]
    return "\n".join(lines)


def _state(provider: Any) -> str:  # noqa: ANN401  # quant.providers.ProviderState
    if provider.loads:
        return f"{provider.name}: loads"
    remedy = f" {provider.remedy}" if provider.remedy else ""
    return f"{provider.name}: does not load: {provider.reason}.{remedy}"


def _versions(versions: Mapping[str, str | None]) -> list[str]:
    return [f"  {name} {version or 'not installed'}" for name, version in versions.items()]
