"""Python files that the user names: `FILE.py:name`. Naming one is consent to run it."""

import ast
import importlib.util
import itertools
import pkgutil
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from profiler.errors import ModelError

_OURS = frozenset({"profiler", "quant", "cli", "netgauge"})
_OUR_FOLDER = Path(__file__).resolve().parents[2]

_serial = itertools.count()
_owners: dict[str, Path] = {}  # top-level name in sys.modules -> the user's folder that it was loaded from
_first: list[Path] = []  # folders that come first on sys.path now, the last one before the others
_set_aside: dict[Path, dict[str, ModuleType]] = {}  # folder -> its modules whose names belong to somebody else outside


@contextmanager
def folder_on_path(folder: Path, names: frozenset[str] = frozenset()) -> Iterator[None]:
    """The folder comes first on sys.path meanwhile, so that its code finds its neighbours.

    Where it has a `quant` of its own, or a `models` as another user's folder had, its code gets its own; afterwards the
    name stands again for what it stood for before.

    Args:
        folder: the user's.
        names: top-level names that are the folder's own, also where that is a folder without __init__.py, or where the
            standard library has a module of that name.
    """
    folder = folder.resolve()
    present = _present(folder)
    contested = _contested(folder, present) | {n for n in names if n in sys.modules and not _lies_in(n, folder)}
    contested |= {name.partition(".")[0] for name in _set_aside.get(folder, {})} | names & sys.stdlib_module_names
    others = _taken_out(contested)
    sys.modules.update(_set_aside.pop(folder, {}))
    before = set(sys.modules)
    importlib.invalidate_caches()  # the folder may have changed since it was last here
    sys.modules.update({n: _namespace(n, folder) for n in names - before if not _regular(n, folder)})
    sys.path.insert(0, str(folder))
    _first.append(folder)
    try:
        yield
    finally:
        _first.pop()
        with suppress(ValueError):  # the code may have rearranged the path
            sys.path.remove(str(folder))
        _set_aside.setdefault(folder, {}).update(_taken_out(contested))
        sys.modules.update(others)
        for name in present & (set(sys.modules) - before - set(others)):
            _owners[name] = folder


def comes_first(folder: Path) -> bool:
    """Whether the folder comes first on sys.path now, and its modules stand under their names."""
    return _first[-1:] == [folder]


def is_contested(module: str, folder: Path) -> bool:
    """Whether a module's top-level name means another one to the folder's code than it does outside."""
    top = module.partition(".")[0]
    own = top in _set_aside.get(folder, {}) or _owners.get(top, folder) != folder
    own = own or (top in sys.modules and top not in _OURS and _somebody_elses(top, folder))
    return own or (top in _OURS and folder != _OUR_FOLDER and (folder / top).is_dir())


def _present(folder: Path) -> set[str]:
    """Names that code in the folder may import from it; a folder without __init__.py may be a package, too."""
    modules = {module.name for module in pkgutil.iter_modules([str(folder)])}
    return modules | {path.name for path in folder.iterdir() if path.is_dir()}


def _contested(folder: Path, present: set[str]) -> set[str]:
    """Top-level names that mean one module to the folder's code and another one outside."""
    # A folder without __init__.py does not hide a package that is installed.
    regular = {module.name for module in pkgutil.iter_modules([str(folder)])}
    ours = set() if folder == _OUR_FOLDER else regular & _OURS
    return ours | {name for name in present - _OURS if name in sys.modules and _somebody_elses(name, folder)}


def _somebody_elses(name: str, folder: Path) -> bool:
    """Whether the loaded module of that name is neither the folder's nor an installed one, which everybody means."""
    owner = _owners.get(name)
    return owner != folder if owner else not (_lies_in(name, folder) or _is_installed(name))


def _is_installed(name: str) -> bool:
    file = getattr(sys.modules[name], "__file__", None)
    if file is None:  # built in, or a folder without __init__.py
        return not hasattr(sys.modules[name], "__path__")
    return any(Path(file).is_relative_to(place) for place in _installed())


@cache
def _installed() -> tuple[str, ...]:
    """Where Python's own modules and installed packages lie."""
    return tuple({sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")})


def _lies_in(name: str, folder: Path) -> bool:
    """Whether the top-level module of that name was loaded from the folder."""
    module = sys.modules[name]
    places = [Path(str(place)).parent for place in getattr(module, "__path__", ())]
    file = getattr(module, "__file__", None)
    places += [Path(file).parent] if file and not places else []
    return folder in [place.resolve() for place in places]


def _regular(name: str, folder: Path) -> bool:
    """Whether Python takes the name from this folder, whatever else there is of that name."""
    return any(module.name == name for module in pkgutil.iter_modules([str(folder)]))


def _namespace(name: str, folder: Path) -> ModuleType:
    """A package without __init__.py that has no parts elsewhere."""
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [str(folder / name)]
    return importlib.util.module_from_spec(spec)


def _taken_out(names: set[str]) -> dict[str, ModuleType]:
    """Remove these modules and what is inside them from sys.modules, and return them."""
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in names}


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
    try:
        try:
            module = _run(path)
        except ImportError as error:
            if "no known parent package" not in str(error):
                raise
            module = _run_in_its_package(path)
    except (Exception, SystemExit) as error:
        raise ModelError(f"{path}{line_of(error, path)}: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise ModelError(f"{path}: defines no {name!r}{_others(module)}")
    return getattr(module, name)


def _run(path: Path) -> ModuleType:
    """The module of a file, under a private name."""
    name = f"_netgauge_user_{next(_serial)}_{path.stem}"
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise ModelError(f"{path}: Python cannot load it")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses and pickles look their own module up
    try:
        with folder_on_path(path.parent):
            found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _run_in_its_package(path: Path) -> ModuleType:
    """The module of a file that imports what lies beside it with a dot: its folder is a package."""
    folder, parts = path.parent.parent, [path.parent.name, path.stem]
    while (folder / "__init__.py").is_file():
        folder, parts = folder.parent, [folder.name, *parts]
    with folder_on_path(folder, frozenset(parts[:1])):
        return importlib.import_module(".".join(parts))


def line_of(error: BaseException, path: Path) -> str:
    """Where in the file the error arose, as ", line N"; nothing where it was elsewhere."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines = [error.lineno]
    return f", line {lines[-1]}" if lines else ""


def _others(module: Any) -> str:  # noqa: ANN401  # a module
    own = [n for n, v in vars(module).items() if getattr(v, "__module__", None) == module.__name__]
    return f"; it defines {', '.join(own[:8])}" if own else ""


def factories_in(path: Path) -> str:
    """What a Python file defines that may make a model, as the end of a message; found without running the file."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError, OSError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        return f"; it cannot be read as Python{line}"
    names = dict.fromkeys(name for statement in tree.body for name in _made_by(statement) if not name.startswith("_"))
    if not names:
        return "; it defines no function, class or module that could make one"
    more = ", ..." if len(names) > 8 else ""
    return f"; it defines {', '.join(list(names)[:8])}{more}"


def _made_by(statement: ast.stmt) -> list[str]:
    """Names of functions and classes, and of what a call made."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
        return [target.id for target in statement.targets if isinstance(target, ast.Name)]
    return []
