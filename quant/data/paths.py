"""Paths that a file or a folder names: they stay in their folder, links included, unless the user trusts it."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath, PureWindowsPath

from profiler.errors import DataError, RefusedError


def root_of(folder: str | Path, name: str) -> Path:
    """A folder of pictures, links followed.

    Raises:
        DataError: there is none.
    """
    root = Path(os.path.realpath(Path(folder).expanduser()))
    if not root.is_dir():
        raise DataError(f"{folder}: no such folder, where {name} should have its pictures")
    return root


def inside(root: Path, name: str, what: str, *, trust: bool) -> Path:
    """The file that a path in a data file means.

    Args:
        root: the folder that paths are relative to, links followed.
        name: the path as it is written.
        what: the file that names it, and where, for messages.
        trust: take any path.

    Raises:
        RefusedError: it leads out of the folder.
    """
    try:
        hostile = b"\0" in os.fsencode(name)
    except UnicodeEncodeError:
        hostile = True
    if hostile:
        raise RefusedError(f"{what}: the path {name[:80]!r} is none that a file can have; refused")
    if trust:
        return root / name
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or name.startswith(("/", "\\"))
    if absolute or ".." in PurePosixPath(name.replace("\\", "/")).parts:
        raise RefusedError(
            f"{what}: the path {name} leads out of {root}; --trust takes it, --images FOLDER names another"
        )
    return checked_link(root, root / name, what)


def checked_link(root: Path, path: Path, what: str) -> Path:
    """A path below a folder, refused where a link in it leads out of the folder.

    Raises:
        RefusedError: it does.
    """
    if not Path(os.path.realpath(path)).is_relative_to(root):
        raise RefusedError(f"{what}: {path} is a link that leads out of {root}; --trust follows it")
    return path
