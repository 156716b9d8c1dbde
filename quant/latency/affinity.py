"""Keeping this process, and those that it starts, on chosen cores: only where asked for."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from profiler.errors import UnavailableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_PART = re.compile(r"(\d+)(?:-(\d+))?")
_MOST = 4096  # cores; a mistyped range would list millions


def cores_of(text: str) -> tuple[int, ...]:
    """Core numbers from a list such as "0,2-3".

    Raises:
        UsageError: it is no such list.
    """
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < _MOST:
            raise UsageError(f"{text!r} is no list of cores; write 0, 0,2 or 0-3")
        found.update(range(first, last + 1))
    return tuple(sorted(found))


def allowed_cores() -> tuple[int, ...] | None:
    """The cores that this thread may run on; None where the system does not say."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None


@contextmanager
def pinned(cores: Collection[int] | None) -> Iterator[None]:
    """Run on these cores only; threads and processes started meanwhile inherit that. None changes nothing.

    Raises:
        UsageError: one of them is not there, or not this process's to use.
        UnavailableError: the system cannot do it.
    """
    if cores is None:
        yield
        return
    before = allowed_cores()
    if before is None:
        raise UnavailableError("this system cannot keep a process on chosen cores; leave the affinity out")
    if not cores or not set(cores) <= set(before):
        wanted, there = (", ".join(map(str, sorted(numbers))) or "none" for numbers in (cores, before))
        raise UsageError(f"cannot run on cores {wanted}: this process may use {there}")
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
