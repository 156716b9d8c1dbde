"""How long models take, and whether a difference between two of them is more than noise."""

from quant.latency.compare import compare_latency
from quant.latency.protocol import Protocol
from quant.latency.result import LatencyComparison

__all__ = ["LatencyComparison", "Protocol", "compare_latency"]
