"""Data to calibrate and evaluate on: samples, the places that they come from, and how pictures are prepared."""

from quant.data.options import Options as Options
from quant.data.options import data_options as data_options
from quant.data.preprocessing import Preprocessing as Preprocessing
from quant.data.samples import Batch as Batch
from quant.data.samples import Samples as Samples
from quant.data.source import as_samples as as_samples
from quant.data.source import open_data as open_data

__all__ = ["Batch", "Options", "Preprocessing", "Samples", "as_samples", "data_options", "open_data"]
