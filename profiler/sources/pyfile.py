"""Python files that the user names: `FILE.py:name`. Naming one is consent to run it."""

import importlib.util
import itertools
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from profiler.errors import ModelError

_serial = itertools.count()


@contextmanager
def folder_on_path(folder: Path) -> Iterator[None]:
    """The file's folder comes first on sys.path meanwhile, so that it finds its neighbours.

    Our own modules are loaded by now or found behind it: a folder with a `models` or a `quant` of its own keeps it.
    """
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)


def split_spec(spec: str) -> tuple[Path, str]:
    """File and name of `FILE.py:name`.

    Raises:
        ModelError: no such file, or no name.
    """
    file, _, name = spec.rpartition(":")
    path = Path(file).expanduser()
    if not name.isidentifier() or path.suffix != ".py":
        raise ModelError(f"{spec}: write FILE.py:name, the name of a function or module in that file")
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    return path.resolve(), name


def load_attribute(spec: str) -> Any:  # noqa: ANN401  # whatever the user defined
    """What `FILE.py:name` stands for, after running the file under a private module name.

    Raises:
        ModelError: no such file or name, or the file raised; the message gives the line.
    """
    path, name = split_spec(spec)
    module_name = f"_netgauge_user_{next(_serial)}_{path.stem}"
    found = importlib.util.spec_from_file_location(module_name, path)
    if found is None or found.loader is None:
        raise ModelError(f"{path}: Python cannot load it")
    module = importlib.util.module_from_spec(found)
    sys.modules[module_name] = module  # dataclasses and pickles look their own module up
    try:
        with folder_on_path(path.parent):
            found.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise ModelError(f"{path}{_line(error, path)}: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise ModelError(f"{path}: defines no {name!r}{_others(module)}")
    return getattr(module, name)


def _line(error: BaseException, path: Path) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if isinstance(error, SyntaxError):
        lines = [error.lineno]
    return f", line {lines[-1]}" if lines else ""


def _others(module: Any) -> str:  # noqa: ANN401  # a module
    own = [n for n, v in vars(module).items() if getattr(v, "__module__", None) == module.__name__]
    return f"; it defines {', '.join(own[:8])}" if own else ""
