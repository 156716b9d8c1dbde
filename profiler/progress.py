"""How long work says how far it is: a callable that takes the stage and the part of it that is done."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer

# The part is None where it is not known how much there is to do.
Progress = Callable[[str, float | None], None]
PATIENCE = 2.0


def silent(_stage: str, _part: float | None) -> None:
    """Say nothing."""


@contextmanager
def shown(after: float = PATIENCE) -> Iterator[Progress]:
    """Progress on standard error: a bar on a terminal once `after` seconds have gone by, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    bar = Bar(
        *columns,
        console=console,
        refresh_per_second=4,
        transient=True,
        redirect_stdout=False,
        disable=console.is_dumb_terminal,
    )
    task = bar.add_task("starting", total=None)

    def update(stage: str, part: float | None) -> None:
        bar.tasks[0].total = None if part is None else 1.0  # update() takes None for "as it was"
        bar.update(task, description=stage, completed=part or 0.0)

    timer = Timer(after, bar.start)
    timer.daemon = True
    timer.start()
    try:
        yield update
    finally:
        timer.cancel()
        timer.join()
        bar.stop()
