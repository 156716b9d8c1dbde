"""How long models take, and whether a difference between two of them is more than noise."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quant.latency.compare import compare_latency as compare_latency
    from quant.latency.result import LatencyComparison as LatencyComparison
    from quant.latency.settings import Protocol as Protocol
    from quant.latency.whole import Timing as Timing

# Imported when asked for: the command line's options live in this package, and `--help` must not wait for numpy.
_HOMES = {
    "LatencyComparison": "quant.latency.result",
    "Protocol": "quant.latency.settings",
    "Timing": "quant.latency.whole",
    "compare_latency": "quant.latency.compare",
}

__all__ = ["LatencyComparison", "Protocol", "Timing", "compare_latency"]


def __getattr__(name: str) -> Any:  # noqa: ANN401  # whatever the name stands for
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
