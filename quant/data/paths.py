"""Paths that a file or a folder names: they stay in their folder, links included, unless the user trusts it."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath, PureWindowsPath

from profiler.errors import RefusedError


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
    if "\0" in name:
        raise RefusedError(f"{what}: a path holds a NUL; refused")
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
