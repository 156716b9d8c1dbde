"""Runs one network in a process of its own, so that a crash, a leak or an endless loop costs one row."""

import multiprocessing
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def isolated(work: Callable[[], Row], seconds: float, gibibytes: float) -> Row:
    """What `work` returns, with the process's time and peak memory; or `{"error": ...}` where the process was lost.

    Args:
        work: run in a fork: what is imported already need not be imported again.
        seconds: limit on wall-clock time.
        gibibytes: limit on address space.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    arguments = (work, int(gibibytes * 2**30), sender)
    process = multiprocessing.get_context("fork").Process(target=_child, args=arguments)
    with warnings.catch_warnings():
        # Python 3.12 warns of threads at a fork; those of OpenBLAS, which are idle here.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    sender.close()
    row: Row = {"error": f"stopped after {seconds:g} s"}
    try:
        if receiver.poll(seconds):
            row = receiver.recv()
    except EOFError:
        process.join()
        row = {"error": f"the process ended with exit code {process.exitcode}"}
    finally:
        process.kill()
        process.join()
    return row


def _child(work: Callable[[], Row], memory: int, pipe: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  # until the process ends
    warnings.simplefilter("ignore")
    begun = time.perf_counter()
    row = work()
    row["process_seconds"] = round(time.perf_counter() - begun, 2)
    row["process_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    pipe.send(row)
