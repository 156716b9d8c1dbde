"""Writing results: a file appears under its name only when it is whole."""

import os
import tempfile
from pathlib import Path

from profiler.errors import UsageError


def check_writable(path: str | Path) -> Path:
    """The path, after making sure that a file could be written there.

    Raises:
        UsageError: the folder does not exist, or the path is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder {path.parent} does not exist; create it first")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"{path}: the folder {path.parent} is not writable")
    return path


def write_whole(path: str | Path, content: str | bytes) -> Path:
    """Write a file beside its place and move it there.

    Raises:
        UsageError: as `check_writable`.
    """
    path = check_writable(path)
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)  # mkstemp makes files that only their owner may read
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
