"""The process of `--trust`: it gives up what it can, then runs the command line.

Nothing of the file has been read when it does so. Limits count from there: what Python and torch themselves have taken
does not count, so that they mean the same on every machine.
"""

import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from errno import ENETUNREACH, ENOMEM
from math import ceil
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from profiler.trusted import linux

if TYPE_CHECKING:
    from profiler.sources import Limits

# Once the soft limit's signal is ignored, the hard limit kills after so many seconds.
GRACE_SECONDS = 5
NETWORK = "the process of --trust has the network"
_STATM_SIZE, _STATM_DATA = 0, 5  # fields of /proc/self/statm, in pages


def main(start: Mapping[str, Any]) -> None:
    """Run a command line in this process. `parent` calls it in a new one.

    Args:
        start: `parent`, its process; `program`, the file whose main() parses; the arguments are in sys.argv.
    """
    try:
        notes = confine()
        linux.die_with_parent(start["parent"])  # a change of rights could undo it
        program = _loaded(start["program"])
        arguments = sys.argv[1:]
        sys.argv[:] = [start["program"], *arguments]
        program.main(arguments, confined=tuple(notes))
    except KeyboardInterrupt:
        sys.exit(130)


def confine() -> list[str]:
    """Give up new privileges and the network; returns what was not possible, in sentences."""
    notes = []
    for step, what in (
        (linux.no_new_privileges, "the process of --trust may gain rights by starting other programs"),
        (linux.leave_network, NETWORK),
    ):
        try:
            step()
        except OSError as error:
            notes.append(f"{what}: {error.strerror}")
    return notes


def _loaded(file: str) -> ModuleType:
    found = importlib.util.spec_from_file_location("netgauge_program", file)
    if found is None or found.loader is None:
        raise ImportError(f"{file}: Python cannot load it")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def limit(limits: "Limits", *, gpu: bool = False) -> list[str]:
    """Set the limits of this process; returns which could not be set, in sentences.

    Args:
        limits: `memory`, `seconds` and `written` are taken.
        gpu: it will use a GPU, whose driver reserves far more addresses than there is memory: only memory that can be
            written counts then.
    """
    try:
        import resource
    except ImportError:
        return ["the process of --trust has no limits: this system has none"]
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it; the parent says which limit it was
    memory, field = ("RLIMIT_DATA", _STATM_DATA) if gpu else ("RLIMIT_AS", _STATM_SIZE)
    wanted: dict[str, Callable[[], tuple[int, int]]] = {
        "RLIMIT_CORE": lambda: (0, 0),
        "RLIMIT_FSIZE": lambda: (limits.written, limits.written),
        "RLIMIT_CPU": lambda: _seconds(limits.seconds, resource.getrusage(resource.RUSAGE_SELF)),
        memory: lambda: (_mapped(field) + limits.memory,) * 2,
    }
    notes = []
    for name, values in wanted.items():
        try:
            number = getattr(resource, name)
            most = resource.getrlimit(number)[1]
            soft, hard = (min(v, most) if most != resource.RLIM_INFINITY else v for v in values())
            resource.setrlimit(number, (soft, hard))
        except (AttributeError, OSError, OverflowError, ValueError) as error:
            notes.append(f"the process of --trust runs without {name}: {error}")
    return notes


def _seconds(seconds: int, used: Any) -> tuple[int, int]:  # noqa: ANN401  # resource.struct_rusage
    soft = ceil(used.ru_utime + used.ru_stime) + seconds
    return soft, soft + GRACE_SECONDS


def _mapped(field: int) -> int:
    """Bytes that this process has mapped already."""
    pages = Path("/proc/self/statm").read_text().split()[field]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


_WANT = ("allocate memory", "Unable to allocate", "bad_alloc", "failed to map segment", "can't start new thread")


def exhausted(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, is for want of memory."""
    return any(
        isinstance(cause, MemoryError)
        or (isinstance(cause, OSError) and cause.errno == ENOMEM)
        or any(words in str(cause) for words in _WANT)
        for cause in _causes(error)
    )


def unconnected(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, is for want of a network."""
    return any(
        isinstance(cause, OSError) and (cause.errno == ENETUNREACH or type(cause).__name__ == "gaierror")
        for cause in _causes(error)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
