"""Mutated files by the thousand: none may crash the interpreter, hang, or end in anything but an error of ours.

    python tests/corpus fuzz --count 20000 --seed 0

Each file is made from its seed and number alone, so `--only KIND:NUMBER` makes a single one again and shows what
becomes of it. Files run in forked children, some hundreds each, with an alarm for every file and a limit on memory; a
child that dies is followed by another one, which goes on behind the file that killed it.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import unicodedata
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from .mutate import mutated
from .seeds import Files, seeds
from .server import warm_up

SECONDS = 10
MEMORY = 1 << 30  # bytes beyond what the parent has
BATCH = 200
OPENED = "opened"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one file.

    Attributes:
        kind: of the seed.
        number: of the mutation.
        how: "opened", "refused", "cannot be used", or what went wrong: "ended by -11", "ValueError at file:line".
        text: the message, or the end of the traceback.
        fine: whether it may end so.
        seconds: it took.
        digest: of the files.
    """

    kind: str
    number: int
    how: str
    text: str
    fine: bool
    seconds: float
    digest: str = ""


def files_of(kind: str, number: int, seed: int, valid: dict[str, Files]) -> Files:
    """The mutated files of that number; number -1 is the valid one."""
    if number < 0:
        return valid[kind]
    return mutated(random.Random(f"{seed}/{kind}/{number}"), kind, valid)


def write(files: Files, folder: Path) -> Path:
    """Write them; the one to be opened."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder / next(iter(files))


def profile(path: Path) -> tuple[str, str, bool]:
    """What `profile FILE` makes of it: (how, text, fine). Other counters are left out where there is a network."""
    code, out, err = _command("profile", str(path), "--debug", "--check", "none")
    if code == 2 and "holds tensors without an architecture" in err:  # and so takes no --check
        code, out, err = _command("profile", str(path), "--debug")
    traced, _, message = err.rpartition("error: ")
    if code == 0:
        wrong = _controls(out) or ("a traceback beside a report" if "Traceback" in err else "")
        return wrong or OPENED, out[:500] if wrong else "", not wrong
    if code not in (3, 4) or message.startswith("unexpected"):
        return _where(traced, message), err[-1500:], False
    wrong = _controls(message) or ("a long message" if len(message.splitlines()) > 2 or len(message) > 2000 else "")
    return wrong or _ENDS[code], message.strip()[:500], not wrong


_ENDS = {3: "refused", 4: "cannot be used"}


def _command(*arguments: str) -> tuple[int, str, str]:
    """Run the command line here: its exit code and what it says."""
    import cli

    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["cli.py", *arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
            code: object = 0
        except SystemExit as ended:
            code = ended.code
    return code if isinstance(code, int) else int(code is not None), out.getvalue(), err.getvalue()


def _where(traced: str, message: str) -> str:
    """The error and the last line of ours in its traceback."""
    lines = re.findall(r'File ".*/((?:profiler|quant)/[^"]+)", line (\d+)', traced)
    name = message.removeprefix("unexpected ").partition(":")[0].strip()
    return f"{name} at {lines[-1][0]}:{lines[-1][1]}" if lines else name


def _controls(text: str) -> str:
    """What a terminal would obey instead of showing it, "" where there is nothing."""
    found = {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf")}
    return f"control characters {sorted(found)!a}" if found else ""


def _batch(kind: str, numbers: list[int], seed: int, valid: dict[str, Files], pipe: int) -> None:
    """In a child: run the files, a line for each before and after."""
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (taken + MEMORY, taken + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    folder = Path(tempfile.mkdtemp())
    os.chdir(folder)
    for number in numbers:
        files = files_of(kind, number, seed, valid)
        path = write(files, folder)
        os.write(pipe, f"{number}\n".encode())
        signal.alarm(SECONDS)
        start = time.perf_counter()
        how, text, fine = profile(path)
        signal.alarm(0)
        digest = hashlib.sha256(b"".join(files.values())).hexdigest()
        result = Result(kind, number, how, text, fine, round(time.perf_counter() - start, 3), digest)
        os.write(pipe, (json.dumps(asdict(result)) + "\n").encode())
    shutil.rmtree(folder)


def _forked(kind: str, numbers: list[int], seed: int, valid: dict[str, Files]) -> list[Result]:
    """Results of a child; where it dies, the last is the file that killed it."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        code = 70
        try:
            os.close(reading)
            sink = os.open(os.devnull, os.O_WRONLY)
            os.dup2(sink, 2)
            _batch(kind, numbers, seed, valid, writing)
            code = 0
        except BaseException:  # noqa: BLE001  # the harness itself failed
            os.write(writing, json.dumps({"harness": traceback.format_exc()}).encode() + b"\n")
        finally:
            os._exit(code)
    os.close(writing)
    results, begun = [], None
    with os.fdopen(reading) as lines:
        for line in lines:
            told = json.loads(line)
            if isinstance(told, int):
                begun = told
            elif "harness" in told:
                raise RuntimeError(told["harness"])
            else:
                results.append(Result(**told))
                begun = None
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if begun is not None:
        how = f"hung for {SECONDS} s" if code == -signal.SIGALRM else f"ended by {code}"
        results.append(Result(kind, begun, how, "", fine=False, seconds=SECONDS))
    elif code:
        raise RuntimeError(f"a child ended with {code} between files")
    return results


