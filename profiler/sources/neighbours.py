"""Classes that a trusted pickle names: found beside the file, and able to import their neighbours afterwards.

A pickle names a class by module and name, `models.net.Net`, and Python would look for the module wherever it looks for
its own. The author's module lies near the file instead: in its folder, in one above it, or in the current folder. Once
it is loaded its functions may import more; what code in such a folder imports is looked for there first, while
netgauge's own imports never are: a `utils.py`, a `models` or a `quant` of the user's is in nobody's way.
"""

import builtins
import importlib
import re
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import all_suffixes
from pathlib import Path
from typing import Any

from profiler.errors import ModelError
from profiler.sources.pyfile import comes_first, folder_on_path, is_contested, line_of

MOST_SCRIPTS, MOST_SCRIPT_BYTES = 200, 1 << 20
_folders: set[Path] = set()  # whose code was loaded for a pickle
_python_import = builtins.__import__


class Neighbours:
    """What the names in one pickle stand for.

    Attributes:
        file: that holds the pickle.
        folders: where modules are looked for, in this order; after them wherever Python looks.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.folders = _around(file.absolute().parent)

    def find(self, module: str, name: str, find: Callable[[str, str], Any]) -> Any:  # noqa: ANN401  # whatever is named
        """What the pickle calls `module.name`.

        Args:
            module: its dotted name.
            name: of the class or function in it.
            find: the unpickler's own way, which imports the module by its name.

        Raises:
            ModelError: there is no such module, it raises, or it does not define the name.
        """
        found = next((folder for folder in self.folders if source_of(module, folder)), None)
        source = source_of(module, found) if found else None
        try:
            if found is None or source is None or _is_loaded(module, source, found):
                return find(module, name)
            with importable(found, module):
                importlib.import_module(module)
                return find(module, name)
        except ModuleNotFoundError as error:
            if error.name and f"{module}.".startswith(f"{error.name}."):
                raise ModelError(self._missing(module, name)) from error
            raise ModelError(self._failed(module, name, source, error)) from error
        except AttributeError as error:
            if module == "__main__":
                raise ModelError(self._of_a_script(name)) from error
            raise ModelError(self._failed(module, name, source, error)) from error
        except (Exception, SystemExit) as error:
            raise ModelError(self._failed(module, name, source, error)) from error

    def _missing(self, module: str, name: str) -> str:
        searched = ", ".join(map(str, self.folders[:4])) + (", ..." if len(self.folders) > 4 else "")
        return (
            f"{self.file}: needs {module}.{name}, and there is no module {module} in {searched} nor among the "
            "installed packages; run netgauge in the folder that has it, or install it"
        )

    def _failed(self, module: str, name: str, source: Path | None, error: BaseException) -> str:
        where = f" ({source}{line_of(error, source)})" if source else ""
        return f"{self.file}: needs {module}.{name}{where}: {type(error).__name__}: {error}"

    def _of_a_script(self, name: str) -> str:
        defines = re.compile(rf"^(class|def) {re.escape(name.partition('.')[0])}\b", re.MULTILINE)
        scripts = [path.name for path in _scripts(self.folders[0]) if defines.search(_text(path))]
        defined = "define one each" if scripts[1:] else "defines one"
        hint = f" ({', '.join(scripts[:3])} beside it {defined})" if scripts else ""
        return (
            f"{self.file}: {name} was saved by the script that defines it, as __main__.{name}, which does not say "
            f"which script that was{hint}. Name it as {scripts[0] if len(scripts) == 1 else 'FILE.py'}:{name}, with "
            "--weights for a state_dict saved from it"
        )


def source_of(module: str, folder: Path) -> Path | None:
    """The file that a dotted module name stands for below a folder, None where there is none."""
    parts = module.split(".")
    if not all(part.isidentifier() for part in parts):
        return None
    path = folder.joinpath(*parts)
    candidates = [p for s in all_suffixes() for p in (path / f"__init__{s}", path.with_name(path.name + s))]
    with suppress(OSError):  # a folder that is not ours to look into
        return next((p for p in candidates if p.is_file()), None)
    return None


@contextmanager
def importable(folder: Path, module: str) -> Iterator[None]:
    """The folder's own `module` is the one of that name meanwhile; its code finds its neighbours from now on."""
    folder = folder.resolve()
    _folders.add(folder)
    if builtins.__import__ is not _import:
        builtins.__import__ = _import
    standard = {name for name in sys.stdlib_module_names - set(sys.modules) if source_of(name, folder)}
    with folder_on_path(folder, frozenset({module.partition(".")[0], *standard})):
        yield


def _around(folder: Path) -> tuple[Path, ...]:
    """The folder, those above it, the current one. One that anybody may write to ends the way up."""
    places = [folder]
    for above in folder.parents:
        with suppress(OSError):
            if above.stat().st_mode & stat.S_IWOTH:
                break
        places.append(above)
    with suppress(OSError):
        places.append(Path.cwd())
    return tuple(dict.fromkeys(places))


def _is_loaded(module: str, source: Path, folder: Path) -> bool:
    """Whether that module is in sys.modules and is not another one of the same name."""
    known = sys.modules.get(module)
    if known is None:
        return False
    file = getattr(known, "__file__", None)
    return (bool(file) and Path(str(file)).resolve() == source.resolve()) or not is_contested(module, folder.resolve())


def _import(
    name: str,
    globals: Mapping[str, object] | None = None,  # noqa: A002  # as Python calls it
    locals: Mapping[str, object] | None = None,  # noqa: A002  # as Python calls it
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> Any:  # noqa: ANN401  # a module
    """`import` as a statement calls it; for code in one of the folders that folder comes first."""
    folder = _folder_of(globals)
    if folder is not None and globals is not None and not comes_first(folder):
        package = str(globals.get("__package__") or "")
        wanted = name if level == 0 else f"{package}.{name}"
        top = wanted.partition(".")[0]
        if top not in sys.modules or is_contested(top, folder):
            own = frozenset({top}) if level or source_of(wanted, folder) else frozenset[str]()
            with folder_on_path(folder, own):
                return _python_import(name, globals, locals, fromlist or (), level)
    return _python_import(name, globals, locals, fromlist or (), level)


def _folder_of(globals_: Mapping[str, object] | None) -> Path | None:
    """The folder from which the module with these globals was loaded, where it is one of ours to look in."""
    file, name = (globals_.get("__file__"), globals_.get("__name__")) if globals_ else (None, None)
    if not isinstance(file, str) or not isinstance(name, str):
        return None
    parents = Path(file).parents
    depth = name.count(".") + Path(file).name.startswith("__init__.")
    return parents[depth] if depth < len(parents) and parents[depth] in _folders else None


def _scripts(folder: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(folder.glob("*.py"))[:MOST_SCRIPTS]
    return []


def _text(path: Path) -> str:
    with suppress(OSError):
        if path.stat().st_size <= MOST_SCRIPT_BYTES:
            return path.read_text(errors="replace")
    return ""
