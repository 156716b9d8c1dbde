"""What a network is: per-layer output sizes, receptive fields, MACs, FLOPs and parameters, and the check of the counts.

from profiler import analyze
profile = analyze(model, (1, 3, 224, 224))
print(profile.totals.macs, profile.crosscheck("fvcore").unexplained)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from profiler import analyzer as analyzer
    from profiler.analyzer import analyze as analyze
    from profiler.errors import NetgaugeError as NetgaugeError
    from profiler.onnx_graph import analyze_onnx as analyze_onnx
    from profiler.profile import Layer as Layer
    from profiler.profile import Profile as Profile
    from profiler.profile import Totals as Totals
    from profiler.sources import open_model as open_model

# Where each public name lives. torch is imported when the first of them is asked for, not before.
_HOMES = {
    "analyze": "profiler.analyzer",
    "analyze_onnx": "profiler.onnx_graph",
    "open_model": "profiler.sources",
    "Layer": "profiler.profile",
    "Profile": "profiler.profile",
    "Totals": "profiler.profile",
    "NetgaugeError": "profiler.errors",
}

__all__ = ["Layer", "NetgaugeError", "Profile", "Totals", "analyze", "analyze_onnx", "analyzer", "open_model"]


def __getattr__(name: str) -> Any:  # noqa: ANN401  # whatever the name stands for
    if name == "analyzer":
        return import_module("profiler.analyzer")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
