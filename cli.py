"""The front door: `python cli.py ...` in a checkout, `netgauge ...` when installed. It parses, calls and prints.

Subcommands load when they are asked for, so that `--help` does not wait for torch.
"""

import importlib
import sys
from pathlib import Path

import click

COMMANDS = {
    "profile": ("profiler.commands:profile", "Sizes, receptive fields, MACs, FLOPs and parameters of a network."),
    "quantize": ("quant.commands:quantize", "Make an int8 file for ONNX Runtime and measure what it cost and won."),
    "compare": ("quant.commands:compare", "Accuracy and latency of two ONNX files side by side."),
    "doctor": ("quant.commands:doctor", "What this machine can do for int8: instructions, providers, versions."),
}
DEBUG = click.Option(["--debug"], is_flag=True, expose_value=False, callback=lambda ctx, _, on: _set_debug(ctx, on=on),
                     help="Show the traceback of an error.")  # fmt: skip


def _set_debug(context: click.Context, *, on: bool) -> None:
    if on:
        context.find_root().meta["netgauge.debug"] = True


class LazyGroup(click.Group):
    """A group whose subcommands are imported on first use."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, and keep what was written: with `--trust` it is run in another process."""
        from profiler.trusted.options import ARGUMENTS, PROGRAM

        ctx.meta.update({PROGRAM: __file__, ARGUMENTS: list(args)})
        return super().parse_args(ctx, args)

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """All names, in the table's order."""
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """The subcommand of that name."""
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        if DEBUG not in command.params:
            command.params.append(DEBUG)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`, from the table alone: nothing is imported for it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="netgauge")
@click.pass_context
def cli(context: click.Context) -> None:
    """What a network is made of, and what int8 costs it.

    Exit codes: 0 done; 1 done, and a gate that was asked for failed; 2 usage; 3 refused for safety; 4 the model or the
    data cannot be used.
    """
    context.obj = {"checkout": _checkout()}


cli.params.append(DEBUG)


def _checkout() -> Path | None:
    """The folder this file lies in, where it is a checkout with the reference networks."""
    here = Path(__file__).resolve().parent
    return here if (here / "models" / "digits_mobile.py").exists() and Path(__file__).name == "cli.py" else None


def main(arguments: list[str] | None = None, confined: tuple[str, ...] | None = None) -> None:
    """Run the command line; errors end in one or two lines and an exit code.

    Args:
        arguments: what was written; sys.argv has it where None.
        confined: in the process of `--trust` alone, what it could not give up, in sentences.
    """
    from profiler.errors import NetgaugeError
    from profiler.trusted.options import CONFINED

    context: click.Context | None = None
    try:
        with cli.make_context("netgauge", sys.argv[1:] if arguments is None else arguments) as context:
            if confined is not None:
                context.meta[CONFINED] = confined
            code = cli.invoke(context)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        if confined is None:  # else the process that started this one says so
            click.echo("stopped", err=True)
        sys.exit(130)
    except NetgaugeError as error:
        _explain(context, error, str(error))
        sys.exit(error.exit_code)
    except MemoryError as error:
        _explain(context, error, "there was not enough memory")
        sys.exit(4)
    except Exception as error:  # noqa: BLE001  # the last line of defence: no traceback unless asked for
        reason = f"{type(error).__name__}: {error}".split("\n")[0]
        _explain(context, error, f"unexpected {reason}. This is a defect of netgauge; --debug shows where.")
        sys.exit(4)


def _explain(context: click.Context | None, error: BaseException, text: str) -> None:
    from profiler.trusted.options import hint

    if context is not None and context.find_root().meta.get("netgauge.debug"):
        import traceback

        traceback.print_exception(error)
    if context is not None:
        text += hint(error, context.meta)
    from profiler.escaping import message  # names in an error may come from a file

    click.echo(f"error: {message(text)}", err=True)


if __name__ == "__main__":
    main()
