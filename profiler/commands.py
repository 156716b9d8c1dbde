"""`netgauge profile`: parses, calls, prints."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from torch import nn

    from profiler.profile import Profile

FORMATS = ("table", "json", "csv", "markdown")


@click.command()
@click.argument("target")
@click.option(
    "--input", "inputs", multiple=True, metavar="SIZE", help="Input such as 1x3x224x224 or 1x16:int64; repeat."
)
@click.option("--inputs", "arrays", metavar="FILE.npz", help="Inputs as arrays, by the names of forward's parameters.")
@click.option("--weights", metavar="FILE", help="State dict for a FILE.py:factory target.")
@click.option("--format", "style", type=click.Choice(FORMATS), default="table", show_default=True)
@click.option("--output", metavar="FILE", help="Write the report there instead of to the terminal.")
@click.option("--check", type=click.Choice(("fvcore", "all", "none")), default="fvcore", show_default=True)
@click.option("--verify-rf", is_flag=True, help="Check every receptive field by running impulses through the network.")
@click.option("--trust", is_flag=True, help="Let code in the file run. Only for files whose maker you trust.")
@click.pass_context
def profile(  # one parameter per option
    context: click.Context,
    target: str,
    inputs: tuple[str, ...],
    arrays: str | None,
    weights: str | None,
    style: str,
    output: str | None,
    check: str,
    *,
    verify_rf: bool,
    trust: bool,
) -> None:
    """Sizes, receptive fields, MACs, FLOPs and parameters of TARGET, layer by layer.

    TARGET is a model file (.pt, .pth, .safetensors, .onnx), FILE.py:factory or package.module:factory.
    """
    from profiler.files import check_writable, write_whole
    from profiler.report import FORMATS as VIEWS
    from profiler.report import weights_table
    from profiler.sources import open_model

    if output:
        check_writable(output)
    opened = open_model(target, weights=weights, trust=trust)
    notes = list(opened.notes)
    failed = False
    if opened.module is None:
        text = weights_table(opened, style)
        notes.append(f"{target} holds {_HOLDS[opened.kind]}: no operations are counted. {_NEXT[opened.kind]}")
    else:
        result, assumed = _analyzed(opened.module, target, inputs, arrays)
        notes += assumed
        peers = {"none": (), "all": ("fvcore",)}.get(check, (check,))
        text = VIEWS[style](result, peers)
        failed = "--check" in _given(context) and any(result.crosscheck(p).unexplained for p in peers)
        if verify_rf:
            notes += _verified(result)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    if output:
        click.echo(f"wrote {write_whole(output, text)}", err=True)
    else:
        click.echo(text)
    if failed:
        context.exit(1)


_HOLDS = {"weights": "tensors without an architecture", "onnx": "an ONNX graph"}
_NEXT = {
    "weights": "Name the architecture as FILE.py:factory and pass this file as --weights.",
    "onnx": "Its stored tensors are listed.",
}


def _given(context: click.Context) -> set[str]:
    """Options that the user wrote, not those that took their default."""
    source = click.core.ParameterSource.COMMANDLINE
    return {p.opts[0] for p in context.command.params if p.name and context.get_parameter_source(p.name) is source}


def _analyzed(
    module: "nn.Module", target: str, inputs: tuple[str, ...], arrays: str | None
) -> "tuple[Profile, list[str]]":
    """The profile, and what was assumed for it."""
    from profiler.analyzer import analyze
    from profiler.inputs import find_inputs, parse_input, read_arrays

    if arrays:
        return analyze(module, **read_arrays(arrays)), []
    if inputs:
        return analyze(module, *map(parse_input, inputs)), []
    found, note = find_inputs(module, target)
    return analyze(module, found), [note]


def _verified(result: "Profile") -> list[str]:
    """How many receptive fields the impulses confirm."""
    from profiler.crosscheck.receptive import verify_receptive_fields

    checks = verify_receptive_fields(result.subject) if result.subject else []
    exact = [c for c in checks if c.status == "exact"]
    wrong = [c for c in checks if not c.contained or (c.status == "exact" and not c.equal)]
    lines = [
        f"receptive fields: {len(exact)} exact, {len(checks) - len(exact)} bounded; impulses contradict {len(wrong)}"
    ]
    return lines + [f"receptive field of {c.name or '.'} ({c.op}) is contradicted by impulses" for c in wrong]
