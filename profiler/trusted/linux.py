"""What Linux can take from a process, by ctypes: Python offers it from 3.12 on, or not at all."""

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_CAPABILITY_VERSION_3 = 0x20080522
HERE = sys.platform == "linux"


def die_with_parent(parent: int) -> None:
    """Be killed when the process `parent` ends, which has to be the one that started this one."""
    if HERE:
        _called("prctl", _PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it ended before it was asked for
            os.kill(os.getpid(), signal.SIGKILL)


def no_new_privileges() -> None:
    """Programs that this process starts gain no rights: neither setuid nor file capabilities count.

    Raises:
        OSError: the system does not allow it.
    """
    _called("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def leave_network() -> None:
    """Move to a network namespace without devices. Only for a process that has one thread.

    Raises:
        OSError: the system does not allow it.
    """
    try:
        _called("unshare", _CLONE_NEWNET)
    except OSError:
        # A user namespace of one user would keep root from the files of all others.
        if not HERE or os.geteuid() == 0 or not _succeeds_in_a_fork():
            raise
        _leave_with_user()


def _leave_with_user() -> None:
    """The same by way of a user namespace, in which the user and the group stay who they are."""
    user, group = os.geteuid(), os.getegid()
    _called("unshare", _CLONE_NEWUSER | _CLONE_NEWNET)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    _drop_capabilities()


def _succeeds_in_a_fork() -> bool:
    """Whether all steps are allowed; a process that is left between them would have no user."""
    process = os.fork()
    if process == 0:
        try:
            _leave_with_user()
        except BaseException:  # noqa: BLE001  # a fork must not return into its parent's code
            os._exit(1)
        os._exit(0)
    return os.waitpid(process, 0)[1] == 0


def _drop_capabilities() -> None:
    """Give back the rights that came with the user namespace."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _called("capset", header, (ctypes.c_uint32 * 6)())


def _called(name: str, *arguments: Any) -> None:  # noqa: ANN401  # what ctypes takes
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None) if HERE else None
    if function is None:
        raise OSError(0, f"this system has no {name}")
    if function(*(ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
