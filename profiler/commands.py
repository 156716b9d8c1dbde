"""`netgauge profile`: parses, calls, prints."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from profiler import settings
from profiler.errors import RefusedError, UsageError
from profiler.gates import Said, checked, verify
from profiler.trusted.options import trusting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from profiler.profile import Profile
    from profiler.progress import Progress
    from profiler.report import Options
    from profiler.sources import OpenedModel

# Names only: what they stand for loads when the command runs.
FORMATS = ("table", "tree", "json", "csv", "markdown", "html")
PEERS = ("fvcore", "torch")
SORTS = ("order", "name", "macs", "flops", "params", "bytes", "intensity")
UNITS = ("auto", "raw", "k", "M", "G", "T", "P")
ROWS = ("layer", "module", "operator")
# What makes no sense where a file holds no network to run.
RUNS = ("--input", "--inputs", "--dim", "--check", "--verify-rf", "--backward", "--train", "--by", "--depth", "--sort",
        "--filter", "--top", "--columns", "--units")  # fmt: skip


def _dims(_context: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> dict[str, int]:
    """Symbolic sizes from NAME=N."""
    dims = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        if not name or not number.isdecimal() or int(number) == 0:
            raise UsageError(f"--dim {text}: write a name and a size above 0, such as batch=8")
        dims[name] = int(number)
    return dims


@click.command()
@click.argument("target")
@click.option(
    "--input",
    "sizes",
    multiple=True,
    metavar="[NAME=]SIZE",
    help="An input: 1x3x224x224, 1x16:int64 or input_ids=1x16:int64; repeat.",
)
@click.option("--inputs", "arrays", metavar="FILE.npz", help="Inputs as arrays, by the names of forward's parameters.")
@click.option(
    "--dim",
    "dims",
    multiple=True,
    callback=_dims,
    metavar="NAME=N",
    help="A size by its name: one that a graph leaves free, or of a named model, such as batch=8; repeat.",
)
@click.option("--weights", metavar="FILE", help="Tensors for a factory's or a named network: a checkpoint of any form.")
@settings.option
@click.option("--format", "style", type=click.Choice(FORMATS), default="table", show_default=True)
@click.option("--output", metavar="FILE", help="Write the report there instead of to the terminal.")
@click.option(
    "--by",
    type=click.Choice(ROWS),
    default="layer",
    show_default=True,
    help="What a row is: an operator call, a module with its sums, or all calls of one operation.",
)
@click.option(
    "--depth",
    type=click.IntRange(0),
    metavar="N",
    help="Modules down to this depth, 0 being the model itself; implies --by module.",
)
@click.option(
    "--sort",
    type=click.Choice(SORTS),
    default="order",
    show_default=True,
    help="order and name rise; the others put the largest first. bytes are those read and written.",
)
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="GLOB",
    help="Only rows whose path, type or operation it matches, such as 'layer4.*' or Conv2d; repeat for more. Totals"
    " stay those of the whole model.",
)
@click.option("--top", type=click.IntRange(1), metavar="N", help="Only the first N rows.")
@click.option("--columns", metavar="NAMES", help="Columns, joined by commas; a wrong name lists those there are.")
@click.option(
    "--units",
    type=click.Choice(UNITS, case_sensitive=False),
    metavar="|".join(UNITS),
    default="auto",
    show_default=True,
    help="A prefix for each number, all digits, or one prefix for all (KiB, MiB, ... for bytes).",
)
@click.option(
    "--check",
    type=click.Choice((*PEERS, "all", "none")),
    default="fvcore",
    show_default=True,
    help="Explain another counter's figure. If you write it out, exit code 1 where a difference stays unexplained.",
)
@click.option("--verify-rf", is_flag=True, help="Check every receptive field by impulses; exit code 1 if one is wrong.")
@click.option("--backward", is_flag=True, help="Count the backward pass of a training step, too.")
@click.option("--train", is_flag=True, help="Analyze the module in training mode; the default is evaluation mode.")
@trusting
@click.pass_context
def profile(  # noqa: PLR0913  # one parameter per option
    context: click.Context,
    /,
    *,
    target: str,
    sizes: tuple[str, ...],
    arrays: str | None,
    dims: dict[str, int],
    weights: str | None,
    kwargs: dict[str, Any],
    style: str,
    output: str | None,
    check: str,
    verify_rf: bool,
    backward: bool,
    train: bool,
    trust: bool,
    limits: tuple[str, ...],
    **looks: Any,  # noqa: ANN401  # the options that only change how the report looks
) -> None:
    """Sizes, receptive fields, MACs, FLOPs and parameters of TARGET, layer by layer.

    TARGET is a model file (.pt, .pth, .pt2, .safetensors, .onnx), FILE.py:factory, package.module:factory, or a name:
    timm:NAME, torchvision:NAME, hf:NAME or hf:FOLDER.
    """
    from profiler.files import check_writable
    from profiler.progress import shown

    given = _given(context)
    if output:
        check_writable(output)
    options = _options(style, target, given, looks, to_file=bool(output))
    said = Said()
    asked = _Asked(target, weights, kwargs, sizes, arrays, dims, limits, check, verify_rf, backward, train, trust)
    try:
        with shown() as progress, redirect_stdout(sys.stderr):  # what a model prints is no part of the report
            text = _report(asked, style, options, given, said, progress)
    except RefusedError as refused:
        if refused.known is not None and refused.known.tensors:
            said.notes += refused.known.notes
            _told(_listed(refused.known, style), output, said)
        raise
    _told(text, output, said)
    if said.alarms:
        context.exit(1)


def _told(text: str, output: str | None, said: Said) -> None:
    """The report to its file or the terminal, and what goes beside it."""
    from profiler.files import write_whole
    from profiler.report import terminal

    text = text.rstrip("\n") + "\n"
    if output:
        said.notes.append(f"wrote {write_whole(output, text)}")
    else:
        click.echo(terminal.fitting(text, sys.stdout), nl=False)
    said.echo()


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is to be profiled, as it was written; see the options."""

    target: str
    weights: str | None
    kwargs: dict[str, Any]
    sizes: tuple[str, ...]
    arrays: str | None
    dims: dict[str, int]
    limits: tuple[str, ...]
    check: str
    verify_rf: bool
    backward: bool
    train: bool
    trust: bool


