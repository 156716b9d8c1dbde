"""Data to calibrate and evaluate on: samples in memory, and the places they come from."""

from quant.data.samples import Samples as Samples
from quant.data.source import as_samples as as_samples
from quant.data.source import open_data as open_data

__all__ = ["Samples", "as_samples", "open_data"]
