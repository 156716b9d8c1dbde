"""Views of a profile. They show; they never compute."""

from collections.abc import Callable

from profiler.profile import Profile
from profiler.report.data import as_csv, as_json, schema
from profiler.report.html import html
from profiler.report.markdown import markdown
from profiler.report.options import Options
from profiler.report.text import table, tree

View = Callable[[Profile, Options], str]
FORMATS: dict[str, View] = {
    "table": table,
    "tree": tree,
    "json": as_json,
    "csv": as_csv,
    "markdown": markdown,
    "html": html,
}

__all__ = ["FORMATS", "Options", "as_csv", "as_json", "html", "markdown", "schema", "table", "tree"]