def _report(asked: _Asked, style: str, options: Options, given: set[str], said: Said, progress: Progress) -> str:
    """The report on the target; what goes beside it is added to `said`."""
    progress(f"opening {asked.target}", None)
    from profiler.sources import Limits, open_model
    from profiler.targets import Request, profile_of

    limits = Limits().raised(asked.limits)
    opened = open_model(asked.target, weights=asked.weights, kwargs=asked.kwargs, trust=asked.trust, limits=limits)
    said.notes += opened.notes
    progress("analyzing", None)
    request = Request(asked.sizes, asked.arrays, asked.dims, asked.backward, asked.train)
    result, assumed = profile_of(opened, request)
    said.notes += assumed
    if result is None:
        return _tensors(opened, style, given, said)
    said.notes += result.notes
    peers = checked(result, asked.check, style, given, said, progress)
    if asked.verify_rf:
        progress("running impulses", None)
        verify(result, said)
    return _views()[style](result, replace(options, peers=peers))


def _given(context: click.Context) -> set[str]:
    """Options that the user wrote, not those that took their default."""
    source = click.core.ParameterSource.COMMANDLINE
    return {p.opts[0] for p in context.command.params if p.name and context.get_parameter_source(p.name) is source}


def _views() -> Mapping[str, Callable[[Profile, Options], str]]:
    from profiler.report import FORMATS as VIEWS

    return VIEWS


def _options(style: str, target: str, given: set[str], looks: dict[str, Any], *, to_file: bool) -> Options:
    """How the report looks, checked before a model is opened."""
    from profiler.report import Options, terminal
    from profiler.report.columns import check_columns
    from profiler.report.options import check_form

    check_form(style, given)
    if looks["depth"] is not None and "--by" in given and looks["by"] != "module":
        raise UsageError(f"--depth counts modules; it does not go with --by {looks['by']}")
    # The tree is made of modules; elsewhere than in a page, which has both, --depth asks for them.
    by = "module" if style == "tree" or (looks["depth"] is not None and style != "html") else looks["by"]
    columns = looks["columns"]
    return Options(
        title=target,
        by=by,
        depth=looks["depth"],
        sort=looks["sort"],
        filters=looks["filters"],
        top=looks["top"],
        columns=() if columns is None else check_columns(columns, by),
        units=looks["units"],
        width=None if to_file else terminal.width(sys.stdout),
        color=not to_file and terminal.color(sys.stdout),
    )


def _listed(opened: OpenedModel, style: str) -> str:
    """The stored tensors."""
    from profiler.report.weights import weights_table

    return weights_table(opened, style)


def _tensors(opened: OpenedModel, style: str, given: set[str], said: Said) -> str:
    """What a file without a network is listed as."""
    useless = [name for name in RUNS if name in given]
    if useless:
        raise UsageError(f"{' and '.join(useless)}: {opened.target} {_NO_NETWORK}. {_NEXT}")
    said.notes.append(f"{opened.target} {_NO_NETWORK}: no operations are counted. {_NEXT}")
    return _listed(opened, style)


_NO_NETWORK = "holds tensors without an architecture"
_NEXT = "Name the architecture as FILE.py:factory and pass this file as --weights."
