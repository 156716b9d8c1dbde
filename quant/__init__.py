"""What int8 does to a network: calibrate, place, round, measure what it cost in accuracy and won in latency, explain.

from quant import quantize
result = quantize("model.onnx", calibration="calibration.npz", evaluation="evaluation.npz", output="m.int8.onnx")
print(result.metrics["accuracy"].drop, result.latency.speedup)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quant.comparing import compare as compare
    from quant.data import Samples as Samples
    from quant.data import data_options as data_options
    from quant.data import open_data as open_data
    from quant.evaluating import evaluate as evaluate
    from quant.latency import compare_latency as compare_latency
    from quant.latency import layer_times as layer_times
    from quant.machine import doctor as doctor
    from quant.pipeline import quantize as quantize
    from quant.result import Quantization as Quantization

# Where each public name lives. onnxruntime and torch are imported when the first of them is asked for, not before. No
# module may be called as one of them: once imported, it would stand in the place of the function.
_HOMES = {
    "Quantization": "quant.result",
    "Samples": "quant.data",
    "compare": "quant.comparing",
    "compare_latency": "quant.latency",
    "data_options": "quant.data",
    "doctor": "quant.machine",
    "evaluate": "quant.evaluating",
    "layer_times": "quant.latency",
    "open_data": "quant.data",
    "quantize": "quant.pipeline",
}

__all__ = [
    "Quantization",
    "Samples",
    "compare",
    "compare_latency",
    "data_options",
    "doctor",
    "evaluate",
    "layer_times",
    "open_data",
    "quantize",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401  # whatever the name stands for
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
