"""The command line under observation: what it opens and starts is recorded from within, and what it says.

`inside` runs in the child process; `Outcome` is what the parent makes of it. Python's audit events cover what Python
code does; a file that native code opens is seen by inotify, see `Opened`.
"""

import contextlib
import ctypes
import json
import os
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Events that no model file may cause.
FORBIDDEN = (
    *("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile", "pty.spawn"),
    *("subprocess.Popen", "socket.", "ctypes.dlopen", "pickle.find_class", "urllib.Request", "webbrowser.open"),
    *("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.chown", "os.truncate"),
    *("os.kill", "os.putenv", "shutil.", "tempfile.", "ftplib.", "http.client.", "smtplib."),
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Recorder:
    """An audit hook; once there, Python never lets it go."""

    def __init__(self, target: Path, record: Path, *, at_once: bool) -> None:
        self.target, self.record = str(target), str(record)
        self.on = at_once
        self.events: list[tuple[str, str, bool]] = []

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        """Note what matters: (event, path or first argument, whether it writes)."""
        if event == "open":
            path, mode, flags = args
            if isinstance(path, int):
                return
            named = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else repr(path)
            self.on = self.on or named == self.target
            writes = bool(flags & _WRITES) if isinstance(flags, int) else any(c in str(mode) for c in "wax+")
            if self.on and named != self.record:
                self.events.append((event, named, writes))
        elif self.on and event.startswith(FORBIDDEN):
            self.events.append((event, repr(args)[:300], False))

    def save(self) -> None:
        """Write the record; nothing is noted of that."""
        self.on = False
        events, self.events = self.events, []
        self.target = ""
        Path(self.record).write_text(json.dumps(events))


def inside(argv: list[str], target: Path, record: Path, *, at_once: bool) -> int:
    """Run the command line here, under the hook; the exit code."""
    import cli

    recorder = Recorder(target, record, at_once=at_once)
    sys.addaudithook(recorder)
    sys.argv = ["cli.py", *argv]
    try:
        cli.main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        recorder.save()
    return 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        code: exit code; minus the signal where one ended it.
        stdout: what it printed.
        stderr: what it said.
        events: what the hook noted.
        seconds: of processor time.
        peak: most memory that was resident, in bytes.
    """

    code: int
    stdout: str
    stderr: str
    events: tuple[tuple[str, str, bool], ...]
    seconds: float
    peak: int

    def message(self) -> list[str]:
        """The lines on standard error that are neither notes nor progress."""
        return [line for line in self.stderr.splitlines() if line.strip() and not line.startswith("note:")]


def misdeeds(outcome: Outcome, folder: Path, target: Path) -> list[str]:
    """What the run did that it should not have: files outside `folder`, Python's own and ours; processes, sockets.

    Where the target itself is a link, the user has named what it leads to.
    """
    allowed = [folder, ROOT / "profiler", ROOT / "quant", ROOT / "cli.py", ROOT / "tests" / "corpus"]
    allowed += [Path(p) for p in {sys.prefix, sys.base_prefix, os.path.realpath(sys.prefix)}]
    allowed += [Path(p) for p in sys.path if p and p != str(ROOT)]
    found = []
    for event, subject, writes in outcome.events:
        if event != "open":
            found.append(f"{event} {subject}")
        elif writes and subject != os.devnull:
            found.append(f"wrote {subject}")
        elif not any(_within(subject, place) for place in (*allowed, Path("/proc"), Path("/sys"), Path("/dev/null"))):
            found.append(f"opened {subject}")
        elif subject != str(target) and _within(subject, folder) and not _within(os.path.realpath(subject), folder):
            found.append(f"opened {subject}, a link to {os.path.realpath(subject)}")
    return found


def _within(path: str, folder: Path) -> bool:
    return Path(os.path.normpath(path)).is_relative_to(folder)


_OPEN, _ACCESS, _MODIFY = 0x20, 0x01, 0x02


class Opened:
    """Whether anybody, native code included, opens a file while this lasts (Linux's inotify)."""

    def __init__(self, *paths: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._file = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        for path in paths:
            assert self._libc.inotify_add_watch(self._file, os.fsencode(path), _OPEN | _ACCESS | _MODIFY) >= 0

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, *_raised: object) -> None:
        os.close(self._file)

    def seen(self) -> list[int]:
        """The kinds of access that there were."""
        masks = []
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._file, 1 << 16)
            while data:
                _, mask, _, length = struct.unpack_from("iIII", data)
                masks.append(mask)
                data = data[16 + length :]
        return masks
