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
    if _streams(path):
        if not os.access(path, os.W_OK):
            raise UsageError(f"{path}: is not writable")
        return path
    folder = _place(path).parent
    if not folder.is_dir():
        raise UsageError(f"{path}: the folder {folder} does not exist; create it first")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"{path}: the folder {folder} is not writable")
    return path


def write_whole(path: str | Path, content: str | bytes) -> Path:
    """Write a file beside its place and move it there.

    What is no regular file (/dev/null, /dev/stdout, a named pipe) is written to as it is: replacing a device by a file,
    as root may, breaks the machine for everybody. A symbolic link stays one; the file that it names is written.

    Raises:
        UsageError: as `check_writable`.
    """
    path = check_writable(path)
    data = content.encode() if isinstance(content, str) else content
    if _streams(path):
        with path.open("wb") as stream:
            stream.write(data)
        return path
    place = _place(path)
    handle, temporary = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)  # mkstemp makes files that only their owner may read
        Path(temporary).replace(place)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def _streams(path: Path) -> bool:
    """Whether something is there that is neither a file nor a folder."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _place(path: Path) -> Path:
    """Where the file itself is or will be: a symbolic link followed, any other path as it was given."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path
