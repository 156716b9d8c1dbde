"""The options of `compare` and `quantize` that say what is timed and how; they reach a command as one `timing`."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

_OPTIONS = (
    click.option(
        "--batches",
        metavar="N,N,...",
        help="Time these batch sizes too; they share --seconds.",
        callback=lambda _context, _option, text: _batches(text),
    ),
    click.option("--no-cold", is_flag=True, help="Leave out cold start and memory, which take new processes."),
    click.option("--affinity", metavar="CORES", help="Run on these cores only, such as 0 or 0,2-3."),
    click.option("--samples", "keep_samples", is_flag=True, help="Put every sample's time into the JSON report."),
)


def timing_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options; it is called with `timing`, a `quant.latency.whole.Timing`, in their place."""

    @wraps(command)
    def called(
        *arguments: Any,  # noqa: ANN401  # the command's own
        batches: tuple[int, ...],
        no_cold: bool,
        affinity: str | None,
        keep_samples: bool,
        **others: Any,  # noqa: ANN401
    ) -> None:
        from quant.latency.affinity import cores_of
        from quant.latency.whole import Timing

        cores = cores_of(affinity) if affinity is not None else None
        command(*arguments, timing=Timing(not no_cold, batches, cores, keep_samples), **others)

    for option in reversed(_OPTIONS):
        called = option(called)
    return called


def _batches(text: str | None) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no list of sizes; write 1,8,64") from error
    if any(size < 1 for size in sizes):
        raise click.BadParameter(f"a batch holds at least one sample, got {min(sizes)}")
    return sizes
