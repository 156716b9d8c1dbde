"""Views of a profile. They show; they never compute."""

from collections.abc import Callable, Sequence

from profiler.profile import Profile
from profiler.report.data import as_csv, as_json
from profiler.report.text import markdown, table
from profiler.report.weights import weights_table

View = Callable[[Profile, Sequence[str]], str]
FORMATS: dict[str, View] = {"table": table, "json": as_json, "csv": as_csv, "markdown": markdown}

__all__ = ["FORMATS", "as_csv", "as_json", "markdown", "table", "weights_table"]
