"""What runs or follows a model file is called in one module only, by whatever name it is called.

Lint bans these names; this looks for what lint does not see, too: aliases of modules, `import_module`, `getattr` with a
constant, `vars(module)[...]`.
"""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOADERS = ROOT / "profiler" / "sources" / "_loaders.py"
CODE = sorted([*ROOT.glob("profiler/**/*.py"), *ROOT.glob("quant/**/*.py"), ROOT / "cli.py"])
LINT = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
BANNED = LINT["flake8-tidy-imports"]["banned-api"]
# Methods, which lint cannot tell by the name of a module: banned on whatever they are called.
METHODS = {"register_custom_ops_library", "load_library", "load_pickle", "extractall", "find_class", "persistent_load"}


class _Names(ast.NodeVisitor):
    """Every dotted name in a file that leads to a module, with aliases undone."""

    def __init__(self) -> None:
        self.local: dict[str, str] = {}
        self.found: list[tuple[int, str]] = []

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.local[alias.asname or alias.name.partition(".")[0]] = (
                alias.name if alias.asname else alias.name.partition(".")[0]
            )
            self.found.append((node.lineno, alias.name))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            self.local[alias.asname or alias.name] = full
            self.found.append((node.lineno, full))

    def visit_Assign(self, node: ast.Assign) -> None:
        name = self.dotted(node.value)
        if name:
            for target in node.targets:
                if isinstance(target, ast.Name):
                    self.local[target.id] = name
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._note(node)

    def visit_Name(self, node: ast.Name) -> None:
        self._note(node)

    def visit_Call(self, node: ast.Call) -> None:
        self._note(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self._note(node)

    def _note(self, node: ast.expr) -> None:
        name = self.dotted(node)
        if name:
            self.found.append((node.lineno, name))
        elif isinstance(node, ast.Attribute):
            self.found.append((node.lineno, f"?.{node.attr}"))
        self.generic_visit(node)

    def dotted(self, node: ast.AST) -> str:
        """The name that an expression stands for, "" where it is none."""
        if isinstance(node, ast.Name):
            return self.local.get(node.id, "")
        if isinstance(node, ast.Attribute):
            base = self.dotted(node.value)
            return f"{base}.{node.attr}" if base else ""
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            return self._member(node.value, node.slice.value)
        if isinstance(node, ast.Call):
            return self._called(node)
        return ""

    def _member(self, node: ast.expr, key: object) -> str:
        """`vars(module)["name"]`, `module.__dict__["name"]`, `sys.modules["name"]`."""
        if self.dotted(node) == "sys.modules":
            return str(key)
        if isinstance(node, ast.Attribute) and node.attr == "__dict__":
            base = self.dotted(node.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "vars" and node.args:
            base = self.dotted(node.args[0])
        else:
            return ""
        return f"{base}.{key}" if base else ""

    def _called(self, node: ast.Call) -> str:
        constants = [a.value if isinstance(a, ast.Constant) else None for a in node.args]
        function = self.dotted(node.func) or (node.func.id if isinstance(node.func, ast.Name) else "")
        if function in ("importlib.import_module", "__import__") and constants and isinstance(constants[0], str):
            return constants[0]
        if function == "getattr" and len(constants) > 1 and isinstance(constants[1], str):
            base = self.dotted(node.args[0])
            return f"{base}.{constants[1]}" if base else ""
        return ""


def names_in(text: str) -> list[tuple[int, str]]:
    """Line and dotted name."""
    names = _Names()
    tree = ast.parse(text)
    for node in ast.walk(tree):  # aliases first: functions use what is imported below them, too
        if isinstance(node, ast.Import | ast.ImportFrom):
            names.visit(node)
    names.visit(tree)
    return sorted(set(names.found))


def banned_in(text: str) -> list[str]:
    """Banned names in a piece of code."""
    found = []
    for line, name in names_in(text):
        inside = any(name == ban or name.startswith(f"{ban}.") for ban in BANNED)
        if inside or name.rpartition(".")[2] in METHODS:
            found.append(f"{line}: {name}")
    return found + _unpickling_numpy(text)


def _unpickling_numpy(text: str) -> list[str]:
    """`numpy.load` without an explicit `allow_pickle=False`."""
    names = _Names()
    tree = ast.parse(text)
    names.visit(tree)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and names.dotted(node.func) in ("numpy.load", "numpy.lib.format.read_array"):
            said = [k.value for k in node.keywords if k.arg == "allow_pickle"]
            if not (said and isinstance(said[0], ast.Constant) and said[0].value is False):
                found.append(f"{node.lineno}: numpy.load without allow_pickle=False")
    return found


@pytest.mark.parametrize("path", CODE, ids=lambda p: str(p.relative_to(ROOT)))
def test_loaders_are_called_in_one_module(path):
    found = banned_in(path.read_text())
    if path == LOADERS:
        assert found, "this is the module that calls them"
    else:
        assert not found


# Ways to write it: the search above has to see each of them.
WAYS = [
    "import torch\ntorch.load('x')",
    "import torch as t\nt.load('x')",
    "from torch import load\nload('x')",
    "from torch import load as read\nread('x')",
    "import torch.serialization\ntorch.serialization.load('x')",
    "from torch import serialization as s\ns.load('x')",
    "import torch\nread = torch.load\nread('x')",
    "import torch\nt = torch\nt.load('x')",
    "import torch\ngetattr(torch, 'load')('x')",
    "import torch\nvars(torch)['load']('x')",
    "import torch\ntorch.__dict__['load']('x')",
    "import sys\nsys.modules['torch'].load('x')",
    "import importlib\nimportlib.import_module('torch').load('x')",
    "from importlib import import_module\nimport_module('pickle')",
    "from importlib import import_module as i\ni('torch.serialization').load('x')",
    "__import__('pickle').loads(b'')",
    "def f():\n    import pickle\n    return pickle",
    "import pickle as p",
    "from pickle import loads",
    "import _pickle",
    "import dill",
    "import cloudpickle",
    "import shelve",
    "import marshal",
    "import joblib\njoblib.load('x')",
    "import torch\ntorch.jit.load('x')",
    "from torch.jit import load",
    "from torch import jit\njit.load('x')",
    "import torch.export as e\ne.load('x')",
    "from torch.export.pt2_archive import load_pt2",
    "import torch\ntorch.hub.load('a', 'b')",
    "import torch.package",
    "import torch\ntorch.package.PackageImporter('x')",
    "import torch\ntorch.storage._load_from_bytes(b'')",
    "import torch\ntorch.ops.load_library('x')",
    "import torch\ntorch.classes.load_library('x')",
    "import torch\ntorch._inductor.aoti_load_package('x')",
    "from torch.utils import model_dump",
    "import onnx\nonnx.load('x')",
    "import onnx\nonnx.load_model('x')",
    "import onnx\nonnx.load_model_from_string(b'')",
    "import onnx\nonnx.load_from_string(b'')",
    "from onnx.external_data_helper import load_external_data_for_model",
    "import onnx\nonnx.hub.load('x')",
    "import onnx_ir as ir\nir.load('x')",
    "from onnx.reference import ReferenceEvaluator",
    "options.register_custom_ops_library('x')",
    "import onnxruntime as ort\no = ort.SessionOptions()\no.register_custom_ops_library('x')",
    "import numpy as np\nnp.load('x')",
    "import numpy as np\nnp.load('x', allow_pickle=True)",
    "from numpy import load\nload('x', allow_pickle=flag)",
    "import yaml\nyaml.load('x')",
    "import yaml\nyaml.unsafe_load('x')",
    "import pandas\npandas.read_pickle('x')",
    "archive.extractall('x')",
]


@pytest.mark.parametrize("text", WAYS)
def test_the_search_sees(text):
    assert banned_in(text)


@pytest.mark.parametrize(
    "text",
    [
        "import torch\ntorch.zeros(1)",
        "import numpy as np\nnp.load('x', allow_pickle=False)",
        "import json\njson.load(f)",
        "import torch\nmodel.load_state_dict({})",
        "pickle = 1\nprint(pickle)",
        "import tomllib\ntomllib.load(f)",
    ],
)
def test_the_search_lets_pass(text):
    assert not banned_in(text)


# What lint does not see.
HIDDEN = (
    "getattr",
    "vars(",
    "__dict__",
    "sys.modules",
    "import_module",
    "__import__",
    "= torch",
    "options.",
    "Options()",
)
UNBANNED = ("np.load", "numpy", "extractall")
LINTED = [text for text in WAYS if not any(words in text for words in (*HIDDEN, *UNBANNED))]


@pytest.mark.parametrize("text", LINTED)
def test_lint_refuses(text, tmp_path):
    """The table in pyproject.toml is one that ruff understands."""
    from importlib.util import find_spec

    if find_spec("ruff") is None:
        pytest.skip("ruff is not installed")
    path = tmp_path / "code.py"
    path.write_text(text)
    config = ["--config", str(ROOT / "pyproject.toml"), "--select", "TID251"]
    command = [sys.executable, "-m", "ruff", "check", *config, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "TID251" in done.stdout, done.stdout + done.stderr


def test_only_the_loaders_may_do_without():
    free = [path for path, rules in LINT["per-file-ignores"].items() if "TID251" in rules or "TID" in rules]
    assert free == ["profiler/sources/_loaders.py", "tests/*"]


@pytest.mark.parametrize("path", [p for p in CODE if p != LOADERS], ids=lambda p: str(p.relative_to(ROOT)))
def test_nobody_waves_the_ban(path):
    assert "noqa: TID" not in path.read_text()
    assert "ruff: noqa" not in path.read_text()
