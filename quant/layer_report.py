"""The layers of two models as a table. It shows; it never computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tabulate import tabulate

if TYPE_CHECKING:
    from quant.latency.layers import LayerTime, LayerTimes
    from quant.latency.per_layer import LayerComparison

MOST_LAYERS = 10
_WIDEST = 40


def layer_lines(layers: LayerComparison, names: tuple[str, str]) -> list[str]:
    """The layers that take most time in either model, the ceilings, and how far the figures can be trusted."""
    rows = sorted(layers.rows, key=lambda row: -max((r.ms for r in row[1:] if r is not None), default=0.0))
    first, second = names
    headers = [
        *("layer", "MMAC", f"{first} ms", f"{second} ms", f"{first} GMAC/s", f"{second} GMAC/s"),
        *(f"{first} bound", f"{second} bound"),
    ]
    table = tabulate(
        [_cells(*row) for row in rows[:MOST_LAYERS]],
        headers,
        tablefmt="simple",
        disable_numparse=True,
        colalign=("left", *("right",) * 5, "left", "left"),
    )
    rest = rows[MOST_LAYERS:]
    lines = ["time per layer, from runs that record it (not scaled)", *table.splitlines()]
    if rest:
        a, b = sum(r.ms for _, r, _ in rest if r), sum(r.ms for _, _, r in rest if r)
        lines.append(f"... and {len(rest)} more: {first} {a:.3f} ms, {second} {b:.3f} ms")
    roof = layers.a.ceilings
    if roof is not None:
        lines.append(
            f"ceilings  float32 {roof.float32_gmac_s:.0f} GMAC/s, int8 {roof.int8_gmac_s:.0f} GMAC/s, "
            f"memory {roof.memory_gb_s:.1f} GB/s, {roof.threads} thread(s), measured here"
        )
    for name, times_of in zip(names, (layers.a, layers.b), strict=True):
        lines += _about(name, times_of)
    return lines


def _cells(layer: str, a: LayerTime | None, b: LayerTime | None) -> list[str]:
    macs = next((row.macs for row in (a, b) if row is not None), None)
    name = layer if len(layer) <= _WIDEST else f"...{layer[3 - _WIDEST :]}"
    return [
        name,
        f"{macs / 1e6:.2f}" if macs else "",
        *(f"{row.ms:.4f}" if row else "" for row in (a, b)),
        *(f"{row.gmac_s:.1f}" if row and row.gmac_s else "" for row in (a, b)),
        *(_bound(row) for row in (a, b)),
    ]


def _bound(row: LayerTime | None) -> str:
    if row is None or row.verdict is None:
        return ""
    part = row.verdict.of_ceiling
    return row.verdict.bound if part is None else f"{row.verdict.bound} {part:.0%}"


def _about(name: str, times: LayerTimes) -> list[str]:
    coverage = times.coverage
    converting = sum(row.overhead_ms for row in times.layers)
    whole = sum(row.ms for row in times.layers) or 1.0
    told = (
        f"{name}: node times are {coverage.part:.0%} of the recorded run without what recording takes between nodes "
        f"({coverage.part_of_recording:.0%} with it), {times.mapped:.0%} of them traced to layers; "
        f"net of recording {coverage.net_ms:.3f} ms, an unrecorded run takes {coverage.plain_ms:.3f} ms"
    )
    lines = [told]
    if converting >= 0.01 * whole:
        lines.append(f"{name}: {converting / whole:.0%} of the time converts layouts and number formats")
    lines += [f"{name}, most limited: {sentence}" for sentence in times.most_limited]
    return [*lines, *(f"note: {name}: {note}" for note in times.notes)]
