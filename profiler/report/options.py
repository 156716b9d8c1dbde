"""What the user asked to see, and which form of report it can be asked of."""

from collections.abc import Collection
from dataclasses import dataclass

from profiler.errors import UsageError

# What a form of report has no use for: said, never passed over.
WITHOUT = {
    "json": ("--by", "--depth", "--sort", "--filter", "--top", "--columns", "--units"),
    "csv": ("--units",),
    "tree": ("--by", "--top"),
    "html": ("--by",),
}
_WHY = {
    "json": "it always holds the whole profile",
    "csv": "its numbers are always in full",
    "tree": "its rows are the modules; --by module lists them one below the other",
    "html": "it holds layers, modules and operators",
}


@dataclass(frozen=True, slots=True)
class Options:
    """How a profile is shown.

    Attributes:
        title: what was profiled, for the heading of a page.
        by: what a row is: "layer" (an operator call), "module" or "operator".
        depth: deepest module shown, the model itself being 0; None for all.
        sort: a key of `select.SORTS`.
        filters: globs over module path, type and operation; a row that one of them matches is shown.
        top: rows shown at most.
        columns: their names; empty for those that a kind of row comes with.
        units: one of `units.UNITS`.
        width: characters in a line; None where nothing must fit.
        color: whether lines may hold colour codes.
        peers: other counters whose figures are shown.
    """

    title: str = ""
    by: str = "layer"
    depth: int | None = None
    sort: str = "order"
    filters: tuple[str, ...] = ()
    top: int | None = None
    columns: tuple[str, ...] = ()
    units: str = "auto"
    width: int | None = None
    color: bool = False
    peers: tuple[str, ...] = ()


def check_form(style: str, given: Collection[str]) -> None:
    """Refuse options that a form of report has no use for.

    Raises:
        UsageError: one of them is such.
    """
    useless = [name for name in WITHOUT.get(style, ()) if name in given]
    if useless:
        raise UsageError(f"{' and '.join(useless)}: not with --format {style}; {_WHY[style]}")
