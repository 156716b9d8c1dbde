"""Finding the range of every tensor that is to be quantized."""

from quant.calibrate.observe import observe
from quant.calibrate.ranges import METHODS, RangeMethod, Statistics

__all__ = ["METHODS", "RangeMethod", "Statistics", "observe"]
