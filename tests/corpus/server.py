"""One process that has imported everything and forks for every file: a run costs milliseconds instead of seconds.

It reads jobs from standard input and answers on standard output, a line of JSON each.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

from .watch import ROOT, Outcome, inside

MAIN = Path(__file__).with_name("__main__.py")
SPARE = 3 << 30  # bytes that a child may take beyond what its parent has


def environment(**more: str) -> dict[str, str]:
    """The tests' own, with one thread: a process with threads had better not fork."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "200", **more}


def warm_up() -> None:
    """Import and run what `profile` needs, once."""
    import contextlib
    import io
    import tempfile

    import torch

    import cli
    from profiler.report import FORMATS

    from .archives import SAFE, state_zip
    from .onnx_files import small

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        good = {"a.pt": state_zip(), "a.safetensors": SAFE, "a.onnx": small().SerializeToString()}
        for name, data in good.items():
            Path(folder, name).write_bytes(data)
        runs = [[str(ROOT / "models" / "digits_cnn.pt")], *([f"{folder}/{name}"] for name in good)]
        runs += [[f"{folder}/a.onnx", "--format", style] for style in FORMATS]
        for arguments in runs:
            sys.argv = ["cli.py", "profile", *arguments]
            said = io.StringIO()
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
                try:
                    cli.main()
                except SystemExit as ended:
                    if ended.code:
                        raise RuntimeError(said.getvalue()) from None


def limit(seconds: int) -> None:
    """No more than so much memory and time for this process from here on; a hang ends in a signal."""
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (taken + SPARE, taken + SPARE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)


def powerless() -> None:
    """Give up root's right to read what it may not: tests often run as root."""
    import ctypes

    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    ctypes.CDLL(None).capset(header, none)


def _child(job: dict[str, Any]) -> int:
    folder = Path(job["folder"])
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
    os.close(0)
    os.environ.update(job["environment"])
    os.chdir(job["cwd"])
    limit(job["seconds"])
    powerless()
    if job.get("naive"):
        from .naive import detonate

        detonate(job["naive"], Path(job["target"]))
        return 0
    return inside(job["argv"], Path(job["target"]), folder / "record", at_once=True)


def serve() -> None:
    """Answer jobs until there are no more."""
    warm_up()
    print(json.dumps("ready"), flush=True)  # noqa: T201  # the protocol
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if not child:
            code = 70
            try:
                code = _child(job)
            except BaseException:  # noqa: BLE001  # whatever it is, the parent reads of it
                import traceback

                os.write(2, traceback.format_exc().encode())
            finally:
                os._exit(code)
        _, status, used = os.wait4(child, 0)
        answer = [os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]
        print(json.dumps(answer), flush=True)  # noqa: T201  # the protocol


class Server:
    """The parent's end of it."""

    def __init__(self) -> None:
        command = [sys.executable, str(MAIN), "serve"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(), cwd=ROOT
        )
        assert self._answer() == "ready"

    def _answer(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the server has ended"
        return json.loads(line)

    def run(self, argv: list[str], target: Path, cwd: Path, record: Path, seconds: int = 60, **more: Any) -> Outcome:
        """Run the command line in a fork; `record` is a folder for what it prints."""
        job = {"argv": argv, "target": str(target), "cwd": str(cwd), "folder": str(record), "seconds": seconds}
        record.mkdir(exist_ok=True)
        (record / "record").unlink(missing_ok=True)
        assert self._process.stdin
        self._process.stdin.write(json.dumps({**job, "environment": {}, **more}) + "\n")
        self._process.stdin.flush()
        return outcome(record, *self._answer())

    def close(self) -> None:
        """End it."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(10)
        if self._process.stdout:
            self._process.stdout.close()


def outcome(record: Path, code: int, seconds: float, peak: int) -> Outcome:
    """What a run left in its folder."""
    events = json.loads((record / "record").read_text()) if (record / "record").exists() else []
    said = [(record / name).read_text(errors="backslashreplace") for name in ("stdout", "stderr")]
    return Outcome(code, *said, tuple(map(tuple, events)), seconds, peak)


def fresh(argv: list[str], target: Path, cwd: Path, record: Path, seconds: int = 120, **more: str) -> Outcome:
    """The same in a process of its own, from its first import on."""
    record.mkdir(exist_ok=True)
    command = [sys.executable, str(MAIN), "run", str(target), str(record / "record"), *argv]
    with (record / "stdout").open("w") as out, (record / "stderr").open("w") as err:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment(**more), cwd=cwd
        )
        signal.alarm(0)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return outcome(record, process.returncode, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)
