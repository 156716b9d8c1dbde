"""Timing on a device other than the CPU: what is run, and what is said beside the times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quant.bound import Bound

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np

    from quant.latency.warmup import Run
    from quant.runtime import RuntimeSession


def runner(session: RuntimeSession, feeds: Sequence[Mapping[str, np.ndarray]]) -> Run:
    """Runs a session on input number i: with everything on the device, where that is not the CPU."""
    if session.settings["device"] != "cpu" and not _takes_strings(session):
        return session.bound(feeds)
    run, count = session.run, len(feeds)
    return lambda index: run(feeds[index % count])


def figures(timed: Sequence[tuple[RuntimeSession, Run]]) -> dict[str, Any]:
    """What two sessions' settings gain where they were timed on a device; nothing on the CPU.

    Returns:
        `io_binding`, and `on_device`: for either model its nodes by provider, the transfers that are not in its times,
        and TensorRT's engine.
    """
    found = [_figures(session, run) for session, run in timed if isinstance(run, Bound)]
    return {"io_binding": True, "on_device": found} if found else {}


def _figures(session: RuntimeSession, run: Bound) -> dict[str, Any]:
    placed, engine = session.assignment, session.engine
    return {
        "nodes": {provider: dict(operators) for provider, operators in placed.nodes.items()} if placed else None,
        "placement": placed.summary() if placed else None,
        "transfers": run.transfers().to_dict(),
        "engine": engine.to_dict() if engine else None,
    }


def warnings(named: Sequence[tuple[str, RuntimeSession]]) -> Iterator[str]:
    """What of the two sessions ran elsewhere."""
    for name, session in named:
        if session.settings["device"] == "cpu":
            continue
        if _takes_strings(session):
            yield f"{name}: takes strings, which cannot lie on a device; its times hold the copies"
        if session.assignment is None:
            yield f"{name}: this ONNX Runtime does not tell which nodes ran on the device; 1.24 is the first that does"
        elif warning := session.assignment.warning(name):
            yield warning


def _takes_strings(session: RuntimeSession) -> bool:
    return "object" in session.input_types
