"""All cases, by name."""

from itertools import chain

from . import archives, odd_files, onnx_files, pickles, programs, tensor_files
from .case import Case, Harmless

_MODULES = (pickles, archives, tensor_files, onnx_files, programs, odd_files)


def _joined(tables):
    joined = {}
    for name, case in chain.from_iterable(table.items() for table in tables):
        assert name not in joined, f"{name} is there twice"
        joined[name] = case
    return joined


# What has to be refused, and what has to be opened without harm.
CASES: dict[str, Case] = _joined(module.CASES for module in _MODULES)
HARMLESS: dict[str, Harmless] = _joined(getattr(module, "HARMLESS", {}) for module in _MODULES)
