"""Time of every node, from a separate run that records a profile: shares, because recording slows the whole down."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

from quant.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

WARM_UP = 5
RUNS = 50
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
    for run in range(WARM_UP + RUNS):
        session.run(feeds[run % len(feeds)])
    times: defaultdict[str, list[float]] = defaultdict(list)
    for event in session.end_profiling():
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[_SUFFIX.sub("", event["name"])].append(float(event["dur"]))
    # Each node runs as often as the model does; the first runs allocate and would count for too much.
    sums = {name: sum(values[len(values) * WARM_UP // (WARM_UP + RUNS) :]) for name, values in times.items()}
    whole = sum(sums.values()) or 1.0
    return {name: value / whole for name, value in sums.items()}
