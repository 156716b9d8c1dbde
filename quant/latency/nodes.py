"""Time of every node, from a separate run that records a profile: shares, because recording slows the whole down."""

from __future__ import annotations

import re
from collections import defaultdict
from statistics import median
from typing import TYPE_CHECKING

from quant.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import onnx_ir as ir

RUNS = 100
# ONNX Runtime appends these to the names of the graph's own nodes.
_SUFFIX = re.compile(r"(_token_\d+|_nchwc|_nhwc)*_kernel_time$")


def node_shares(
    model: bytes, feeds: Sequence[Mapping[str, np.ndarray]], *, device: str = "cpu", threads: int = 1
) -> dict[str, float]:
    """The part of a run's node time that each node of the optimised graph takes, by its name; they add up to 1.

    Args:
        model: an ONNX file's bytes.
        feeds: inputs, used in turn.
        device: where it runs.
        threads: that one operator may use.
    """
    session = open_session(model, device=device, threads=threads, profile=True)
    for run in range(RUNS):
        session.run(feeds[run % len(feeds)])
    times: defaultdict[str, list[float]] = defaultdict(list)
    for event in session.end_profiling():
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[_SUFFIX.sub("", event["name"])].append(float(event["dur"]))
    # The middle of a node's times: the first runs allocate, and one interrupted run would outweigh all others.
    middle = {name: median(values) for name, values in times.items()}
    whole = sum(middle.values()) or 1.0
    return {name: value / whole for name, value in middle.items()}


def share_of(node: ir.Node, shares: Mapping[str, float]) -> float | None:
    """The part of the time that belongs to a node of the graph before optimisation; None where it was fused away.

    ONNX Runtime keeps a node's name, or calls the node that replaces it after the tensor that it writes.
    """
    keys = [node.name, *(output.name for output in node.outputs)]
    found = [share for name, share in shares.items() if any(key and _stands_for(name, key) for key in keys)]
    return sum(found) if found else None


def _stands_for(name: str, key: str) -> bool:
    return name == key or name.startswith((f"{key}_int8_", f"{key}_quantized_"))
