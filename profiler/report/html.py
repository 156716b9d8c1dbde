"""The profile as one HTML file that loads nothing, runs nothing and needs neither network nor script."""

from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from html import escape
from importlib.resources import files
from itertools import chain

from profiler.environment import environment
from profiler.profile import Profile
from profiler.report import units
from profiler.report.columns import COLUMNS, EXTRA, OPERATOR, Scale
from profiler.report.options import Options
from profiler.report.rows import Row
from profiler.report.sections import ALARMS, backward_lines, crosscheck_lines, summary_lines
from profiler.report.select import Selection, select, select_backward, select_tree

OPEN_TO = 1
_TREE = ("output_shapes", "rf", "macs", "flops", "params")
_LAYERS = "One row per operator call. Shares are of the MACs, or of the FLOPs in a model without MACs."
_OPERATORS = "All calls of one kind of operation together."
_FIELD = (
    "What one output sees of the input, in input pixels: 'all' where an operation joins all positions, with the field"
    " that its windows alone would have in brackets; '<=' marks a bound."
)
_MODULES = "Every module with the sums of what is below it, the last output and its receptive field. Click to open."
_BACKWARD = "The operators that compute the gradients, under the modules whose forward call they belong to."
_CHECKS = "What other counters say of the same model, and every documented reason why they say something else."


def html(profile: Profile, options: Options) -> str:
    """Totals, layers, modules, operators, other counters and the machine."""
    root, tree = select_tree(profile, Options(units=options.units))
    depth = OPEN_TO if options.depth is None else options.depth
    backward = select_backward(profile, options)
    operators = select(profile, Options(by=OPERATOR, units=options.units))
    body = [
        _cards(profile, options),
        _lines(summary_lines(profile)),
        _section("Layers", f"{_LAYERS} {_FIELD}", _table(select(profile, options), options)),
        _section("Modules", _MODULES, _tree(root, tree.scale, depth)),
        _section("Operators", _OPERATORS, _table(operators, Options())),
    ]
    if profile.backward and backward:
        parts = _lines(backward_lines(profile)) + _table(backward, options)
        body.append(_section("Backward pass", _BACKWARD, parts))
    checks = crosscheck_lines(profile, options.peers)
    if checks:
        body.append(_section("Other counters", _CHECKS, _lines(checks)))
    if profile.notes:
        body.append(_section("Notes", "How the figures came about.", _lines(profile.notes)))
    return page(options.title, "\n".join(body))


def page(title: str, body: str) -> str:
    """A whole file around a body; a browser is told to load nothing and to run nothing."""
    style = files("profiler.report").joinpath("page.css").read_text(encoding="utf-8")
    allowed = b64encode(sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{allowed}'"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text(title)} - netgauge</title>
<style>{style}</style>
</head>
<body>
<h1>{text(title)}</h1>
{body}
{_footer()}
</body>
</html>
"""


def text(value: object) -> str:
    """Text that may come from a file, made harmless."""
    return escape(units.printable(str(value)))


def _footer() -> str:
    here = environment()
    packages = ", ".join(f"{name} {version}" for name, version in here["packages"].items() if version)
    return f"<footer>{text(packages)}; Python {text(here['python'])} on {text(here['platform'])}</footer>"


def _section(heading: str, explained: str, content: str) -> str:
    return f"<section>\n<h2>{heading}</h2>\n<p>{text(explained)}</p>\n{content}\n</section>"


def _cards(profile: Profile, options: Options) -> str:
    t = profile.totals
    cards = {
        "input": ", ".join(map(units.shape, profile.inputs)),
        "MACs": units.count(t.macs, options.units),
        "FLOPs": units.count(t.flops, options.units),
        "parameters": units.count(t.params, options.units),
        "parameter bytes": units.size_of(t.param_bytes),
        "activations alive at most": units.size_of(t.peak_bytes),
        "FLOPs per byte": f"{t.intensity:.2f}",
    }
    return "<dl>" + "".join(f"<div><dt>{k}</dt><dd>{text(v)}</dd></div>" for k, v in cards.items()) + "</dl>"


def _lines(lines: Iterable[str]) -> str:
    items = []
    for line in lines:
        alarm = ' class="alarm"' if line.strip().startswith(ALARMS) else ""
        below = ' class="below"' if line.startswith(" ") else ""
        items.append(f"<li{alarm or below}>{text(line.strip())}</li>")
    return f"<ul>{''.join(items)}</ul>" if items else ""


def _table(selection: Selection, options: Options) -> str:
    names = selection.columns + (() if options.columns else tuple(chain(*EXTRA[selection.by])))
    head = "".join(_cell("th", name, COLUMNS[name].title(selection.scale)) for name in names)
    body = "".join(f"<tr>{_cells(row, names, selection.scale)}</tr>\n" for row in selection.rows)
    foot = "".join(f"<tr>{_cells(row, names, selection.scale)}</tr>\n" for row in selection.sums)
    table = f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n<tfoot>\n{foot}</tfoot>\n</table>"
    return f'<div class="wide">{table}</div>' + _lines(selection.notes)


def _cells(row: Row, names: Iterable[str], scale: Scale) -> str:
    return "".join(_cell("td", name, COLUMNS[name].text(row, scale)) for name in names)


def _cell(tag: str, name: str, content: str) -> str:
    kinds = {"name": ' class="name"', "op": ' class="name"'} if tag == "td" else {}
    scope = ' scope="col"' if tag == "th" else ""
    alarm = ' class="n alarm"' if content == "not counted" else ' class="n"'
    return f"<{tag}{scope}{alarm if COLUMNS[name].right else kinds.get(name, '')}>{text(content)}</{tag}>"


def _tree(root: Row, scale: Scale, depth: int) -> str:
    head = "<span>module</span>" + "".join(_cell("span", name, COLUMNS[name].title(scale)) for name in _TREE)
    line = f'<div class="line head">{head}<span class="n">share</span></div>'
    return f'<div class="wide"><div class="tree">{line}\n{_branch(root, scale, depth)}</div></div>'


def _branch(row: Row, scale: Scale, depth: int) -> str:
    """A module and what is below it; open down to a depth."""
    name = text(row.name.rpartition(".")[2] or ".")
    line = f'<span><span class="name">{name}</span> <small>{text(row.type)}</small></span>'
    for column in _TREE:
        line += _cell("span", column, COLUMNS[column].text(row, scale))
    line += f'<span class="n">{_share(row, scale)}</span>'
    if not row.children:
        return f'<div class="line leaf">{line}</div>\n'
    below = "".join(_branch(child, scale, depth - 1) for child in row.children)
    return f'<details{" open" if depth > 0 else ""}><summary class="line">{line}</summary>\n{below}</details>\n'


def _share(row: Row, scale: Scale) -> str:
    share = COLUMNS["share"]
    words = share.text(row, scale)
    return f'{words} <meter value="{share.value(row, scale)}"></meter>' if words else ""
