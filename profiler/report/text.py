"""The table and the tree for a terminal."""

from profiler.profile import Profile
from profiler.report.grid import draw
from profiler.report.options import Options
from profiler.report.sections import backward_lines, crosscheck_lines, prose, summary_lines
from profiler.report.select import Selection, select, select_backward, select_tree


def table(profile: Profile, options: Options) -> str:
    """One line per row, totals and the peers' figures below."""
    return _page(profile, select(profile, options), select_backward(profile, options), options)


def tree(profile: Profile, options: Options) -> str:
    """The modules, each with its sums, under the modules that they lie in."""
    return _page(profile, select_tree(profile, options)[1], None, options)


def _page(profile: Profile, forward: Selection, backward: Selection | None, options: Options) -> str:
    parts = [
        _drawn(forward, options),
        prose([*summary_lines(profile), *crosscheck_lines(profile, options.peers)], options),
        prose(backward_lines(profile), options),
        _drawn(backward, options) if backward else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _drawn(selection: Selection, options: Options) -> str:
    return "\n".join([draw(selection, options), *filter(None, [prose(selection.notes, options)])])
