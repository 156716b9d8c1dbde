"""Zip files written by torch.save: whole modules of stock classes, state dicts, nested checkpoints."""

from pathlib import Path

from profiler.sources.archive import open_archive
from profiler.sources.limits import DEFAULT, Limits
from profiler.sources.opcodes import read_symbolically
from profiler.sources.opened import OpenedModel
from profiler.sources.saved import open_saved
from profiler.sources.stored import Stored


def open_torch_zip(path: Path, *, trust: bool = False, limits: Limits = DEFAULT) -> OpenedModel:
    """Open a zip file written by torch.save.

    Raises:
        RefusedError: it would have to run code, or breaks one of the rules in `checkpoint`.
        ModelError: it is damaged.
    """
    return open_saved(path, read_zip, limits, trust=trust)


def read_zip(path: Path, limits: Limits = DEFAULT) -> Stored:
    """What a zip file of torch.save stores.

    Raises:
        RefusedError: no honest tool writes it, or it asks for too much.
        ModelError: it is damaged.
    """
    archive = open_archive(path, limits)
    tree, names = read_symbolically(archive.read("data.pkl"), str(path), limits)
    return Stored(path, tree, names, archive.regions("data/"), limits, big_endian=archive.big_endian)