def run(count: int, seed: int, kinds: list[str], start: int = 0) -> list[Result]:
    """Run `count` mutated files over the kinds in turn, and every valid one."""
    warm_up()
    valid = seeds()
    results: list[Result] = []
    each = [count // len(kinds) + (n < count % len(kinds)) for n in range(len(kinds))]
    for kind, many in zip(kinds, each, strict=True):
        left = [-1, *range(start, start + many)]
        while left:
            done = _forked(kind, left[:BATCH], seed, valid)
            results += done
            left = left[len(done) :]
    return results


def summary(results: list[Result]) -> str:
    """Counts by kind, then one reproducer of everything that went wrong."""
    lines = []
    for kind in dict.fromkeys(r.kind for r in results):
        counts = Counter(r.how for r in results if r.kind == kind)
        lines.append(f"{kind:14} " + ", ".join(f"{how} {n:,}" for how, n in counts.most_common()))
    wrong = [r for r in results if not r.fine]
    for how, n in Counter(r.how for r in wrong).most_common():
        first = next(r for r in wrong if r.how == how)
        lines.append(f"\n{n:,} x {how}: --only {first.kind}:{first.number}\n{first.text.strip()}")
    slowest = max(results, key=lambda r: r.seconds)
    lines.append(
        f"\n{len(results):,} files, {sum(r.how == OPENED for r in results):,} opened, {len(wrong):,} went wrong; "
        f"the slowest took {slowest.seconds} s ({slowest.kind}:{slowest.number})"
    )
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """The command; 1 where something went wrong."""
    from .seeds import SEEDS

    parser = argparse.ArgumentParser(prog="python tests/corpus fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="number of the first mutation of each kind")
    parser.add_argument("--kind", action="append", choices=SEEDS, help="only this kind; repeat")
    parser.add_argument("--only", metavar="KIND:NUMBER", help="make one file in the working directory and profile it")
    parser.add_argument("--report", type=Path, help="write all results there, as JSON")
    asked = parser.parse_args(arguments)
    if asked.only:
        kind, _, number = asked.only.partition(":")
        path = write(files_of(kind, int(number), asked.seed, seeds()), Path.cwd())
        how, text, fine = profile(path)
        print(f"{path}: {how}\n{text}")  # noqa: T201  # a script
        return int(not fine)
    results = run(asked.count, asked.seed, asked.kind or list(SEEDS), asked.start)
    print(summary(results))  # noqa: T201  # a script
    if asked.report:
        asked.report.write_text(json.dumps([asdict(r) for r in results]))
    return int(any(not r.fine for r in results))
