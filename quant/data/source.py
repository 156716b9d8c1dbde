"""Where samples come from: an .npz file, a built-in set, or a function in a Python file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from profiler.errors import DataError, ModelError
from quant.data.digits import digits, digits_ink
from quant.data.samples import Samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BUILT_IN: Mapping[str, Callable[[str], Samples]] = {"digits": digits, "digits-ink": digits_ink}
LABELS = "y"

# What NumPy, zipfile and zlib raise over damaged files: bad headers, checksums, compression methods, absurd sizes.
_UNREADABLE = (OSError, ValueError, TypeError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)


def open_data(source: Any, *, split: str) -> Samples:  # noqa: ANN401  # every form that data comes in
    """Samples from whatever the user has.

    Args:
        source: an .npz file (one array per model input by its name, or `x`; labels in `y`), a built-in set,
            `FILE.py:function`, or in scripts: `Samples`, a mapping of arrays, a pair (x, y), or an array of inputs.
        split: which part of a built-in set: "calibration" or "evaluation".

    Raises:
        DataError: missing, unreadable, or not of a form that is known.
    """
    if isinstance(source, str | Path):
        return _opened(str(source), split)
    return as_samples(source, "the data given")


def _opened(source: str, split: str) -> Samples:
    for recognized, opener in _KINDS:
        if recognized(source):
            return opener(source, split)
    raise DataError(f"{source}: no such file, and no built-in set of that name (there is {', '.join(BUILT_IN)})")


def _from_built_in(source: str, split: str) -> Samples:
    return BUILT_IN[source](split)


def _from_function(source: str, _split: str) -> Samples:
    from profiler.sources.pyfile import folder_on_path, load_attribute, split_spec

    try:
        function = load_attribute(source)
    except ModelError as error:
        raise DataError(str(error)) from error
    try:
        with folder_on_path(split_spec(source)[0].parent):
            value = function()
    except (Exception, SystemExit) as error:
        raise DataError(f"{source}: the function failed: {type(error).__name__}: {error}") from error
    return as_samples(value, source)


def _from_script(source: str, _split: str) -> Samples:
    raise DataError(f"{source}: name the function that returns the data, too: {source}:FUNCTION")


def _from_folder(source: str, _split: str) -> Samples:
    raise DataError(
        f"{source}: is a folder, and folders of images are not read yet. Save the pictures as the model takes them:\n"
        "np.savez('data.npz', x=pictures, y=labels), or name a function of yours that returns them: FILE.py:FUNCTION"
    )


def _from_npz(source: str, _split: str) -> Samples:
    path = Path(source).expanduser()
    if not zipfile.is_zipfile(path):
        raise DataError(f"{source}: is no .npz file; write one with np.savez(FILE, x=inputs, y=labels)")
    arrays = {}
    with _reading(source), np.load(path, allow_pickle=False) as file:
        for name in file.files:
            with _reading(f"{source}: array {name!r}"):
                arrays[name] = file[name]
    return as_samples(arrays, source)


@contextmanager
def _reading(what: str) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        raise DataError(f"{what}: cannot be read: {error}") from error


# What recognizes a kind of source -> what opens it; the first that does.
_KINDS: tuple[tuple[Callable[[str], bool], Callable[[str, str], Samples]], ...] = (
    (lambda source: source in BUILT_IN, _from_built_in),
    (lambda source: ".py:" in source, _from_function),
    (lambda source: source.endswith(".py"), _from_script),
    (lambda source: Path(source).expanduser().is_dir(), _from_folder),
    (lambda source: Path(source).expanduser().is_file(), _from_npz),
)


def as_samples(value: Any, name: str) -> Samples:  # noqa: ANN401  # see open_data
    """Samples from arrays in one of the forms that `open_data` lists.

    Raises:
        DataError: none of them.
    """
    if isinstance(value, Samples):
        return value
    if isinstance(value, tuple) and len(value) == 2:
        value = {"x": value[0], LABELS: value[1]}
    elif isinstance(value, np.ndarray):
        value = {"x": value}
    if not isinstance(value, Mapping):
        raise DataError(f"{name}: gave a {type(value).__name__}; wanted arrays by name, a pair (x, y), or Samples")
    arrays = {}
    for key, array in value.items():
        if key == LABELS and array is None:
            continue
        with _reading(f"{name}: array {key!r}"):
            arrays[key] = np.asarray(array)
    labels = arrays.pop(LABELS, None)
    return Samples(arrays, labels, name)
