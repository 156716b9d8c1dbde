"""A folder of pictures: a sub-folder for each class, or pictures without labels."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import DataError, RefusedError
from quant.data.classes import numbered, read_classes
from quant.data.images import ENDINGS, Pictures
from quant.data.paths import checked_link, root_of
from quant.data.samples import Samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quant.data.options import Options
    from quant.data.preprocessing import Preprocessing

CLASSES = "classes.txt"
_EVERY = 1000  # files between two words about progress
_DEEPEST = 32


def open_folder(root: Path, name: str, preprocessing: Preprocessing, options: Options) -> Samples:
    """Samples from a folder: `CLASS/.../FILE`, classes by their folders' names, files in sorted order.

    Pictures that lie in the folder itself, where it has no sub-folder with pictures, are samples without labels.

    Raises:
        DataError: no pictures, some beside the folders of classes, or a class that has no number.
        RefusedError: a link that leads out of the folder.
    """
    root = root_of(root, name)
    files, others = [], Counter[str]()
    for file in _files(root, root, name, options, depth=0):
        if PurePath(file).suffix.lower() in ENDINGS:
            files.append(file)
            if len(files) % _EVERY == 0:
                options.progress(f"listing {name}", None)
        elif file != CLASSES:
            others[PurePath(file).suffix.lower() or "no ending"] += 1
    if not files:
        raise DataError(f"{name}: no pictures in this folder (endings read: {' '.join(sorted(ENDINGS))})")
    files.sort(key=lambda file: PurePath(file).parts)
    notes = []
    if others:
        what = ", ".join(f"{ending} ({count})" for ending, count in others.most_common(5))
        notes.append(f"{name}: left out {others.total()} files that are no pictures by their ending: {what}")
    labels, classes, note = _labels(root, files, name, options)
    pictures = Pictures(name, root, files, preprocessing, strict=options.strict, trust=options.trust)
    task = None if labels is None else "classification"
    return Samples({"x": pictures}, labels, name, task, notes=(*notes, note), classes=classes)  # type: ignore[arg-type]  # a literal


def _labels(root: Path, files: list[str], name: str, options: Options) -> tuple[np.ndarray | None, int | None, str]:
    """Labels, the number of classes where it was found here, and a note."""
    folders = [PurePath(file).parts[0] if len(PurePath(file).parts) > 1 else None for file in files]
    known = set(folders)
    if known == {None}:
        return None, None, f"{name}: {len(files)} pictures and no folders of classes: samples without labels"
    if None in known:
        stray = files[folders.index(None)]
        raise DataError(
            f"{name}: {folders.count(None)} pictures, such as {stray}, lie beside the folders of classes; move "
            "them into one"
        )
    classes = options.classes or (root / CLASSES if (root / CLASSES).is_file() else None)
    given = None if classes is None else read_classes(Path(classes))
    numbers, note = numbered({folder for folder in folders if folder}, given, name)
    found = np.array([numbers[folder] for folder in folders if folder], np.int64)
    return found, len(numbers) if given is None else None, note


def _files(root: Path, folder: Path, name: str, options: Options, *, depth: int) -> Iterator[str]:
    """Paths of the regular files below a folder, relative to the root; hidden ones are left out."""
    if depth > _DEEPEST:
        raise DataError(f"{name}: has folders more than {_DEEPEST} deep, such as {folder.relative_to(root)}")
    try:
        with os.scandir(folder) as listing:
            entries = list(listing)
    except OSError as error:
        raise DataError(f"{name}: {folder} cannot be listed: {error.strerror}") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_symlink() and not options.trust:
            checked_link(root, Path(entry.path), name)
            if entry.is_dir():
                raise RefusedError(f"{name}: {entry.path} is a link to a folder; --trust follows it")
        if entry.is_dir():
            yield from _files(root, Path(entry.path), name, options, depth=depth + 1)
        elif entry.is_file():
            yield os.path.relpath(entry.path, root)
