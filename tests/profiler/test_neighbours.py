"""Classes that pickles name, within one process: each file's own are found, and nobody else's imports change."""

import builtins
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from profiler import open_model
from profiler.errors import ModelError
from profiler.sources import neighbours
from profiler.sources.neighbours import Neighbours, source_of


@pytest.fixture(autouse=True)
def imports_as_before(monkeypatch):
    monkeypatch.setattr(builtins, "__import__", builtins.__import__)
    monkeypatch.setattr(neighbours, "_folders", set())
    path, modules = sys.path.copy(), sys.modules.copy()
    yield
    sys.path[:] = path
    for name in sys.modules.keys() - modules.keys():
        del sys.modules[name]


def saved(folder, package, marker):
    """A pickled module whose class lies in a package of that name, and whose forward imports from it."""
    (folder / package).mkdir(parents=True)
    (folder / package / "net.py").write_text(
        "import torch\nclass Net(torch.nn.Linear):\n    def forward(self, x):\n"
        f"        import beside\n        from {package}.late import MARK\n        return beside.MARK + MARK\n"
    )
    (folder / package / "late.py").write_text(f"MARK = {marker!r}")
    (folder / "beside.py").write_text(f"MARK = {marker!r}")
    # Its author has no netgauge, whose `profiler` would be found before a folder without __init__.py.
    own = f"import sys, types; sys.modules['{package}'] = m = types.ModuleType('{package}'); m.__path__ = ['{package}']"
    code = f"{own}; import torch; from {package}.net import Net; torch.save(Net(1, 1), 'net.pt')"
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, check=True)
    return folder / "net.pt"


@pytest.mark.parametrize("package", ["models", "profiler"])
def test_two_files_whose_packages_have_the_same_name(package, tmp_path):
    one, two = (saved(tmp_path / name, package, name) for name in ("one", "two"))
    ours = sys.modules.get("profiler")
    first, second, again = (open_model(path, trust=True).module for path in (one, two, one))
    # `beside` is in sys.modules of the first folder by then: the second one's code still gets its own.
    assert [model(None) for model in (first, second, again, first)] == ["oneone", "twotwo", "oneone", "oneone"]
    assert sys.modules.get("profiler") is ours
    assert importlib.import_module("profiler.errors").ModelError is ModelError


def test_netgauges_own_imports_never_come_from_there(tmp_path, monkeypatch):
    path = saved(tmp_path, "models", "x")
    text = (tmp_path / "models/net.py").read_text()
    (tmp_path / "models/net.py").write_text(f"import graphlib\n{text.replace('beside', 'graphlib')}")
    (tmp_path / "graphlib.py").write_text("MARK = 'theirs'")
    monkeypatch.delitem(sys.modules, "graphlib", raising=False)
    module = open_model(path, trust=True).module
    import graphlib

    assert graphlib.TopologicalSorter
    assert module(None) == "theirsx"
    assert str(tmp_path) not in sys.path


def test_folders_go_up_to_one_that_anybody_may_write_to(tmp_path):
    shared = tmp_path / "shared"
    (shared / "a/b").mkdir(parents=True)
    shared.chmod(0o777)
    assert Neighbours(shared / "a/b/m.pt").folders == (shared / "a/b", shared / "a", Path.cwd())


@pytest.mark.parametrize("module", ["..net", "/etc/net", "a b", "", "net/../net"])
def test_names_that_are_no_modules_are_not_looked_for(module, tmp_path):
    (tmp_path / "net.py").touch()
    assert source_of("net", tmp_path) == tmp_path / "net.py"
    assert source_of(module, tmp_path) is None


def test_a_package_named_as_ours_is_loaded_once(tmp_path):
    path = saved(tmp_path, "profiler", "x")
    (tmp_path / "profiler/__init__.py").write_text(
        "import pathlib; p = pathlib.Path('loads'); p.write_text((p.read_text() if p.exists() else '') + 'x')"
    )
    text = (tmp_path / "profiler/net.py").read_text()
    (tmp_path / "profiler/net.py").write_text(f"from profiler import late\n{text}")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert open_model(path, trust=True).module(None) == "xx"
    assert (tmp_path / "loads").read_text() == "x"
