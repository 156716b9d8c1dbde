"""Users' Python files: their neighbours are found, and neither their modules nor ours are mixed up."""

import importlib
import sys

import pytest

from profiler import open_model
from profiler.errors import ModelError
from profiler.sources.pyfile import load_attribute


@pytest.fixture(autouse=True)
def imports_as_before():
    path, modules = sys.path.copy(), sys.modules.copy()
    yield
    sys.path[:] = path
    for name in sys.modules.keys() - modules.keys():
        del sys.modules[name]


@pytest.fixture
def write(tmp_path):
    def write(name, text=""):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def test_neighbours_are_found_and_the_path_is_as_before(write):
    write("helper.py", "VALUE = 7")
    path = sys.path.copy()
    assert load_attribute(f"{write('net.py', 'from helper import VALUE')}:VALUE") == 7
    assert sys.path == path


@pytest.mark.parametrize("marker", ["__init__.py", "nothing.txt"], ids=["package", "namespace package"])
def test_two_folders_with_a_package_of_the_same_name(write, marker):
    for folder in ("one", "two"):
        write(f"{folder}/models/{marker}")
        write(f"{folder}/models/net.py", f"NAME = {folder!r}")
        write(f"{folder}/file.py", "from models.net import NAME")
    one, two = (write(f"{folder}/file.py", "from models.net import NAME") for folder in ("one", "two"))
    assert [load_attribute(f"{path}:NAME") for path in (one, two, one)] == ["one", "two", "one"]


@pytest.mark.parametrize("package", ["quant", "profiler"])
def test_a_users_package_named_as_ours(write, package):
    ours = {name: sys.modules[name] for name in list(sys.modules) if name.partition(".")[0] == package}
    write(f"{package}/__init__.py", "VALUE = 'theirs'")
    path = write("file.py", f"import {package}\nVALUE = {package}.VALUE\n")
    assert load_attribute(f"{path}:VALUE") == "theirs"
    assert load_attribute(f"{path}:VALUE") == "theirs"
    kept = {name: sys.modules[name] for name in list(sys.modules) if name.partition(".")[0] == package}
    assert kept == ours


@pytest.mark.parametrize("package", ["quant", "profiler"])
def test_a_users_folder_of_files_named_as_our_package_hides_nothing(write, package):
    write(f"{package}/results.csv")
    path = write("file.py", f"import {package}\nMODULE = {package}\n")
    assert load_attribute(f"{path}:MODULE") is sys.modules[package]


def test_each_load_runs_the_file_anew_under_a_name_of_its_own(write):
    path = write("net.py", "class Net: pass")
    first, second = load_attribute(f"{path}:Net"), load_attribute(f"{path}:Net")
    assert first is not second
    assert first.__module__ != second.__module__
    assert "net" not in sys.modules


def test_dataclasses_find_their_module(write):
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass C:\n    a: int\n"
    assert load_attribute(f"{write('net.py', text)}:C")(1).a == 1


WRONG = {
    "raises": ("x = 1\ndef f():\n    return y\nf()\n", r"net\.py, line 3: NameError: name 'y'"),
    "syntax": ("x = 1\nx = = 2\n", r"net\.py, line 2: SyntaxError"),
    "syntax of a neighbour": ("x = 1\n\nimport broken\n", r"net\.py, line 3: SyntaxError: .*broken\.py, line 1"),
    "exits": ("import sys\nsys.exit(3)\n", r"net\.py, line 2: SystemExit: 3"),
    "other name": ("def other(): pass\n", r"net\.py: defines no 'build'; it defines other$"),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_file_is_named(write, text, message):
    write("broken.py", "def (")
    with pytest.raises(ModelError, match=message):
        load_attribute(f"{write('net.py', text)}:build")


@pytest.mark.parametrize("spec", ["net.py", "net.py:", "net.py:a b", "net.txt:build"])
def test_malformed_names(spec):
    with pytest.raises(ModelError, match=r"write FILE\.py:name"):
        load_attribute(spec)


def test_missing_file(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        load_attribute(f"{tmp_path}/net.py:build")


def test_a_package_that_somebody_else_has_imported_stays_theirs(write, monkeypatch):
    write("elsewhere/models/net.py", "NAME = 'elsewhere'")
    monkeypatch.syspath_prepend(str(write("elsewhere/other.py", "").parent))
    theirs = importlib.import_module("models.net")
    write("mine/models/net.py", "NAME = 'mine'")
    assert load_attribute(f"{write('mine/file.py', 'from models.net import NAME')}:NAME") == "mine"
    assert sys.modules["models.net"] is theirs


@pytest.mark.parametrize("marker", ["__init__.py", "nothing.txt"], ids=["package", "namespace package"])
def test_a_file_of_a_package_imports_with_a_dot(write, marker):
    write(f"models/{marker}")
    write("models/blocks.py", "WIDTH = 5")
    assert load_attribute(f"{write('models/net.py', 'from .blocks import WIDTH')}:WIDTH") == 5


def test_a_package_of_the_current_folder_is_found(write, monkeypatch):
    write("models/blocks.py", "from torch import nn\nlayer = nn.Linear(2, 3)")
    folder = write("models/net.py", "from .blocks import layer").parent.parent
    monkeypatch.chdir(folder)
    assert open_model("models.net:layer").module.out_features == 3
