"""Where samples come from: files of NumPy, folders of pictures, CSV, COCO, built-in sets, functions in Python files."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from profiler.errors import DataError, ModelError
from quant.data import npz
from quant.data.coco import open_coco
from quant.data.columns import is_column
from quant.data.digits import digits, digits_ink
from quant.data.folders import open_folder
from quant.data.images import ENDINGS
from quant.data.npy import MAGIC
from quant.data.options import Options
from quant.data.samples import Samples
from quant.data.tables import ENDINGS as TABLES
from quant.data.tables import open_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from quant.data.columns import Column
    from quant.data.preprocessing import Preprocessing

    _Opener = Callable[[str, str, Options], Samples]

BUILT_IN: Mapping[str, Callable[[str], Samples]] = {"digits": digits, "digits-ink": digits_ink}
LABELS = "y"
FURTHER = f"{LABELS}."

# What NumPy raises where a value makes no array.
_NO_ARRAY = (OSError, ValueError, TypeError, RuntimeError, MemoryError)


def open_data(source: Any, *, split: str, options: Options = Options()) -> Samples:  # noqa: ANN401, B008  # frozen
    """Samples from whatever the user has.

    Args:
        source: an .npz file (one array per model input by its name, or `x`; labels in `y`, further ones in `y.NAME`),
            an .npy file of inputs, a folder of pictures by class, a .csv of paths and labels, a COCO .json of boxes, a
            built-in set, `FILE.py:function`, or in scripts: `Samples`, a mapping of arrays, a pair (x, y), or an array
            of inputs. Anything with a shape, a dtype of NumPy's, a length and `[slice]` does for an array, and is read
            a batch at a time.
        split: which part of a built-in set: "calibration" or "evaluation".
        options: how pictures are prepared and what is done about those that cannot be read, from `data_options`.

    Raises:
        DataError: missing, unreadable, or not of a form that is known.
        RefusedError: a path or a link leads out of its folder, or a file asks for too much.
        UsageError: pictures, and nothing says how they are prepared.
    """
    if isinstance(source, str | Path):
        return _opened(str(source), split, options)
    return as_samples(source, "the data given")


def _opened(source: str, split: str, options: Options) -> Samples:
    for recognized, opener in _KINDS:
        if recognized(source):
            return opener(source, split, options)
    raise DataError(f"{source}: no such file, and no built-in set of that name (there is {', '.join(BUILT_IN)})")


def _arrays(opener: Callable[[str, str], Samples]) -> _Opener:
    """What opens arrays, which are fed to the model as they are."""

    def opened(source: str, split: str, options: Options) -> Samples:
        samples = opener(source, split)
        if options.preprocessing is None:
            return samples
        note = f"{source}: holds arrays, which are taken as they are; --preprocess is for pictures"
        return replace(samples, notes=(*samples.notes, note))

    return opened


def _pictures(opener: Callable[[Path, str, Preprocessing, Options], Samples]) -> _Opener:
    """What opens pictures, which are prepared first."""

    def opened(source: str, _split: str, options: Options) -> Samples:
        preprocessing, note = options.for_pictures(source)
        with _opening(source):
            samples = opener(Path(source).expanduser(), source, preprocessing, options)
        return replace(samples, notes=(note, *samples.notes))

    return opened


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


def _from_npz(source: str, _split: str) -> Samples:
    with _opening(source):
        arrays = npz.open_npz(Path(source).expanduser(), source)
    return as_samples(arrays, source)


def _from_npy(source: str, _split: str) -> Samples:
    with _opening(source):
        return as_samples({"x": npz.open_npy(Path(source).expanduser(), source)}, source)


def _from_picture(source: str, _split: str) -> Samples:
    raise DataError(f"{source}: is one picture; name the folder that it is in, with a sub-folder for each class")


@contextmanager
def _opening(source: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{source}: cannot be read: {error.strerror or error}") from error


@contextmanager
def _reading(what: str) -> Iterator[None]:
    try:
        yield
    except _NO_ARRAY as error:
        raise DataError(f"{what}: cannot be read: {error}") from error


def _is_npy(source: str) -> bool:
    path = Path(source).expanduser()
    if not path.is_file():
        return False
    with _opening(source), path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _ends(*endings: str) -> Callable[[str], bool]:
    """Text files have no mark of their own: they are told by their endings."""
    return lambda source: source.lower().endswith(endings) and Path(source).expanduser().is_file()


# What recognizes a kind of source -> what opens it; the first that does.
_KINDS: tuple[tuple[Callable[[str], bool], _Opener], ...] = (
    (lambda source: source in BUILT_IN, _arrays(_from_built_in)),
    (lambda source: ".py:" in source, _arrays(_from_function)),
    (lambda source: source.endswith(".py"), _arrays(_from_script)),
    (lambda source: Path(source).expanduser().is_dir(), _pictures(open_folder)),
    (_ends(*TABLES), _pictures(open_table)),
    (_ends(".json"), _pictures(open_coco)),
    (_ends(*ENDINGS), _arrays(_from_picture)),
    (_is_npy, _arrays(_from_npy)),
    (lambda source: Path(source).expanduser().is_file(), _arrays(_from_npz)),
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
    elif is_column(value):
        value = {"x": value}
    if not isinstance(value, Mapping):
        raise DataError(f"{name}: gave a {type(value).__name__}; wanted arrays by name, a pair (x, y), or Samples")
    columns: dict[str, Column] = {}
    for key, array in value.items():
        if key == LABELS and array is None:
            continue
        with _reading(f"{name}: array {key!r}"):
            columns[key] = array if is_column(array) else np.asarray(array)
    labels = columns.pop(LABELS, None)
    further = {key.removeprefix(FURTHER): columns.pop(key) for key in list(columns) if str(key).startswith(FURTHER)}
    return Samples(columns, labels, name, further=further)
