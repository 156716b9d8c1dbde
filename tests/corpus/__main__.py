"""`python tests/corpus ...`: see the package."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _serve(_arguments: list[str]) -> int:
    from corpus.server import serve

    serve()
    return 0


def _run(arguments: list[str]) -> int:
    """TARGET RECORD ARGUMENT...: the command line under observation."""
    from corpus.server import limit
    from corpus.watch import inside

    limit(110)
    target, record, *rest = arguments
    return inside(rest, Path(target), Path(record), at_once=False)


def _make(arguments: list[str]) -> int:
    """FOLDER [NAME ...]: the files themselves, each in a folder of its own."""
    from corpus.case import Scene
    from corpus.catalogue import CASES, HARMLESS

    folder, *names = arguments
    for name, case in {**CASES, **HARMLESS}.items():
        if not names or name in names:
            scene = Scene(Path(folder).resolve() / name.replace("/", "_").replace("\0", "")).set_up()
            print(case.make(scene))  # noqa: T201  # a script
    return 0


def _fuzz(arguments: list[str]) -> int:
    from corpus.fuzz import main

    return main(arguments)


if __name__ == "__main__":
    # The folder of this file is no place to import from; its parent is, behind what is installed.
    sys.path[:1] = [str(ROOT)]
    sys.path.append(str(ROOT / "tests"))
    tasks = {"serve": _serve, "run": _run, "make": _make, "fuzz": _fuzz}
    task, *rest = sys.argv[1:] or ["help"]
    if task not in tasks:
        sys.exit(f"python tests/corpus {'|'.join(tasks)} ...")
    sys.exit(tasks[task](rest))
