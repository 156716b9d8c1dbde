"""How long models and their layers take, and whether a difference between two models is more than noise."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quant.latency.compare import compare_latency as compare_latency
    from quant.latency.layers import LayerTimes as LayerTimes
    from quant.latency.per_layer import LayerComparison as LayerComparison
    from quant.latency.per_layer import compare_layers as compare_layers
    from quant.latency.per_layer import layer_times as layer_times
    from quant.latency.result import LatencyComparison as LatencyComparison
    from quant.latency.settings import Protocol as Protocol
    from quant.latency.whole import Timing as Timing

# Imported when asked for: the command line's options live in this package, and `--help` must not wait for numpy.
_HOMES = {
    "LatencyComparison": "quant.latency.result",
    "LayerComparison": "quant.latency.per_layer",
    "LayerTimes": "quant.latency.layers",
    "Protocol": "quant.latency.settings",
    "Timing": "quant.latency.whole",
    "compare_latency": "quant.latency.compare",
    "compare_layers": "quant.latency.per_layer",
    "layer_times": "quant.latency.per_layer",
}

__all__ = [
    "LatencyComparison",
    "LayerComparison",
    "LayerTimes",
    "Protocol",
    "Timing",
    "compare_latency",
    "compare_layers",
    "layer_times",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401  # whatever the name stands for
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
