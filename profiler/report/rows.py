"""A profile's layers as rows of text: what the table and the Markdown report share."""

from collections import Counter
from collections.abc import Sequence

from profiler.profile import Profile
from profiler.report import units

HEADERS = ("name", "type", "output size", "receptive field", "MACs", "FLOPs", "params", "share")
ALIGNMENT = ("left", "left", "left", "left", "right", "right", "right", "right")


def layer_rows(profile: Profile) -> list[tuple[str, ...]]:
    """One row per layer, numbers with units; share is of the MACs, or of the FLOPs where there are no MACs."""
    calls = Counter((layer.name, layer.call) for layer in profile.layers)
    whole = profile.totals.macs or profile.totals.flops
    return [
        (
            units.printable(layer.name or ".") + (f" #{layer.call + 1}" if layer.call else ""),
            units.kind(layer, alone=calls[layer.name, layer.call] == 1 and bool(layer.name)),
            ", ".join(units.shape(s) for s in layer.output_shapes[:1]),
            units.field(layer.receptive_field),
            units.count(layer.macs) if layer.macs else "",
            "not counted" if layer.status == "uncounted" else units.count(layer.flops) if layer.flops else "",
            units.count(layer.params) if layer.params else "",
            units.percent(layer.macs if profile.totals.macs else layer.flops, whole),
        )
        for layer in profile.layers
    ]


def total_row(profile: Profile) -> tuple[str, ...]:
    """The sums, under the same headers."""
    t = profile.totals
    return ("total", "", "", "", units.count(t.macs), units.count(t.flops), units.count(t.params), "100.0%")


def summary_lines(profile: Profile) -> list[str]:
    """Totals, memory, and what was not counted, in sentences."""
    t = profile.totals
    stored = f"{t.trainable_params:,} trainable, {units.size_of(t.param_bytes)}"
    lines = [
        f"{t.macs:,} MACs, {t.flops:,} FLOPs, {t.params:,} parameters ({stored})",
        f"activations: {units.size_of(t.activation_bytes)} computed, {units.size_of(t.peak_bytes)} alive at most",
    ]
    if profile.uncounted:
        named = ", ".join(f"{name} ({calls} calls)" for name, calls in profile.uncounted.items())
        lines.append(f"NOT COUNTED, no formula known: {named}")
    else:
        lines.append("every operator is counted, or free by convention")
    return lines


def crosscheck_lines(profile: Profile, peers: Sequence[str]) -> list[str]:
    """How each peer's figure follows from ours."""
    lines = []
    for peer in peers:
        check = profile.crosscheck(peer)
        if check.theirs is None:
            lines.append(f"{peer}: {check.status}: {check.reason}")
            continue
        lines.append(f"{peer} says {check.theirs:,}; netgauge {check.ours:,} MACs; unexplained {check.unexplained:,}")
        lines += [f"  {term.amount:+,}  {term.reason} ({term.calls} calls)" for term in check.terms]
        lines += [
            f"  UNEXPLAINED {row.unexplained:+,}  {row.name or '.'} {row.op}: {row.theirs:,}, rule {row.predicted:,}"
            for row in check.rows
            if row.unexplained
        ]
    return lines
