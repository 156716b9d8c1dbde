"""The promises that docs/architecture.md and CONTRIBUTING.md make about the code, checked on the code."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = sorted([*ROOT.glob("profiler/**/*.py"), *ROOT.glob("quant/**/*.py"), ROOT / "cli.py"])
LONGEST = 320


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("path", CODE, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_small_and_described(path):
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST
    assert not text.strip() or ast.get_docstring(ast.parse(text))


def test_the_profiler_does_not_import_quant():
    guilty = [p for p in CODE if p.is_relative_to(ROOT / "profiler") for name in imports(p) if name.startswith("quant")]
    assert not guilty


def test_nothing_imports_the_reference_networks():
    assert not [p for p in CODE for name in imports(p) if name.partition(".")[0] in ("models", "cli", "tests")]


def test_formulas_need_neither_torch_nor_onnx():
    guilty = [p for p in CODE if "formulas" in p.parts for name in imports(p) if name.startswith(("torch", "onnx"))]
    assert not guilty


def test_few_modules_import_onnxruntime():
    guilty = {p.name for p in CODE for name in imports(p) if name.partition(".")[0] == "onnxruntime"}
    assert guilty <= {"installation.py", "runtime.py", "session_options.py", "_runtime_errors.py"}


def test_every_formula_has_its_section():
    from profiler.aten import OPERATORS

    sections = set(re.findall(r"^## (.+)$", (ROOT / "docs" / "formulas.md").read_text(), re.MULTILINE))
    assert {op.formula for op in OPERATORS.values()} <= sections


def test_every_operator_of_the_table_is_one_of_torchs():
    import torch

    from profiler.aten import OPERATORS

    unknown = [n for n in OPERATORS if not hasattr(torch.ops.aten, n.removeprefix("aten."))]
    assert not unknown


def test_public_names_are_there_and_lazy():
    code = (
        "import sys, profiler, quant\n"
        "assert 'torch' not in sys.modules and 'onnxruntime' not in sys.modules\n"
        "assert all(hasattr(profiler, n) for n in profiler.__all__)\n"
        "assert all(hasattr(quant, n) for n in quant.__all__)\n"
        "from quant import *\n"
        "assert all(callable(globals()[n]) for n in quant.__all__), 'a module in the place of a function'\n"
        "assert profiler.analyzer.analyze is profiler.analyze\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_help_does_not_import_torch():
    code = "import sys, cli\nsys.argv = ['cli.py', '--help']\ntry:\n    cli.main()\nexcept SystemExit:\n    pass\n"
    code += "assert not {'torch', 'onnx', 'onnxruntime', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
