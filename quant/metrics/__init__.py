"""What a quantized model lost: metrics in one registry, each with its interval and a verdict."""

from quant.metrics.evaluate import Comparison as Comparison
from quant.metrics.evaluate import compare_outputs as compare_outputs
from quant.metrics.paired import METRICS as METRICS
from quant.metrics.paired import MetricResult as MetricResult

__all__ = ["METRICS", "Comparison", "MetricResult", "compare_outputs"]
