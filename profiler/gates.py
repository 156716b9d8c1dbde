"""What `netgauge profile` says beside its report: notes, and the gates that end it with exit code 1."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from profiler.errors import NetgaugeError, UsageError

if TYPE_CHECKING:
    from profiler.profile import Profile
    from profiler.progress import Progress


@dataclass(slots=True)
class Said:
    """What goes to standard error beside the report.

    Attributes:
        notes: what a reader should know.
        alarms: gates that failed.
    """

    notes: list[str] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)

    def echo(self) -> None:
        """Print them to standard error."""
        from profiler.escaping import message, sentence
        from profiler.report import terminal

        red: dict[str, Any] = {"fg": "red", "bold": True} if terminal.color(sys.stderr) else {}
        for note in self.notes:
            click.echo(terminal.fitting(f"note: {sentence(note)}", sys.stderr), err=True)
        for alarm in self.alarms:
            click.secho(terminal.fitting(message(alarm), sys.stderr), err=True, **red)


def checked(
    result: Profile, check: str, style: str, given: set[str], said: Said, progress: Progress
) -> tuple[str, ...]:
    """The peers to be shown, each of which has run; where one was named, what stays unexplained is an alarm."""
    from profiler.crosscheck import PEERS as KNOWN

    asked = {"none": (), "all": tuple(KNOWN)}.get(check, (check,))
    named = "--check" in given
    if style == "csv" and not named:  # it has no room for them
        return ()
    if result.subject is None and asked:
        if named:
            raise UsageError(f"--check {check}: other counters run modules of torch, which this target does not hold")
        said.notes.append(f"{', '.join(asked)}: skipped: runs modules of torch, which this target does not hold")
        return ()
    for peer in asked:
        progress(f"running {peer}", None)
        found = result.crosscheck(peer)
        if named and found.unexplained:
            said.alarms.append(f"{peer}: {found.unexplained:,} of its {found.theirs:,} stay unexplained")
        elif style == "csv":
            said.notes.append(f"{peer}: {found.status}" + (f": {found.reason}" if found.reason else ""))
    return asked


def verify(result: Profile, said: Said) -> None:
    """How many receptive fields the impulses confirm; one that they contradict fails."""
    from profiler.crosscheck.receptive import verify_receptive_fields

    if result.subject is None:
        raise UsageError("--verify-rf runs a module of torch, which this target does not hold")
    try:
        checks = verify_receptive_fields(result.subject)
    except NetgaugeError as error:
        said.notes.append(f"receptive fields are not verified: {error}")
        return
    count = Counter(c.status for c in checks)
    wrong = [c for c in checks if c.contradicted]
    unprobed = f", {count['not probed']} not probed" if count["not probed"] else ""
    said.notes.append(
        f"receptive fields: {count['exact']} exact, {count['bounded']} bounded{unprobed}; "
        f"impulses contradict {len(wrong)}"
    )
    said.alarms += [
        f"receptive field of {c.name or '.'} ({c.op}) is contradicted by impulses: {c.detail}" for c in wrong
    ]
