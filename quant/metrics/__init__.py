"""What a quantized model lost: metrics in one registry, each with its interval and a verdict."""

from quant.metrics.evaluate import compare_outputs as compare_outputs
from quant.metrics.registry import METRICS as METRICS
from quant.metrics.results import Comparison as Comparison
from quant.metrics.results import MetricResult as MetricResult

__all__ = ["METRICS", "Comparison", "MetricResult", "compare_outputs"]
