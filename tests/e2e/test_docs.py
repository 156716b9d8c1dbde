"""Every command and snippet in README.md and docs/ runs, in a copy of what they need."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "models" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MAKES_DATA = "data.md"  # its first snippet makes what its commands take
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page, language):
    return [body for kind, body in BLOCK.findall(page.read_text()) if kind == language]


def commands():
    for page in PAGES:
        for body in blocks(page, "sh"):
            # The two set-up lines install; they are run by CI, which is made of them.
            lines = [line for line in body.splitlines() if line.startswith("python cli.py")]
            if lines:
                yield pytest.param(page, lines, id=f"{page.name}: {lines[0][:40]}")


def snippets():
    for page in PAGES:
        for number, body in enumerate(blocks(page, "python")):
            yield pytest.param(body, id=f"{page.name} {number}")


@pytest.fixture
def folder(tmp_path):
    """A folder that looks like the checkout, so that nothing is written into the real one."""
    for name in ("cli.py", "profiler", "quant", "models"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.parametrize(("page", "lines"), list(commands()))
def test_commands(page, lines, folder):
    if page.name == MAKES_DATA:
        test_snippets(blocks(page, "python")[0], folder)
    for line in lines:
        timed = any(word in line for word in (" quantize", " compare"))
        quick = ["--seconds", "0.5", *(["--no-cold"] if page.name != "latency.md" else [])] if timed else []
        arguments = [sys.executable, *shlex.split(line)[1:], *quick]
        done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() or "wrote" in done.stderr


@pytest.mark.parametrize("body", list(snippets()))
def test_snippets(body, folder):
    code = body.replace("seconds=2", "seconds=0.5")
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_ci_runs_what_the_readme_says():
    second = next(body for body in blocks(ROOT / "README.md", "sh") if "pytest" in body).strip()
    script = (ROOT / ".ci" / "run").read_text()
    assert second in script
    assert shutil.which("bash")
