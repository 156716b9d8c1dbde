"""The process that the user started: it starts the one of `--trust`, waits for it and says how it ended."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from profiler.errors import ModelError, UnavailableError

# What the process gets of the environment: where things are and how they are shown. No tokens, no proxies.
KEPT = frozenset({
    *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TEMP", "TMP", "TZ"),
    *("LANG", "LANGUAGE", "TERM", "COLORTERM", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH"),
    *("XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME", "PYTHONIOENCODING", "PYTHONUTF8", "PYTHONDONTWRITEBYTECODE"),
    *("SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "USERPROFILE", "APPDATA", "LOCALAPPDATA"),
})  # fmt: skip
# It finds the packages that this process has, and none in the current folder.
_START = (
    "import json, sys; start = json.loads(sys.argv.pop(1)); sys.path[:] = start['path']; "
    "from profiler.trusted.child import main; main(start)"
)
PATIENCE = 3.0  # seconds that it has to clean up after Ctrl-C


def environment() -> dict[str, str]:
    """The part of this process's environment that the other one gets."""
    return {name: value for name, value in os.environ.items() if name in KEPT or name.startswith("LC_")}


def command(program: str, arguments: Sequence[str]) -> list[str]:
    """What starts the process.

    Args:
        program: the file whose main() parses the arguments.
        arguments: as the user wrote them.

    Raises:
        UnavailableError: there is no Python to start.
    """
    if not sys.executable:
        raise UnavailableError("--trust runs in a process of its own, and this Python cannot say how to start one")
    flags = ["-P", *(["-s"] if sys.flags.no_user_site else []), *(["-X", "utf8"] if sys.flags.utf8_mode else [])]
    start = json.dumps({"path": list(map(str, sys.path)), "program": program, "parent": os.getpid()})
    return [sys.executable, *flags, "-c", _START, start, *arguments]


def run(program: str, arguments: Sequence[str], explain: Callable[[int, float], str]) -> int:
    """Run a command line in a process of its own, with this one's output, folder and a part of its environment.

    Args:
        program: the file whose main() parses the arguments.
        arguments: as the user wrote them.
        explain: from the signal that killed it and the seconds of processor time that it took, to a message.

    Returns:
        Its exit code.

    Raises:
        ModelError: it was killed.
        KeyboardInterrupt: the user stopped it.
        UnavailableError: it cannot be started.
    """
    sys.stdout.flush()
    try:
        process = subprocess.Popen(  # noqa: S603  # ourselves
            command(program, arguments), stdin=subprocess.DEVNULL, env=environment(), start_new_session=True
        )
    except OSError as error:
        raise UnavailableError(f"--trust runs in a process of its own, which cannot be started: {error}") from error
    with _ended_with(process) as stopped_by:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            _interrupt(process)
            raise
    if stopped_by:
        return 128 + stopped_by[0]
    if code < 0:
        _show_cursor()
        raise ModelError(explain(-code, _processor_seconds()))
    return code


@contextmanager
def _ended_with(process: "subprocess.Popen[bytes]") -> Iterator[list[int]]:
    """Whatever ends this process ends the other one and all that it has started; yields the signals that did."""
    received: list[int] = []

    def stop(number: int, _frame: object) -> None:
        received.append(number)
        _kill(process)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    main = threading.current_thread() is threading.main_thread()  # Python lets only this one set handlers
    before: dict[int, Any] = {number: signal.signal(number, stop) for number in numbers} if main else {}
    try:
        yield received
    finally:
        _kill(process)
        process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(process: "subprocess.Popen[bytes]") -> None:
    """Ask it to stop, and give it a moment to remove what is half done."""
    with suppress(OSError, ValueError, subprocess.TimeoutExpired, KeyboardInterrupt):
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End it and what it has started, as far as that is still in its group."""
    with suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def _processor_seconds() -> float:
    """Processor time of the processes that this one has waited for."""
    try:
        import resource
    except ImportError:
        return 0.0
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _show_cursor() -> None:
    """A progress bar that was killed has left the cursor hidden, and itself on the line."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K\x1b[?25h")
        sys.stderr.flush()
