"""How long models and their layers take, and whether a difference between two models is more than noise."""

from quant.latency.compare import compare_latency
from quant.latency.layers import LayerTimes
from quant.latency.per_layer import LayerComparison, compare_layers, layer_times
from quant.latency.protocol import Protocol
from quant.latency.result import LatencyComparison

__all__ = [
    "LatencyComparison",
    "LayerComparison",
    "LayerTimes",
    "Protocol",
    "compare_latency",
    "compare_layers",
    "layer_times",
]
