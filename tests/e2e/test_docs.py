"""Every command and snippet in README.md and docs/ runs, in a copy of what they need."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
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


@pytest.fixture(scope="module")
def done(request, tmp_path_factory):
    """From a block to how it ended. All that were selected run, two at a time: they mostly wait for clocks."""
    asked = [item for item in request.session.items if item.function in (test_commands, test_snippets)]
    with ThreadPoolExecutor(2) as pool:
        running = {item.callspec.id: pool.submit(ended, item, tmp_path_factory.mktemp("docs")) for item in asked}
        yield lambda node: running[node.callspec.id].result()
        for future in running.values():
            future.cancel()


def ended(item, folder):
    """What a block's commands or its snippet gave, in a folder that looks like the checkout."""
    for name in ("cli.py", "profiler", "quant", "models"):
        (folder / name).symlink_to(ROOT / name)
    values = item.callspec.params
    if item.function is test_snippets:
        return [snippet(values["body"], folder)]
    page, lines = values["page"], values["lines"]
    made = [snippet(blocks(page, "python")[0], folder)] if page.name == MAKES_DATA else []
    return [*made, *(command(page, line, folder) for line in lines)]


def command(page, line, folder):
    timed = any(word in line for word in (" quantize", " compare"))
    quick = ["--seconds", "0.5", *(["--no-cold"] if page.name != "latency.md" else [])] if timed else []
    arguments = [sys.executable, *shlex.split(line)[1:], *quick]
    return subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)


def snippet(body, folder):
    code = body.replace("seconds=2", "seconds=0.5")
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    arguments = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("page", "lines"), list(commands()))
def test_commands(page, lines, done, request):
    for process in done(request.node):
        assert process.returncode == 0, process.stderr
        assert process.stdout.strip() or "wrote" in process.stderr


@pytest.mark.parametrize("body", list(snippets()))
def test_snippets(body, done, request):
    (process,) = done(request.node)
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip()


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_ci_runs_what_the_readme_says():
    second = next(body for body in blocks(ROOT / "README.md", "sh") if "pytest" in body).strip()
    script = (ROOT / ".ci" / "run").read_text()
    assert second in script
    assert shutil.which("bash")
