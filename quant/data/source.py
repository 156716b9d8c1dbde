"""Where samples come from: an .npz file, a built-in set, or a function in a Python file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from profiler.errors import DataError, ModelError
from quant.data.digits import digits, digits_ink
from quant.data.samples import Samples

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BUILT_IN: Mapping[str, Callable[[str], Samples]] = {"digits": digits, "digits-ink": digits_ink}
LABELS = "y"


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
    if source in BUILT_IN:
        return BUILT_IN[source](split)
    if ".py:" in source:
        return _from_function(source)
    path = Path(source).expanduser()
    if path.is_dir():
        raise DataError(
            f"{source}: is a folder, which is not read yet; put the pictures into an .npz with x and y, or write "
            "FILE.py:function"
        )
    if not path.exists():
        raise DataError(f"{source}: no such file, and no built-in set of that name (there is {', '.join(BUILT_IN)})")
    return _from_npz(path)


def _from_npz(path: Path) -> Samples:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, TypeError, AttributeError, EOFError, BadZipFile) as error:
        raise DataError(f"{path}: is no .npz file of plain arrays ({error})") from error
    return as_samples(arrays, str(path))


def _from_function(source: str) -> Samples:
    from profiler.sources.pyfile import folder_on_path, load_attribute, split_spec

    try:
        function = load_attribute(source)
    except ModelError as error:
        raise DataError(str(error)) from error
    try:
        with folder_on_path(split_spec(source)[0].parent):
            value = function()
    except Exception as error:
        raise DataError(f"{source}: the function failed: {type(error).__name__}: {error}") from error
    return as_samples(value, source)


def as_samples(value: Any, name: str) -> Samples:  # noqa: ANN401  # see open_data
    """Samples from arrays in one of the forms that `open_data` lists.

    Raises:
        DataError: none of them.
    """
    if isinstance(value, Samples):
        return value
    if isinstance(value, tuple) and len(value) == 2:
        return Samples({"x": np.asarray(value[0])}, np.asarray(value[1]), name)
    if isinstance(value, np.ndarray):
        return Samples({"x": value}, None, name)
    if isinstance(value, dict):
        arrays = {key: np.asarray(array) for key, array in value.items()}
        labels = arrays.pop(LABELS, None)
        return Samples(arrays, labels, name)
    raise DataError(f"{name}: gave a {type(value).__name__}; wanted arrays by name, a pair (x, y), or Samples")
