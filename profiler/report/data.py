"""JSON and CSV: every number in full."""

import csv
import io
import json
from collections.abc import Sequence

from profiler.profile import Profile
from profiler.report import units

COLUMNS = (
    *("name", "type", "op", "call", "input_shapes", "output_shapes", "macs", "flops", "params", "param_bytes"),
    *(
        "output_bytes",
        "read_bytes",
        "write_bytes",
        "formula",
        "status",
        "rf_size",
        "rf_stride",
        "rf_start",
        "rf_status",
        "rf_local_size",
    ),
)


def as_json(profile: Profile, peers: Sequence[str] = ()) -> str:
    """The profile by the schema `netgauge.profile/1`."""
    for peer in peers:
        profile.crosscheck(peer)
    return json.dumps(profile.to_dict(), indent=2)


def as_csv(profile: Profile, _peers: Sequence[str] = ()) -> str:
    """One line per layer; sizes as 1x64x8x8, several joined by spaces."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for layer in profile.layers:
        rf = layer.receptive_field
        cells = {name: getattr(layer, name, "") for name in COLUMNS}
        cells["input_shapes"] = " ".join(units.shape(s) for s in layer.input_shapes)
        cells["output_shapes"] = " ".join(units.shape(s) for s in layer.output_shapes)
        if rf is not None:
            cells["rf_size"] = "x".join(map(str, rf.size))
            cells["rf_stride"] = "x".join(map(str, rf.stride))
            cells["rf_start"] = " ".join(map(str, rf.start))
            cells["rf_status"] = rf.status
            cells["rf_local_size"] = "x".join(map(str, rf.local.size)) if rf.local else ""
        writer.writerow([_harmless(cells[name]) for name in COLUMNS])
    return out.getvalue()


def _harmless(value: object) -> object:
    """A name that a spreadsheet would take for a formula is written with an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "@", "+") else value
