"""`--trust` and `--limit` for commands, and what is said where a limit was reached."""

from __future__ import annotations

import signal
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from profiler.errors import UsageError
from profiler.trusted import child, parent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from profiler.sources import Limits

# Limits of the process, not of what a file may ask for; profiler.sources.limits has their values.
OF_THE_PROCESS = ("memory", "seconds", "written")
PROGRAM, ARGUMENTS = "netgauge.program", "netgauge.arguments"
CONFINED, LIMITS = "netgauge.confined", "netgauge.limits"


def trusting(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `--trust` and `--limit`. With `--trust` all of it runs in a process of its own.

    The context's `meta` says which file's main() parses (PROGRAM), what was written (ARGUMENTS), and, in that process
    alone, what it could not give up (CONFINED).
    """

    @click.option("--trust", is_flag=True, help="Let code in the file run. Only for files whose maker you trust.")
    @click.option("--limit", "limits", multiple=True, metavar="NAME=N", help="Raise what a file may ask for; repeat.")
    @wraps(command)
    def either(*args: Any, trust: bool, limits: tuple[str, ...], **options: Any) -> None:  # noqa: ANN401  # any command
        context = click.get_current_context()
        if not trust:
            _check_untrusted(limits)
        elif CONFINED not in context.meta:
            if PROGRAM not in context.meta:
                raise UsageError("--trust runs the netgauge program again, and this command was not started by it")
            target = str(options.get("target") or "--trust")
            program, arguments = context.meta[PROGRAM], context.meta[ARGUMENTS]
            context.exit(parent.run(program, arguments, lambda n, used: _killed(target, limits, n, used)))
        else:
            _limit(context, limits, gpu=options.get("device") == "cuda")
        command(*args, trust=trust, limits=limits, **options)

    return either


def _check_untrusted(limits: Sequence[str]) -> None:
    for text in limits:
        if text.partition("=")[0] in OF_THE_PROCESS:
            raise UsageError(f"--limit {text}: limits the process of --trust, which is not given")


def _limit(context: click.Context, texts: Sequence[str], *, gpu: bool) -> None:
    from profiler.sources import Limits  # torch with it: what it takes does not count

    limits = context.meta[LIMITS] = Limits().raised(texts)
    for note in (*context.meta[CONFINED], *child.limit(limits, gpu=gpu)):
        click.echo(f"note: {note}", err=True)


def hint(error: BaseException, meta: dict[str, Any]) -> str:
    """What to add to an error's message where the process of --trust lacked what it needed, else nothing."""
    if LIMITS not in meta:
        return ""
    if child.exhausted(error):
        most = meta[LIMITS].memory
        return f"; with --trust {most:,} bytes of memory beyond Python's own are the limit: --limit memory=N raises it"
    offline = not any(child.NETWORK in note for note in meta[CONFINED])
    return "; the process of --trust has no network" if offline and child.unconnected(error) else ""


def _killed(target: str, texts: Sequence[str], number: int, used: float) -> str:
    """Why the process was killed, and what to do."""
    from profiler.sources import Limits

    limits = Limits().raised(texts)
    for name, reached, what in _REACHED:
        if reached(number, used, limits):
            most = getattr(limits, name)
            return f"{target}: stopped: {what.format(f'{most:,}')}; --limit {name}=N raises that"
    called = signal.Signals(number).name if number in {s.value for s in signal.Signals} else f"signal {number}"
    if called == "SIGKILL":
        return f"{target}: its process was killed from outside, most likely because the machine ran out of memory"
    return f"{target}: its process crashed ({called}); if that was for want of memory, --limit memory=N raises it"


def _of(name: str) -> int | None:
    number: signal.Signals | None = getattr(signal, name, None)
    return None if number is None else number.value


# (limit, whether the signal after so many seconds says that it was reached, in words)
_REACHED: tuple[tuple[str, Callable[[int, float, Limits], bool], str], ...] = (
    ("written", lambda number, _, __: number == _of("SIGXFSZ"), "a file that it wrote grew beyond {} bytes"),
    (
        "seconds",
        lambda number, used, limits: (
            number == _of("SIGXCPU") or (number == _of("SIGKILL") and used >= limits.seconds + child.GRACE_SECONDS)
        ),
        "it took more than {} seconds of processor time",
    ),
)
